# A worker, the launcher or the server is killed: everything is applied once all the same, and goes on by itself.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Restart;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'pg_projections'
restart_after_crash = on
max_worker_processes = 12
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION pg_projections; \i test/oracle.sql');
$node->safe_psql('postgres', q{
	SET client_min_messages = warning;
	CREATE TABLE event (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item int NOT NULL);
	SELECT projections.register_source('event', 'position');
	CREATE FUNCTION slowly(item int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN IF item = 3 THEN PERFORM pg_sleep(0.001); END IF; RETURN item; END $$;
	SELECT projections.create('counted', 'SELECT item, count(*) AS n FROM event GROUP BY item', mode => 'async', options => '{"slots": 2}');
	SELECT projections.create('summed', 'SELECT sum(slowly(item)) AS n FROM event', mode => 'async');
});
my $applied = 'SELECT sum(n) = (SELECT count(*) FROM event) FROM counted';
my $summed = 'SELECT (SELECT n FROM summed) = (SELECT sum(item) FROM event)';

for my $round (1 .. 4)
{
	$node->safe_psql('postgres', 'INSERT INTO event (item) SELECT g % 50 FROM generate_series(1, 20000) g');
	ok($node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM projections.workers WHERE state = 'working'}), "round $round: a worker is at it");
	if ($round == 1)
	{
		# In the middle of a batch: the server restarts its processes.
		my $pid = $node->safe_psql('postgres', q{SELECT pid FROM projections.workers WHERE pid IS NOT NULL LIMIT 1});
		kill 'KILL', $pid;
		ok(poll_over_restart($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid"), 'the worker is gone');
	}
	elsif ($round == 2)
	{
		$node->stop('immediate');
		$node->start;
	}
	elsif ($round == 3)
	{
		# Workers do not need the launcher; a new one finds them.
		my $launcher = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_projections launcher'});
		$node->safe_psql('postgres', "SELECT pg_terminate_backend($launcher)");
		ok(poll_over_restart($node, qq{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pg_projections launcher' AND pid <> $launcher}), 'a new launcher');
	}
	else
	{
		$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM projections.workers WHERE pid IS NOT NULL}) for 1 .. 5;
	}
	ok($node->poll_query_until('postgres', $applied), "round $round: all is applied, once");
	ok($node->poll_query_until('postgres', $summed), "round $round: by the slow projection, too");
}
is($node->safe_psql('postgres', 'SELECT equal FROM test.check_all()'), '2', 'equal to the definitions');
is($node->safe_psql('postgres', q{SELECT sum(events_processed) FROM projections_internal.slot WHERE projection = 'counted'::regclass}), '80000', 'as many events were applied as there are');
$node->stop;
done_testing();
