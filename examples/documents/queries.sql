-- The documents: a post with its author, tags and comments; a product with its reviews summed up and the three latest.
-- Each lane makes its tables of these same queries: the projection, the materialized view, the trigger and the oracle.

CREATE TABLE documents.queries (name text PRIMARY KEY, query text NOT NULL);

INSERT INTO documents.queries VALUES ('tv_post', $$
    SELECT p.id,
           jsonb_build_object(
               'title', p.title,
               'body', p.body,
               'author', jsonb_build_object('id', a.id, 'name', a.name),
               'tags', coalesce((SELECT jsonb_agg(t.tag ORDER BY t.tag) FROM tb_tag AS t WHERE t.post = p.id), '[]'),
               'comments', coalesce((SELECT jsonb_agg(jsonb_build_object('by', u.name, 'body', c.body) ORDER BY c.id)
                                     FROM tb_comment AS c JOIN tb_user AS u ON u.id = c.author
                                     WHERE c.post = p.id), '[]')) AS data
    FROM tb_post AS p JOIN tb_user AS a ON a.id = p.author
$$), ('tv_product', $$
    SELECT p.id,
           jsonb_build_object(
               'name', p.name,
               'reviews', coalesce(s.reviews, 0),
               'stars', s.stars,
               'latest', coalesce((SELECT jsonb_agg(jsonb_build_object('stars', l.stars, 'body', l.body) ORDER BY l.id DESC)
                                   FROM (SELECT r.id, r.stars, r.body FROM tb_review AS r
                                         WHERE r.product = p.id ORDER BY r.id DESC LIMIT 3) AS l), '[]')) AS data
    FROM tb_product AS p
    LEFT JOIN (SELECT product, count(*) AS reviews, round(avg(stars), 2) AS stars FROM tb_review GROUP BY product) AS s
         ON s.product = p.id
$$);
