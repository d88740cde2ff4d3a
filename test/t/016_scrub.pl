# The scrub: idle workers verify one projection after the other, and mark stale what differs; events go first.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'pg_projections'
pg_projections.poll_interval = '100ms'
pg_projections.workers = 1
max_worker_processes = 12
});
$node->start;
my $worker = q{backend_type = 'pg_projections worker'};
$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_projections;
	SET client_min_messages = warning;
	CREATE TABLE plain (k int, v int);
	INSERT INTO plain SELECT g % 100, g FROM generate_series(1, 1000) g;
	SELECT projections.create('sums', 'SELECT k, sum(v) AS s FROM plain GROUP BY k');
	SELECT projections.create('counts', 'SELECT k, count(*) AS n FROM plain GROUP BY k');
	CREATE TABLE event (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item int NOT NULL, quantity float8 NOT NULL);
	SELECT projections.register_source('event', 'position');
	SELECT projections.create('stock', 'SELECT item, sum(quantity) AS quantity FROM event GROUP BY item', mode => 'async');
	INSERT INTO event (item, quantity) VALUES (1, 0.1), (1, 0.2), (1, -0.3), (2, 1);
});
ok($node->poll_query_until('postgres', 'SELECT count(*) = 2 FROM stock'), 'the worker runs');

# Without its guards, nobody says that a projection was written.
sub corrupt
{
	my ($sql) = @_;
	$node->safe_psql('postgres', "SET session_replication_role = replica; SET pg_projections.allow_direct_writes = on; $sql; UPDATE projections_internal.projection SET stale_since = NULL, stale_reason = NULL");
}
my $stale = q{SELECT string_agg(projection || ': ' || stale_reason, '; ' ORDER BY projection) FROM (SELECT projections_internal._name(relation) AS projection, stale_reason FROM projections_internal.projection WHERE stale_since IS NOT NULL) s};
corrupt(q{UPDATE counts SET n = 0 WHERE k IN (3, 4, 5)});
is($node->safe_psql('postgres', $stale), '', 'off by default: nobody looks');

$node->safe_psql('postgres', 'ALTER SYSTEM SET pg_projections.scrub_rate = 1000000; SELECT pg_reload_conf()');
ok($node->poll_query_until('postgres', "SELECT ($stale) = 'public.counts: 3 differences from its definition'"), 'a projection that differs is marked stale, and only that');
$node->wait_for_log(qr/projection public.counts differs from its definition/);
is($node->safe_psql('postgres', q{SELECT status FROM projections.health('counts')}), 'stale', 'health says so');
is($node->safe_psql('postgres', q{SELECT projections.repair('counts')}), '3', 'repaired');

# Each has its turn.
corrupt(q{DELETE FROM stock WHERE item = 2});
ok($node->poll_query_until('postgres', "SELECT ($stale) = 'public.stock: 1 differences from its definition'"), 'an async one');
$node->safe_psql('postgres', q{SELECT projections.repair('stock')});
$node->safe_psql('postgres', q{ALTER TABLE plain RENAME COLUMN v TO w});
corrupt(q{INSERT INTO sums (k, s) VALUES (1000, 1)});
ok($node->poll_query_until('postgres', "SELECT ($stale) = 'public.sums: 1 differences from its definition'"), 'an inline one, whose source has changed its names');
$node->safe_psql('postgres', q{SELECT projections.repair('sums')});

# A long one is interrupted for events, by the only worker.
$node->safe_psql('postgres', q{
	SET client_min_messages = warning;
	CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
		'BEGIN IF to_regclass(''public.nap'') IS NOT NULL THEN PERFORM pg_sleep(0.05); END IF; RETURN $1; END';
	CREATE TABLE few (id int PRIMARY KEY);
	INSERT INTO few SELECT generate_series(1, 50000);
	SELECT projections.create('slowly', 'SELECT slow(id) AS id, count(*) AS n FROM few GROUP BY slow(id)');
	CREATE TABLE nap ();
});
my $verifying = "SELECT count(*) = 1 FROM pg_stat_activity WHERE $worker AND state = 'active' AND query = 'verifying a projection' AND query_start < now() - interval '1 s'";
ok($node->poll_query_until('postgres', $verifying), 'a scrub that takes long');
$node->safe_psql('postgres', 'INSERT INTO event (item, quantity) VALUES (3, 7)');
ok($node->poll_query_until('postgres', 'SELECT count(*) = 1 FROM stock WHERE item = 3'), 'events are applied meanwhile');
unlike(slurp_file($node->logfile), qr/verifying a projection failed/, 'which is no failure');
is($node->safe_psql('postgres', $stale), '', 'and no false alarm');
$node->stop('fast');
done_testing();
