-- One transaction of pgbench: a change to one of few posts, users and products, so that sessions meet.
\set kind random(1, 10)
\set turn random(1, 1000000)
\set near random(1, 5)
\if :kind <= 4
SELECT add_comment(:near, :others);
\elif :kind <= 6
SELECT edit_post(:near, :others);
\elif :kind <= 7
SELECT rename_user(:turn, 3 + :near);
\elif :kind <= 9
SELECT add_review(:turn, :near);
\else
DELETE FROM tb_comment WHERE id = (SELECT max(id) FROM tb_comment);
\endif
