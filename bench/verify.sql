-- How many rows the projection lacks or has too many; every definition here returns rows, so an empty one is wrong too.

SELECT count(*) FILTER (WHERE NOT equal) + (count(*) FILTER (WHERE equal) = 0)::int
FROM (SELECT false AS equal FROM (:definition EXCEPT ALL SELECT :columns FROM projection) AS missing
      UNION ALL
      SELECT false FROM (SELECT :columns FROM projection EXCEPT ALL (:definition)) AS extra
      UNION ALL
      SELECT true FROM projection) AS compared;
