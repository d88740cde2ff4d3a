# One user holds what he can: workers, rebuild places, rooms in shared memory, stored texts. Another's projections are served
# all the same. And code that catches its cancellation is ended, its event recorded.
# Runs alone: how soon a victim is served is measured.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes 'time';

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'pg_projections'
max_worker_processes = 16
pg_projections.workers = 3
pg_projections.poll_interval = '200ms'
});
$node->start;

sub sql { return $node->safe_psql('postgres', "SET client_min_messages = warning; $_[0]") }
sub as { my ($role, $sql) = @_; return sql("SET SESSION AUTHORIZATION $role; $sql") }
sub until_true { my ($sql, $name) = @_; return ok($node->poll_query_until('postgres', "SELECT $sql"), $name) }
sub set
{
	my ($setting, $value) = @_;
	sql("ALTER SYSTEM SET $setting = $value");
	sql('SELECT pg_reload_conf()');
}

$node->safe_psql('postgres', 'CREATE EXTENSION pg_projections; \i test/oracle.sql');
for my $role (qw(attacker victim))
{
	sql("CREATE ROLE $role LOGIN; CREATE SCHEMA $role AUTHORIZATION $role");
	as($role, qq{
		CREATE TABLE $role.event (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item int NOT NULL);
		SELECT projections.register_source('$role.event', 'position')});
}
as('victim', q{SELECT projections.create('victim.counted', 'SELECT count(*) AS n FROM victim.event', mode => 'async')});

# ---------------------------------------------------------------------------------------------------- rooms in shared memory

# What fails or conflicts is kept in shared memory until a worker writes it. While none can, one user floods it; what another
# left there must not be driven out. The worker has taken what came first.
sub flooded
{
	my ($table, $one) = @_;
	my $call = sub { my ($role, $what) = @_; return as($role, "DO \$\$ BEGIN $what END \$\$") };
	my $locker = $node->background_psql('postgres');
	$locker->query_safe("BEGIN; LOCK TABLE $table IN SHARE MODE");
	$call->('attacker', $one->("'first'"));
	ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pg_projections worker' AND wait_event_type = 'Lock'}), "the worker waits for $table");
	$call->('victim', $one->("'the victim''s'"));
	$call->('attacker', 'FOR i IN 1 .. 1000 LOOP ' . $one->(q{'flood ' || i}) . ' END LOOP;');
	$locker->query_safe('COMMIT');
	$locker->quit;
}
sql('GRANT EXECUTE ON FUNCTION projections_internal._count_conflict(text) TO attacker, victim');
flooded('projections_internal.conflict', sub { return "PERFORM projections_internal._count_conflict($_[0]);" });
until_true(q{(SELECT count(*) > 1 FROM projections_internal.conflict WHERE stream ~ 'flood') AND (SELECT conflicts = 1 FROM projections_internal.conflict WHERE stream = 'the victim''s')}, 'a conflict of the victim is counted');
flooded('projections_internal.audit', sub { return "BEGIN PERFORM projections.pause($_[0], 'why'); EXCEPTION WHEN OTHERS THEN NULL; END;" });
until_true(q{(SELECT count(*) > 1 FROM projections_internal.audit WHERE projection ~ 'flood') AND EXISTS (SELECT FROM projections_internal.audit WHERE login = 'victim' AND projection ~ 'victim' AND sqlstate IS NOT NULL)}, 'a failed call of the victim is told');

# ---------------------------------------------------------------------------------------------- what cannot be cancelled

