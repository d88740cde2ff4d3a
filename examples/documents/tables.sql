-- The tables that are written, in the schema that search_path names first, filled with the same rows each time. Sizes come
-- as variables: small, middle, large are the posts of users 1, 2 and 3; others are as many users after them, with ten
-- posts each; few, some, many are the reviews of products 1, 2 and 3.

CREATE TABLE tb_user (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE tb_post (id int PRIMARY KEY, author int NOT NULL, title text NOT NULL, body text NOT NULL);
CREATE TABLE tb_comment (
    id int PRIMARY KEY,
    post int NOT NULL,
    author int NOT NULL,
    body text NOT NULL
);
CREATE TABLE tb_tag (post int, tag text, PRIMARY KEY (post, tag));
CREATE TABLE tb_product (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE tb_review (
    id int PRIMARY KEY,
    product int NOT NULL,
    stars int NOT NULL CHECK (stars BETWEEN 1 AND 5),
    body text NOT NULL
);

-- Posts 1 to 10 * others are those of the other users, and have 20 comments each. The posts of users 1 to 3 come after
-- them, and have two. Users 1 to 3 comment nothing, so that a rename concerns just the posts they wrote. Most users only read.
INSERT INTO tb_user SELECT u, 'user ' || u FROM generate_series(1, 10000) AS u;
INSERT INTO tb_post
    SELECT p, 4 + p % :others, 'post ' || p, repeat('what post ' || p || ' says. ', 10) FROM generate_series(1, 10 * :others) AS p;
INSERT INTO tb_post
    SELECT 10 * :others + n, CASE WHEN n <= :small THEN 1 WHEN n <= :small + :middle THEN 2 ELSE 3 END, 'post ' || n,
           repeat('what post ' || n || ' says. ', 10)
    FROM generate_series(1, :small + :middle + :large) AS n;
INSERT INTO tb_comment
    SELECT row_number() OVER (ORDER BY c, p.id), p.id, 4 + (p.id + c) % :others, 'comment ' || c || ' on ' || p.title
    FROM tb_post AS p, generate_series(1, CASE WHEN p.author > 3 THEN 20 ELSE 2 END) AS c;
INSERT INTO tb_tag SELECT p.id, 'tag ' || (p.id + t) % 10 FROM tb_post AS p, generate_series(1, 2) AS t;

-- Products 4 to 103 have ten reviews each. Reviews of all products come mixed.
INSERT INTO tb_product SELECT p, 'product ' || p FROM generate_series(1, 103) AS p;
INSERT INTO tb_review
    SELECT row_number() OVER (ORDER BY (n * 1.0) / reviews, product), product, 1 + (n * 7 + product) % 5, 'review ' || n
    FROM (VALUES (1, :few), (2, :some), (3, :many)) AS p (product, reviews), generate_series(1, reviews) AS n;
INSERT INTO tb_review
    SELECT :few + :some + :many + n, 4 + n % 100, 1 + n % 5, 'review ' || n FROM generate_series(1, 1000) AS n;

-- After the rows, since they are checked quicker so.
ALTER TABLE tb_post ADD FOREIGN KEY (author) REFERENCES tb_user;
ALTER TABLE tb_comment ADD FOREIGN KEY (post) REFERENCES tb_post ON DELETE CASCADE, ADD FOREIGN KEY (author) REFERENCES tb_user;
ALTER TABLE tb_tag ADD FOREIGN KEY (post) REFERENCES tb_post ON DELETE CASCADE;
ALTER TABLE tb_review ADD FOREIGN KEY (product) REFERENCES tb_product ON DELETE CASCADE;
