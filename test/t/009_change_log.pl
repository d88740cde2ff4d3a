# Change logs and workers: a change that is committed after one with a higher number is found without any other change coming;
# a log that is cut where a NaN leaves a sum, which has to be computed anew from a table that is ahead of the log.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'pg_projections'
max_prepared_transactions = 10
pg_projections.poll_interval = 200
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION pg_projections; \i test/oracle.sql');
$node->safe_psql('postgres', q{
	SET client_min_messages = warning;
	CREATE TABLE items (id int PRIMARY KEY, category text, price numeric);
	SELECT projections.create('prices', 'SELECT category, sum(price) AS price, count(*) AS n FROM items GROUP BY category', 'async');
	SELECT projections.create('cut', 'SELECT category, sum(price) AS price, count(*) AS n FROM items GROUP BY category', 'async', options => '{"batch_size": 1}');
	INSERT INTO items VALUES (1, 'tea', 'NaN'), (2, 'tea', 1), (3, 'ale', 'Infinity'), (4, 'ale', 2);
});
my $equal = q{SELECT count(*) = 2 FROM projections.definitions AS d, LATERAL test.oracle(d.relation) AS o WHERE o.missing + o.extra = 0};
ok($node->poll_query_until('postgres', $equal), 'applied');

# A prepared transaction has logged, and drawn the lower number.
$node->safe_psql('postgres', q{BEGIN; INSERT INTO items VALUES (10, 'late', 1); PREPARE TRANSACTION 'late'});
my $log = $node->safe_psql('postgres', q{SELECT changes[1] FROM projections_internal.projection WHERE relation = 'prices'::regclass});
my $late = $node->safe_psql('postgres', "SELECT pg_sequence_last_value(pg_get_serial_sequence('$log', 'change')::regclass)");
$node->safe_psql('postgres', q{INSERT INTO items VALUES (11, 'early', 1)});
ok($node->poll_query_until('postgres', $equal), 'a higher number is applied');
my $position = $node->safe_psql('postgres', q{SELECT position FROM projections_internal.slot WHERE projection = 'prices'::regclass});
cmp_ok($position, '<', $late, 'the checkpoint has not passed the lower number');
$node->safe_psql('postgres', q{COMMIT PREPARED 'late'});
ok($node->poll_query_until('postgres', $equal), 'the lower number is applied later');

# One transaction, so that the log is there as a whole before any of it is consumed.
$node->safe_psql('postgres', q{
	BEGIN;
	DELETE FROM items WHERE id IN (1, 3);
	INSERT INTO items VALUES (5, 'tea', 10), (6, 'tea', 20), (7, 'ale', 30), (8, 'new', 40);
	COMMIT;
});
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM $log"), 'the log is consumed');
ok($node->poll_query_until('postgres', $equal), 'a NaN and an infinity leave in the middle of a log');
is($node->safe_psql('postgres', 'SELECT category, price, n FROM cut ORDER BY category'), "ale|32|2\nearly|1|1\nlate|1|1\nnew|40|1\ntea|31|3", 'nothing is counted twice');

$node->stop;
done_testing();
