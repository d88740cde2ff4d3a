-- What an application writes, as functions in each lane's schema, so that all lanes run the same plans. Ids never change.

CREATE SEQUENCE ids START 10000000;

-- Among the posts of the other users, which have 20 comments each.
CREATE FUNCTION some_post(turn int, others int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT 1 + turn * 7 % (10 * others) $$;

CREATE FUNCTION add_comment(turn int, others int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tb_comment VALUES (nextval('ids'), some_post(turn, others), 4 + turn % others, 'comment of turn ' || turn);
END $$;

CREATE FUNCTION edit_post(turn int, others int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE tb_post SET title = 'edited in turn ' || turn, body = repeat('what is left of it. ', 1 + turn % 10)
    WHERE id = some_post(turn, others);
END $$;

CREATE FUNCTION rename_user(turn int, renamed int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE tb_user SET name = 'user ' || renamed || ', name ' || turn WHERE id = renamed;
END $$;

CREATE FUNCTION add_review(turn int, reviewed int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tb_review VALUES (nextval('ids'), reviewed, 1 + turn % 5, 'review of turn ' || turn);
END $$;

-- The one that was added last.
CREATE FUNCTION correct_review(turn int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE tb_review SET stars = 1 + stars % 5, body = 'corrected in turn ' || turn WHERE id = (SELECT last_value FROM ids);
END $$;

-- What keeps a copy of the document beside it by hand (plain.sql) does it here; the other lanes just add a comment.
CREATE FUNCTION add_comment_and_show(turn int, others int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM add_comment(turn, others);
END $$;
