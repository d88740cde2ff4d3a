# The number of workers follows its setting without a restart; no place for workers, no preload, no memory: each is said, and survived.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $declare = q{
	SET client_min_messages = warning;
	CREATE EXTENSION pg_projections;
	CREATE TABLE event (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item int NOT NULL);
	SELECT projections.register_source('event', 'position');
	CREATE FUNCTION slow(item int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN IF item > 0 THEN PERFORM pg_sleep(600); END IF; RETURN item; END $$;
	CREATE FUNCTION large(item int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN length(repeat('x', item)); END $$;
	SELECT projections.create('counted', 'SELECT count(*) AS n FROM event', mode => 'async');
};

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'pg_projections'
max_worker_processes = 12
});
$node->start;
$node->safe_psql('postgres', $declare);

sub follows
{
	my ($name) = @_;
	$node->safe_psql('postgres', 'INSERT INTO event (item) VALUES (0)');
	ok($node->poll_query_until('postgres', 'SELECT (SELECT n FROM counted) = (SELECT count(*) FROM event)'), $name);
}
sub set
{
	my ($setting, $value) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET $setting = $value");
	$node->safe_psql('postgres', 'SELECT pg_reload_conf()');
}
my $asleep = q{FROM pg_stat_activity WHERE backend_type = 'pg_projections worker' AND wait_event = 'PgSleep'};
my $workers = q{FROM pg_stat_activity WHERE backend_type = 'pg_projections worker'};

# Six slow projections: as many workers are at them as is allowed, less the one that is left to the others.
$node->safe_psql('postgres', join(';', 'SET client_min_messages = warning', 'INSERT INTO event (item) VALUES (1)',
	map { "SELECT projections.create('slow_$_', 'SELECT sum(slow(item)) AS n FROM event', mode => 'async')" } 1 .. 6));
ok($node->poll_query_until('postgres', "SELECT count(*) = 3 $asleep"), 'slow projections hold three of four workers');
follows('the fourth is there for the others');
# One of the others that was slow once, as a lock held it up, is not taken for one of the slow.
{
	my $holder = $node->background_psql('postgres');
	$holder->query_safe('BEGIN; LOCK TABLE counted IN EXCLUSIVE MODE');
	$node->safe_psql('postgres', 'INSERT INTO event (item) VALUES (0)');
	ok($node->poll_query_until('postgres', q{SELECT EXISTS (SELECT FROM projections_internal._workers() WHERE projection = 'counted'::regclass AND since < clock_timestamp() - interval '600 ms')}), 'a batch that is held up');
	$holder->query_safe('COMMIT');
	$holder->quit;
	my $began = time;
	follows('it is soon forgiven');
	cmp_ok(time - $began, '<', 90, 'long before ten minutes');
}
set('pg_projections.workers', 6);
ok($node->poll_query_until('postgres', "SELECT count(*) = 5 $asleep"), 'more workers without a restart');
follows('one is left to the others');
my $oldest = $node->safe_psql('postgres', "SELECT pid $workers ORDER BY backend_start LIMIT 1");
set('pg_projections.workers', 2);
# One that had nothing to do may take what was given up before it hears of the new limit, and ends after its batch only, of
# ten minutes. So who is one too many is asked to end until nobody is.
ok($node->poll_query_until('postgres', "SELECT count(projections.restart_worker(pid)) = 0 AND (SELECT count(*) = 2 $workers) FROM projections.workers WHERE pid <> $oldest AND state = 'working' AND (SELECT count(*) > 2 $workers)"), 'fewer workers without a restart');
is($node->safe_psql('postgres', "SELECT count(*) $workers AND pid = $oldest"), '1', 'the oldest stays: no gap');
follows('one of two is left to the others');
set('pg_projections.workers', 0);
$node->safe_psql('postgres', q{SELECT projections.restart_worker(pid) FROM projections.workers WHERE state = 'working'});
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 $workers"), 'none');
is($node->safe_psql('postgres', 'SELECT projections_internal._workers_available(), projections_internal._worker_problem()'),
	'f|The setting pg_projections.workers is 0. ALTER SYSTEM RESET pg_projections.workers; SELECT pg_reload_conf();', 'and it is said why');
$node->safe_psql('postgres', join(';', 'SET client_min_messages = warning', map { "SELECT projections.drop('slow_$_')" } 1 .. 6));
set('pg_projections.workers', 1);
follows('one worker');

# A projection whose batches fail as a whole is put off, and said; the others go on with the same worker. It recovers by itself.
$node->safe_psql('postgres', q{
	SET client_min_messages = warning;
	SELECT projections.create('broken', 'SELECT item, count(*) AS n FROM event GROUP BY item', mode => 'async')});
$node->safe_psql('postgres', q{
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no checkpoint for you'; END $$;
	CREATE TRIGGER refuse BEFORE UPDATE ON projections_internal.slot FOR EACH ROW WHEN (OLD.projection = 'broken'::regclass) EXECUTE FUNCTION refuse()});
follows('a projection beside a broken one');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM projections_internal._worker_problems() WHERE projection = 'broken'::regclass AND message = 'no checkpoint for you' AND sqlstate = 'P0001' AND next_retry_at > failed_at}),
	'the problem is shown');
$node->safe_psql('postgres', 'CREATE ROLE reader');
is($node->safe_psql('postgres', 'SET ROLE reader; SELECT message IS NULL FROM projections_internal._worker_problems()'), 't', 'its text not to everybody');
is($node->safe_psql('postgres', 'SELECT (SELECT sum(n) FROM broken) < (SELECT count(*) FROM event)'), 't', 'nothing was applied');
$node->safe_psql('postgres', 'DROP TRIGGER refuse ON projections_internal.slot');
ok($node->poll_query_until('postgres', 'SELECT (SELECT sum(n) FROM broken) = (SELECT count(*) FROM event)'), 'it is taken up again');
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM projections_internal._worker_problems()'), 'and the problem is forgotten');
like(slurp_file($node->logfile), qr/LOG:  pg_projections: applying events to public.broken, slot 0 failed: no checkpoint for you/, 'it is in the log');

