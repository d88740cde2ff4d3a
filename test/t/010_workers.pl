# Workers start by themselves where there is work, hear of commits, come and go with the setting, and end at once when told.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
# Nothing here may depend on polling.
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'pg_projections'
pg_projections.poll_interval = '1h'
max_prepared_transactions = 5
max_worker_processes = 12
});
$node->start;
my $worker = q{backend_type = 'pg_projections worker'};

$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pg_projections launcher'}) or die 'no launcher';
$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_projections;
	SET client_min_messages = warning;
	CREATE TABLE plain (k int, v int);
	SELECT projections.create('sums', 'SELECT k, sum(v) AS s FROM plain GROUP BY k');
});
$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE $worker") or die 'a worker stays';
pass('no worker where there are only inline projections');

$node->safe_psql('postgres', q{
	SET client_min_messages = warning;
	CREATE TABLE event (position bigint GENERATED ALWAYS AS IDENTITY, item int NOT NULL, quantity int NOT NULL) PARTITION BY RANGE (position);
	CREATE TABLE event_0 PARTITION OF event FOR VALUES FROM (0) TO (100000);
	CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM (100000) TO (10000000);
	SELECT projections.register_source('event', 'position');
	INSERT INTO event (item, quantity) SELECT g % 10, 1 FROM generate_series(1, 50000) g;
});
is($node->safe_psql('postgres', 'SELECT projections._workers_available()'), 't', 'workers are available');
$node->safe_psql('postgres', q{
	SET client_min_messages = warning;
	SELECT projections.create('stock', 'SELECT item, sum(quantity) AS quantity FROM event GROUP BY item', mode => 'async')});

# Waits until the projection has applied so much.
sub reaches
{
	my ($sum, $name, $table) = @_;
	$table //= 'stock';
	ok($node->poll_query_until('postgres', "SELECT coalesce(sum(quantity), 0) = $sum FROM $table"), $name);
}
reaches(50000, 'a new projection starts a worker, which catches up');

# Each of these is heard of by a latch: the poll interval is an hour.
$node->safe_psql('postgres', 'INSERT INTO event (item, quantity) VALUES (1, 1)');
reaches(50001, 'an INSERT is heard');
$node->safe_psql('postgres', "COPY event (item, quantity) FROM PROGRAM 'echo \"2\t1\"'");
reaches(50002, 'COPY is heard');
$node->safe_psql('postgres', q{INSERT INTO event_0 (position, item, quantity) VALUES (nextval(pg_get_serial_sequence('event', 'position')), 3, 1)});
reaches(50003, 'an INSERT into a partition is heard');
$node->safe_psql('postgres', q{WITH e AS (INSERT INTO event (item, quantity) VALUES (1, 1) RETURNING item) UPDATE plain SET v = 0 FROM e WHERE k = item});
reaches(50004, 'a data-modifying WITH is heard');
$node->safe_psql('postgres', q{BEGIN; INSERT INTO event (item, quantity) VALUES (1, 1); PREPARE TRANSACTION 'p'});
$node->safe_psql('postgres', q{COMMIT PREPARED 'p'});
reaches(50005, 'COMMIT PREPARED is heard');
my $blocker = $node->background_psql('postgres');
$blocker->query_safe('BEGIN; INSERT INTO event (item, quantity) VALUES (1, 1)');
$node->safe_psql('postgres', 'INSERT INTO event (item, quantity) VALUES (1, 1)');
is($node->safe_psql('postgres', 'SELECT sum(quantity) FROM stock'), '50005', 'what is undecided waits');
$blocker->query_safe('ROLLBACK');
$blocker->quit;
reaches(50006, 'the end of the transaction that was waited for is heard, also by rollback');

$node->safe_psql('postgres', q{
	SET client_min_messages = warning;
	CREATE TABLE line (id int PRIMARY KEY, quantity int);
	SELECT projections.create('line_total', 'SELECT sum(quantity) AS quantity FROM line', mode => 'async');
	INSERT INTO line SELECT g, 1 FROM generate_series(1, 100) g});
reaches(100, 'a change log is heard', 'line_total');
$node->safe_psql('postgres', 'UPDATE line SET quantity = 2 WHERE id <= 10; DELETE FROM line WHERE id > 90');
reaches(100, 'updates and deletes are logged and heard', 'line_total');

# One slow projection does not hold up another one: a second worker comes.
$node->safe_psql('postgres', q{
	SET client_min_messages = warning;
	CREATE FUNCTION slow(quantity int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(600); RETURN quantity; END $$;
	SELECT projections.create('slow_stock', 'SELECT item, sum(slow(quantity)) AS quantity FROM event WHERE quantity = 7 GROUP BY item', mode => 'async');
	CREATE ROLE nobody;
	CREATE ROLE owner;
	GRANT SELECT ON event TO owner;
	ALTER TABLE slow_stock OWNER TO owner;
	INSERT INTO event (item, quantity) VALUES (1, 7)});
my $slow = q{FROM projections.workers w JOIN pg_stat_activity a USING (pid) WHERE w.state = 'working' AND projection = 'public.slow_stock' AND wait_event = 'PgSleep'};
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 $slow"), 'a worker is at the slow projection');
reaches(50013, 'the other projection goes on');
$node->safe_psql('postgres', 'INSERT INTO event (item, quantity) VALUES (1, 1)');
reaches(50014, 'and hears of new events');

# A worker ends within a second, whatever it is at.
my $pid = $node->safe_psql('postgres', "SELECT pid $slow");
my $before = time;
$node->safe_psql('postgres', "SELECT projections.restart_worker($pid)");
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid"), 'the worker has ended');
cmp_ok(time - $before, '<', 1, 'within a second');
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 $slow AND pid <> $pid"), 'another one takes its place');

my ($code, $out, $err) = $node->psql('postgres', 'SELECT projections.restart_worker(1)');
like($err, qr/process 1 is not a worker/, 'only workers are restarted');
$pid = $node->safe_psql('postgres', "SELECT pid $slow");
($code, $out, $err) = $node->psql('postgres', "SET ROLE nobody; SELECT projections.restart_worker($pid)");
like($err, qr/permission denied to restart a worker/, 'not by anybody');
is($node->psql('postgres', "SET ROLE owner; SELECT projections.restart_worker($pid)"), 0, 'by the owner of what it works on');
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid"), 'the worker has ended again');

# The server stops at once, too.
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 $slow"), 'a worker is at it again');
$before = time;
$node->stop('fast');
cmp_ok(time - $before, '<', 5, 'a fast shutdown does not wait for workers');
$node->start;
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 $slow"), 'after a restart workers start without being called');
$node->safe_psql('postgres', q{CREATE OR REPLACE FUNCTION slow(quantity int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT quantity'});
$node->safe_psql('postgres', "SELECT projections.restart_worker(pid) $slow");
$node->safe_psql('postgres', q{SET client_min_messages = warning; SELECT projections.drop('slow_stock'); SELECT projections.drop('stock'); SELECT projections.drop('line_total')});
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE $worker"), 'no worker stays when the last async projection is dropped');
$node->stop;
done_testing();