# Odd events end by no cancellation; 0 and 2 are good ones. The key of each is its own.
as('attacker', q{
	CREATE TABLE attacker.done (item int);
	CREATE FUNCTION attacker.swallow(e attacker.event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		WHILE e.item % 2 = 1 LOOP
			BEGIN PERFORM pg_sleep(600); EXCEPTION WHEN query_canceled THEN NULL; END;
		END LOOP;
		INSERT INTO attacker.done VALUES (e.item);
	END $$;
	SELECT projections.create_handler('attacker.swallowed', 'attacker.event', 'attacker.swallow(attacker.event)', '{attacker.done}',
		partition_by => 'item', options => '{"event_timeout": "500 ms", "max_retries": 1}');
	INSERT INTO attacker.event (item) VALUES (0), (1), (2)});
until_true(q{count(*) = 1 FROM projections_internal.failure WHERE next_retry_at IS NULL AND retry_count = 1}, 'its retries are counted, and end');
is(sql(q{SELECT position, sqlstate, category, error, context ~ 'ended the process' FROM projections_internal.failure}),
	'2|57014|timeout|the event took longer than 500 ms|t', 'it is recorded as failed, once');
is(sql('SELECT item FROM attacker.done ORDER BY item'), "0\n2", 'the others are applied once');
until_true(q{lag_events = 0 FROM projections.health() WHERE projection = 'attacker.swallowed'}, 'the slot went on');
like(slurp_file($node->logfile), qr/LOG:.*an event ended the process that applied it/, 'and the log says why a worker ended');

# By hand, it is the caller's session that ends; what it was at is recorded by whoever comes next.
as('attacker', q{SELECT projections.pause('attacker.swallowed', 'by hand'); INSERT INTO attacker.event (item) VALUES (3)});
set('pg_projections.workers', 0);
until_true(q{count(*) = 0 FROM projections.workers}, 'no worker');
as('attacker', q{SELECT projections.resume('attacker.swallowed')});
my ($status, undef, $error) = $node->psql('postgres', q{SET SESSION AUTHORIZATION attacker; SELECT projections.catch_up('attacker.swallowed')});
isnt($status, 0, 'a session that applies by hand ends, too');
like($error, qr/terminating connection/, 'by its own timer');
as('attacker', q{BEGIN; SELECT projections.catch_up('attacker.swallowed'); ROLLBACK}); # which is not to forget it
as('attacker', q{SELECT projections.catch_up('attacker.swallowed')});
is(sql(q{SELECT position, retry_count FROM projections_internal.failure ORDER BY position}), "2|1\n4|0", 'and the next session records the event');
as('attacker', q{SELECT projections.drop('attacker.swallowed')});

set('pg_projections.workers', 3);

# ----------------------------------------------------------------------------------------------------------------- texts

as('attacker', q{
	CREATE TABLE attacker.none (item int);
	CREATE FUNCTION attacker.shout(e attacker.event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN RAISE EXCEPTION '%', repeat('ä', 5000000) USING DETAIL = repeat('d', 5000000); END $$;
	SELECT projections.create_handler('attacker.shouted', 'attacker.event', 'attacker.shout(attacker.event)', '{attacker.none}', options => '{"max_retries": 0}')});
until_true(q{count(*) > 0 FROM projections_internal.failure WHERE projection = 'attacker.shouted'::regclass}, 'errors of any length are recorded');
cmp_ok(sql(q{SELECT max(octet_length(error) + octet_length(context)) FROM projections_internal.failure}), '<', 20000, 'as far as is reasonable');
as('attacker', q{SELECT projections.drop('attacker.shouted')});

# --------------------------------------------------------------------------------------------------------------- workers

# How long the victim waits until an event is applied.
sub latency
{
	my $began = time;
	as('victim', 'INSERT INTO victim.event (item) VALUES (0)');
	$node->poll_query_until('postgres', 'SELECT (SELECT n FROM victim.counted) = (SELECT count(*) FROM victim.event)') or return 1000;
	return time - $began;
}

# The claim is 2 s on a machine that has time for it; so the best of three counts, and no one may take for ever.
sub served
{
	my ($name) = @_;
	my @latencies = sort { $a <=> $b } map { latency() } 1 .. 3;
	cmp_ok($latencies[0], '<', 2, "$name: the victim is served within 2 s");
	cmp_ok($latencies[2], '<', 20, "$name: always") or diag "@latencies";
}

as('attacker', q{
	CREATE FUNCTION attacker.slow(item int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
	BEGIN
		LOOP
			BEGIN PERFORM pg_sleep(600); EXCEPTION WHEN query_canceled THEN NULL; END;
		END LOOP;
	END $$});
my $asleep = q{FROM pg_stat_activity WHERE backend_type = 'pg_projections worker' AND wait_event = 'PgSleep'};
as('attacker', join ';', map { "SELECT projections.create('attacker.slow_$_', 'SELECT sum(attacker.slow(item)) AS n FROM attacker.event', mode => 'async')" } 1 .. 6);
served('at first');
until_true("count(*) = 2 $asleep", 'the attacker holds all workers but one');
served('then');
# Slow as well, and no attacker.
as('victim', q{
	CREATE FUNCTION victim.slow(item int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.7); RETURN item; END $$;
	SELECT projections.create('victim.late', 'SELECT sum(victim.slow(item)) AS n FROM victim.event', mode => 'async')});
until_true(q{(SELECT n FROM victim.late) = 0}, 'a projection of the victim that is slow itself is served, too');
until_true("count(*) = 2 $asleep", 'the attacker goes on');
# Not check_all(), which would call what the attacker has.
is(sql(q{SELECT missing + extra FROM test.oracle('victim.counted')}), '0', 'what the victim has is right');

# --------------------------------------------------------------------------------------------------------------- rebuilds

my $rebuilding = q{FROM pg_stat_activity WHERE backend_type = 'pg_projections rebuild'};
as('attacker', join ';', map { "SELECT projections.create('attacker.filled_$_', 'SELECT item, sum(attacker.slow(item)) AS n FROM attacker.event GROUP BY item', options => '{\"fill\": \"online\"}')" } 1 .. 40);
until_true("count(*) = 3 $rebuilding", 'the attacker holds all places of rebuilds but one');
as('victim', q{SELECT projections.create('victim.filled', 'SELECT item, count(*) AS n FROM victim.event GROUP BY item', options => '{"fill": "online"}')});
until_true(q{NOT building FROM projections_internal.projection WHERE relation = 'victim.filled'::regclass}, 'which fills what the victim creates');
is(sql("SELECT count(*) $rebuilding"), '3', 'and is left to others');
served('beside rebuilds');
# A place that becomes free goes to what waits, without a worker's help.
set('pg_projections.workers', 0);
sql('SELECT projections.restart_worker(pid) FROM projections.workers'); # they would not end by themselves
until_true('count(*) = 0 FROM projections.workers', 'no worker');
as('victim', 'BEGIN; ' . join('; ', map { "SELECT projections.create('victim.filled_$_', 'SELECT item, count(*) AS n FROM victim.event GROUP BY item', options => '{\"fill\": \"online\"}')" } 1 .. 3) . '; COMMIT');
until_true(q{count(*) = 3 FROM projections_internal.projection WHERE relation::text ~ '^victim.filled_' AND NOT building}, 'one after the other of the victim has the place that is left');
is(sql(join ' UNION ALL ', map { "SELECT missing + extra FROM test.oracle('victim.filled_$_')" } 1 .. 3), "0\n0\n0", 'and is right');

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal/, 'the server stayed up');
$node->stop('immediate');
done_testing();