# Memory: what an event takes too much of is refused to that event, and the worker goes on. Shared memory does not count.
set('pg_projections.worker_memory', "'100MB'");
$node->safe_psql('postgres', q{
	SET client_min_messages = warning;
	SELECT projections.create('sizes', 'SELECT item, sum(large(item)) AS n FROM event GROUP BY item', mode => 'async');
	INSERT INTO event (item) VALUES (1000), (400000000), (2000)});
ok($node->poll_query_until('postgres', q{SELECT sum(n) = 3001 FROM sizes WHERE n > 0}), 'events around the large one are applied');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM projections_internal.failure WHERE projection = 'sizes'::regclass AND sqlstate = '53200'}), 'the large one fails for lack of memory');
follows('the worker goes on');
my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP|terminated by signal/, 'nothing crashed');

# Conflicts outlive the transactions that met them, with any spelling of the stream.
$node->psql('postgres', q{BEGIN; SELECT projections_internal._count_conflict('order-1'); SELECT projections_internal._count_conflict(repeat('ä', 200)); SELECT projections_internal._count_conflict('order-1'); ROLLBACK}) for 1 .. 3;
ok($node->poll_query_until('postgres', q{SELECT array_agg(conflicts ORDER BY length(stream)) = '{6,3}' FROM projections_internal.conflict}), 'conflicts are counted');
is($node->safe_psql('postgres', q{SELECT octet_length(stream) FROM projections_internal.conflict WHERE stream <> 'order-1'}), '200', 'of a long name as much as fits, in whole characters');
{
	my $locker = $node->background_psql('postgres');
	$locker->query_safe('BEGIN; LOCK TABLE projections_internal.conflict IN SHARE MODE');
	$node->safe_psql('postgres', q{SELECT projections_internal._count_conflict('order-3')});
	ok($node->poll_query_until('postgres', "SELECT count(pg_cancel_backend(pid)) = 1 $workers AND query = 'counting conflicts' AND wait_event_type = 'Lock'"), 'who writes them is cancelled');
	$node->wait_for_log(qr/counting conflicts failed: canceling statement due to user request/);
	$locker->query_safe('COMMIT');
	$locker->quit;
}
ok($node->poll_query_until('postgres', q{SELECT sum(conflicts) = 1 FROM projections_internal.conflict WHERE stream = 'order-3'}), 'and they are written all the same');
$node->safe_psql('postgres', 'CREATE DATABASE quiet');
$node->safe_psql('quiet', 'CREATE EXTENSION pg_projections');
$node->safe_psql('quiet', q{SELECT projections_internal._count_conflict('order-2')});
ok($node->poll_query_until('quiet', q{SELECT sum(conflicts) = 1 FROM projections_internal.conflict}), 'also where there is no async projection');
ok($node->poll_query_until('quiet', "SELECT count(*) = 0 $workers AND datname = 'quiet'"), 'by a worker that leaves again');
$node->stop;

# All places for background workers are taken by the launchers.
my $full = PostgreSQL::Test::Cluster->new('full');
$full->init;
$full->append_conf('postgresql.conf', q{
shared_preload_libraries = 'pg_projections'
max_worker_processes = 1
max_logical_replication_workers = 0
});
$full->start;
$full->safe_psql('postgres', $declare);
ok($full->poll_query_until('postgres', q{SELECT NOT projections_internal._workers_available() AND projections_internal._worker_problem() = 'All places for background workers are taken (max_worker_processes). ALTER SYSTEM SET max_worker_processes to more, and restart the server.'}),
	'it is said that there is no place for a worker');
like(slurp_file($full->logfile), qr/LOG:  pg_projections cannot start a worker: too many background workers\n.*\n.*HINT:  Consider increasing/, 'in the log, too');
$full->safe_psql('postgres', 'INSERT INTO event (item) VALUES (0)');
is($full->safe_psql('postgres', 'SELECT projections.catch_up(); SELECT n FROM counted'), "1\n1", 'catch_up does the work');
$full->adjust_conf('postgresql.conf', 'max_worker_processes', '8');
$full->restart;
$full->safe_psql('postgres', 'INSERT INTO event (item) VALUES (0)');
ok($full->poll_query_until('postgres', 'SELECT n = 2 FROM counted'), 'served when there is');
$full->stop;

# Without preload.
my $bare = PostgreSQL::Test::Cluster->new('bare');
$bare->init;
$bare->start;
$bare->safe_psql('postgres', $declare);
$bare->safe_psql('postgres', 'INSERT INTO event (item) VALUES (0), (0)');
is($bare->safe_psql('postgres', 'SELECT projections_internal._workers_available(), projections_internal._worker_problem()'),
	'f|The library is not in shared_preload_libraries. Add pg_projections to shared_preload_libraries and restart the server.', 'without preload it is said what to do');
is($bare->safe_psql('postgres', 'SELECT count(*) FROM projections.workers'), '0', 'there are no workers');
is($bare->safe_psql('postgres', 'SELECT projections.catch_up(); SELECT n FROM counted'), "2\n2", 'catch_up does the work');
$bare->safe_psql('postgres', q{SELECT projections_internal._count_conflict('s')});
$bare->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE template1');
$bare->safe_psql('postgres', 'DROP DATABASE copy');
pass('nothing needs the shared memory');
$bare->stop;
done_testing();
