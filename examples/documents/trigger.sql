-- The documents kept by hand: statement triggers that compute again what a change shows in. They are exact under READ
-- COMMITTED with any number of writers, by this rule: lock first, then read. A statement that follows the lock sees all
-- that was committed before it; without the lock, two comments at once would each write a document that lacks the other.
-- Users are locked before posts, so that two writers do not wait for each other.

CREATE TABLE tv_post (id int PRIMARY KEY, data jsonb NOT NULL);
SELECT format('CREATE VIEW post_now AS %s', query) FROM documents.queries WHERE name = 'tv_post' \gexec
INSERT INTO tv_post SELECT id, data FROM post_now;

-- users: those whose names the change brings into documents that a rename under way would not find.
CREATE FUNCTION write_posts(posts int[], users int[] DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF users IS NOT NULL THEN
        PERFORM FROM tb_user WHERE id = ANY (users) ORDER BY id FOR SHARE;
    END IF;
    PERFORM FROM tb_post WHERE id = ANY (posts) ORDER BY id FOR NO KEY UPDATE;
    INSERT INTO tv_post AS d SELECT n.id, n.data FROM post_now AS n WHERE n.id = ANY (posts)
    ON CONFLICT (id) DO UPDATE SET data = excluded.data WHERE d.data IS DISTINCT FROM excluded.data;
END $$;

CREATE FUNCTION comments_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM write_posts(array_agg(post), array_agg(author)) FROM new_rows;
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM write_posts(array_agg(post)) FROM old_rows;
    ELSE
        PERFORM write_posts(array_agg(c.post), array_agg(c.author))
        FROM (SELECT post, author FROM old_rows UNION SELECT post, author FROM new_rows) AS c;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER inserted AFTER INSERT ON tb_comment REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION comments_changed();
CREATE TRIGGER updated AFTER UPDATE ON tb_comment REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION comments_changed();
CREATE TRIGGER deleted AFTER DELETE ON tb_comment REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION comments_changed();

CREATE FUNCTION tags_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM write_posts(array_agg(post)) FROM new_rows;
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM write_posts(array_agg(post)) FROM old_rows;
    ELSE
        PERFORM write_posts(array_agg(t.post)) FROM (SELECT post FROM old_rows UNION SELECT post FROM new_rows) AS t;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER inserted AFTER INSERT ON tb_tag REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tags_changed();
CREATE TRIGGER updated AFTER UPDATE ON tb_tag REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tags_changed();
CREATE TRIGGER deleted AFTER DELETE ON tb_tag REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tags_changed();

CREATE FUNCTION posts_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM write_posts(array_agg(id), array_agg(author)) FROM new_rows;
    ELSIF TG_OP = 'DELETE' THEN
        DELETE FROM tv_post WHERE id IN (SELECT id FROM old_rows);
    ELSE
        PERFORM write_posts(array_agg(n.id), array_agg(n.author) FILTER (WHERE n.author <> o.author))
        FROM new_rows AS n JOIN old_rows AS o USING (id);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER inserted AFTER INSERT ON tb_post REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION posts_changed();
CREATE TRIGGER updated AFTER UPDATE ON tb_post REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION posts_changed();
CREATE TRIGGER deleted AFTER DELETE ON tb_post REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION posts_changed();

-- A user who is new, or about to go, is in no document.
CREATE FUNCTION users_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM write_posts(array_agg(shown.post))
    FROM (SELECT p.id FROM tb_post AS p JOIN new_rows AS u ON u.id = p.author
          UNION SELECT c.post FROM tb_comment AS c JOIN new_rows AS u ON u.id = c.author) AS shown (post);
    RETURN NULL;
END $$;
CREATE TRIGGER updated AFTER UPDATE ON tb_user REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION users_changed();

-- Products. The sum and the count are kept beside the document, so that a review does not read all others.
CREATE TABLE tv_product (id int PRIMARY KEY, data jsonb NOT NULL, reviews bigint NOT NULL, total bigint NOT NULL);
SELECT format('CREATE VIEW product_now AS %s', query) FROM documents.queries WHERE name = 'tv_product' \gexec
INSERT INTO tv_product
    SELECT n.id, n.data, coalesce(s.reviews, 0), coalesce(s.total, 0)
    FROM product_now AS n
    LEFT JOIN (SELECT product, count(*) AS reviews, sum(stars) AS total FROM tb_review GROUP BY product) AS s ON s.product = n.id;

CREATE FUNCTION write_products(products int[], more_reviews bigint[], more_stars bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM tb_product WHERE id = ANY (products) ORDER BY id FOR NO KEY UPDATE;
    UPDATE tv_product AS d SET reviews = d.reviews + c.reviews, total = d.total + c.stars,
        data = jsonb_build_object(
            'name', p.name,
            'reviews', d.reviews + c.reviews,
            'stars', round((d.total + c.stars)::numeric / nullif(d.reviews + c.reviews, 0), 2),
            'latest', coalesce((SELECT jsonb_agg(jsonb_build_object('stars', l.stars, 'body', l.body) ORDER BY l.id DESC)
                                FROM (SELECT r.id, r.stars, r.body FROM tb_review AS r
                                      WHERE r.product = p.id ORDER BY r.id DESC LIMIT 3) AS l), '[]'))
    FROM unnest(products, more_reviews, more_stars) AS c (product, reviews, stars) JOIN tb_product AS p ON p.id = c.product
    WHERE d.id = c.product;
END $$;

CREATE FUNCTION reviews_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM write_products(array_agg(product), array_agg(reviews), array_agg(stars))
        FROM (SELECT product, count(*) AS reviews, sum(stars) AS stars FROM new_rows GROUP BY product) AS c;
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM write_products(array_agg(product), array_agg(reviews), array_agg(stars))
        FROM (SELECT product, -count(*) AS reviews, -sum(stars) AS stars FROM old_rows GROUP BY product) AS c;
    ELSE
        PERFORM write_products(array_agg(product), array_agg(reviews), array_agg(stars))
        FROM (SELECT product, sum(one) AS reviews, sum(one * stars) AS stars
              FROM (SELECT product, stars, -1 FROM old_rows UNION ALL SELECT product, stars, 1 FROM new_rows) AS b (product, stars, one)
              GROUP BY product) AS c;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER inserted AFTER INSERT ON tb_review REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION reviews_changed();
CREATE TRIGGER updated AFTER UPDATE ON tb_review REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION reviews_changed();
CREATE TRIGGER deleted AFTER DELETE ON tb_review REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION reviews_changed();

CREATE FUNCTION products_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        DELETE FROM tv_product WHERE id IN (SELECT id FROM old_rows);
    ELSE
        IF TG_OP = 'INSERT' THEN
            INSERT INTO tv_product SELECT id, '{}', 0, 0 FROM new_rows;
        END IF;
        PERFORM write_products(array_agg(id), array_agg(0::bigint), array_agg(0::bigint)) FROM new_rows;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER inserted AFTER INSERT ON tb_product REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION products_changed();
CREATE TRIGGER updated AFTER UPDATE ON tb_product REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION products_changed();
CREATE TRIGGER deleted AFTER DELETE ON tb_product REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION products_changed();
