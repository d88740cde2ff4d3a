# A dump of the whole database brings back working, equal projections: by pg_dump | psql, by pg_restore, and in parallel.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE source');
$node->safe_psql('source', 'CREATE EXTENSION pg_projections; \i test/oracle.sql');
$node->safe_psql('source', q{
	SET client_min_messages = warning;
	CREATE SCHEMA "Odd schema";
	CREATE TABLE customers (id int PRIMARY KEY, country text);
	CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers, amount numeric(10,2), at timestamptz);
	CREATE TABLE visits (page text);
	INSERT INTO customers SELECT g, 'c' || g % 3 FROM generate_series(1, 20) g;
	INSERT INTO orders SELECT g, 1 + g % 20, g, '2026-01-01'::timestamptz + g * interval '1 day' FROM generate_series(1, 100) g;
	INSERT INTO visits SELECT 'p' || g % 4 FROM generate_series(1, 30) g;
	SELECT projections.create('"Odd schema"."Revenue"', 'SELECT c.country, sum(o.amount) AS revenue, max(o.amount) AS largest FROM orders o JOIN customers c ON c.id = o.customer GROUP BY c.country');
	SELECT projections.create('by_size', 'SELECT revenue > 500 AS large, count(*) AS n FROM "Odd schema"."Revenue" GROUP BY revenue > 500');
	SELECT projections.create('order_countries', 'SELECT o.amount, c.country FROM orders o JOIN customers c ON c.id = o.customer');
	SET timezone = 'Asia/Tokyo';
	SELECT projections.create('monthly', $$SELECT date_trunc('month', at) AS month, avg(amount::float8) AS mean FROM orders GROUP BY 1$$);
	SELECT projections.create('pages', 'SELECT page FROM visits');
	SELECT projections.create('required', 'SELECT page, count(*) AS n FROM visits GROUP BY page', options => '{"key_not_null": true}');
	-- with parts, also two deep
	SELECT projections.create('busy', 'SELECT customer, sum(amount) AS amount FROM orders GROUP BY customer HAVING count(*) > 4');
	SELECT projections.create('large', 'SELECT c.id, c.country, (SELECT count(DISTINCT o.amount) FROM orders o WHERE o.customer = c.id) AS sizes FROM customers c WHERE c.id IN (SELECT customer FROM orders GROUP BY customer HAVING sum(amount) > 200)');
	-- over partitions, one with another order of columns
	CREATE TABLE sales (region text, day date, amount int) PARTITION BY LIST (region);
	CREATE TABLE sales_n PARTITION OF sales FOR VALUES IN ('n');
	CREATE TABLE sales_s (amount int, gone int, day date, region text);
	ALTER TABLE sales_s DROP COLUMN gone;
	ALTER TABLE sales ATTACH PARTITION sales_s FOR VALUES IN ('s');
	INSERT INTO sales SELECT CASE g % 2 WHEN 0 THEN 'n' ELSE 's' END, '2026-01-01'::date + g % 5, g FROM generate_series(1, 20) g;
	SELECT projections.create('days', 'SELECT day, count(*) AS n, sum(amount) AS amount, max(amount) AS largest FROM sales GROUP BY day');
});

my $work = q{
	INSERT INTO customers VALUES (100, 'new');
	INSERT INTO orders VALUES (1000, 100, 77.5, '2026-03-31 23:30+00'), (1001, 1, 600, '2026-02-01');
	UPDATE customers SET country = 'c9' WHERE id < 4;
	DELETE FROM orders WHERE id % 7 = 0;
	INSERT INTO visits VALUES ('p1'), ('p9');
	DELETE FROM visits WHERE page = 'p2';
	UPDATE sales SET region = 's' WHERE amount % 6 = 0;
	INSERT INTO sales_s (region, day, amount) VALUES ('s', '2026-01-02', 100);
	TRUNCATE sales_n;
	CREATE TABLE sales_e PARTITION OF sales FOR VALUES IN ('e');
	INSERT INTO sales VALUES ('e', '2026-01-02', 7), ('n', '2026-01-02', 8);
	ALTER TABLE sales DETACH PARTITION sales_s;
	DROP TABLE sales_n;
};

# The oracle reads definitions under the session's settings; the projection's own are those it was created under.
my $all_equal = q{SET timezone = 'Asia/Tokyo'; SELECT equal FROM test.check_all()};

sub check_restored
{
	my ($database) = @_;
	is($node->safe_psql($database, $all_equal), '9', "$database: equal as restored");
	is($node->safe_psql($database, q{SELECT count(*) FROM projections.status WHERE status <> 'healthy'}), '0', "$database: healthy");
	is($node->safe_psql($database, q{SELECT string_agg(conrelid::regclass::text, ' ' ORDER BY 1) FROM pg_constraint k JOIN projections.definitions d ON d.relation = k.conrelid WHERE k.contype = 'p'}),
		'large required', "$database: with their primary keys");
	my ($refused, $said, $why) = $node->psql($database, q{INSERT INTO visits VALUES (NULL)}, on_error_stop => 1);
	like($why, qr/The key of projection public\.required is \(page\)/, "$database: in which there is no NULL");
	$node->safe_psql($database, $work);
	is($node->safe_psql($database, $all_equal), '9', "$database: equal after changes");
	is($node->safe_psql($database, q{SELECT count(*) FROM projections.definitions d, projections.verify(d.projection)}), '0', "$database: parts are equal, too");
	is($node->safe_psql($database, q{SELECT count(*) FROM projections.validate() WHERE severity = 'ERROR'}), '0', "$database: nothing is missing");
	my ($code, $out, $err) = $node->psql($database, 'DELETE FROM by_size');
	like($err, qr/cannot write projection public.by_size directly/, "$database: guarded");
	$node->safe_psql($database, q{SET client_min_messages = warning; SELECT projections.drop('by_size'); DROP TABLE customers CASCADE});
	is($node->safe_psql($database, q{SELECT string_agg(projection, ' ' ORDER BY projection) FROM projections.definitions}),
		'public.busy public.days public.monthly public.pages public.required', "$database: a dropped source takes its projections along");
	is($node->safe_psql($database, q{SELECT string_agg(DISTINCT part_of::text, ' ') FROM projections_internal.projection WHERE part_of IS NOT NULL}),
		'busy', "$database: and their parts");
}

my $dump = $node->backup_dir . '/plain.sql';
mkdir $node->backup_dir;
$node->command_ok([ 'pg_dump', '-f', $dump, 'source' ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE plain');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'plain', '-f', $dump ], 'restored by psql');
check_restored('plain');

my $directory = $node->backup_dir . '/directory';
$node->command_ok([ 'pg_dump', '-Fd', '-j', '2', '-f', $directory, 'source' ], 'pg_dump in parallel');
$node->safe_psql('postgres', 'CREATE DATABASE parallel');
$node->command_ok([ 'pg_restore', '-j', '2', '-e', '-d', 'parallel', $directory ], 'restored by pg_restore in parallel');
check_restored('parallel');

$node->stop;
done_testing();
