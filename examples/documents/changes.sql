-- Changes of other kinds, untimed, each compared with the queries: what a trigger of one's own forgets first.

CREATE TABLE documents.changes (step int PRIMARY KEY, change text, statement text);
INSERT INTO documents.changes VALUES
    (1, 'a post with comments and tags, at once', $$
        WITH p AS (INSERT INTO tb_post VALUES (nextval('ids'), 5, 'a new one', 'and its body') RETURNING id),
             t AS (INSERT INTO tb_tag SELECT id, 'new' FROM p)
        SELECT FROM p $$),
    (2, 'comments move to another post', 'UPDATE tb_comment SET post = 12 WHERE post = 11'),
    (3, 'comments change hands', 'UPDATE tb_comment SET author = 6 WHERE post IN (13, 14)'),
    (4, 'a post gets another author', 'UPDATE tb_post SET author = 7 WHERE id = 15'),
    (5, 'comments and a tag are removed', 'WITH t AS (DELETE FROM tb_tag WHERE post = 16) DELETE FROM tb_comment WHERE post = 16 AND id % 2 = 0'),
    (6, 'tags change', $$UPDATE tb_tag SET tag = tag || '!' WHERE post < 20$$),
    (7, 'users who comment are renamed', $$UPDATE tb_user SET name = upper(name) WHERE id IN (4, 5)$$),
    (8, 'posts are removed with all that is theirs', 'DELETE FROM tb_post WHERE id BETWEEN 51 AND 60'),
    (9, 'reviews move to another product', 'UPDATE tb_review SET product = 5 WHERE product = 4'),
    (10, 'the latest reviews are withdrawn', 'DELETE FROM tb_review WHERE id IN (SELECT id FROM tb_review WHERE product = 1 ORDER BY id DESC LIMIT 2)'),
    (11, 'a product comes, one is renamed', $$
        WITH p AS (INSERT INTO tb_product VALUES (1000, 'new')) UPDATE tb_product SET name = 'renamed' WHERE id = 2 $$),
    (12, 'products go', 'DELETE FROM tb_product WHERE id IN (6, 7)');

CREATE PROCEDURE documents.change_otherwise(number int) LANGUAGE plpgsql AS $$
DECLARE
    each record;
    lane text;
BEGIN
    SELECT * INTO STRICT each FROM documents.changes WHERE step = number;
    FOREACH lane IN ARRAY ARRAY['documents_trigger', 'documents_projection'] LOOP
        PERFORM set_config('search_path', lane, false);
        EXECUTE each.statement;
        COMMIT;
    END LOOP;
    BEGIN
        PERFORM documents.check();
    EXCEPTION WHEN OTHERS THEN
        RAISE EXCEPTION 'after "%": %', each.change, SQLERRM;
    END;
    COMMIT;
END $$;
