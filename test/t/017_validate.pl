# validate() in a pipeline, after a restore without triggers, under settings that keep workers from running, and with a
# thousand projections. Hints are followed literally, as if pasted into psql.
# Runs alone: how long validate takes is measured.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_projections'\nmax_worker_processes = 8\n");
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE source');
$node->safe_psql('source', q{
	SET client_min_messages = warning;
	CREATE EXTENSION pg_projections;
	\i test/oracle.sql
	CREATE TABLE orders (id int PRIMARY KEY, customer int, amount numeric(10,2));
	CREATE TABLE events (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text, quantity int);
	CREATE TABLE arriving (seq bigint PRIMARY KEY, item text);
	SELECT projections.register_source('events', 'seq'), projections.register_source('arriving', 'seq', capture => 'trigger');
	SELECT projections.create('by_customer', 'SELECT customer, sum(amount) AS amount FROM orders GROUP BY customer');
	SELECT projections.create('total', 'SELECT sum(amount) AS amount FROM by_customer');
	SELECT projections.create('stock', 'SELECT item, sum(quantity) AS quantity FROM events GROUP BY item', mode => 'async');
	SELECT projections.create('logged', 'SELECT customer, count(*) AS n FROM orders GROUP BY customer', mode => 'async');
	SELECT projections.create('arrived', 'SELECT item, count(*) AS n FROM arriving GROUP BY item', mode => 'async');
	INSERT INTO orders SELECT g, g % 5, g FROM generate_series(1, 100) g;
	INSERT INTO events (item, quantity) SELECT 'i' || g % 3, g FROM generate_series(1, 100) g;
	INSERT INTO arriving SELECT g, 'i' || g % 3 FROM generate_series(1, 10) g;
	SELECT projections.wait_for(projection, timeout => '60 s') FROM projections.definitions;
});

sub problems
{
	my ($database, $where) = @_;
	$where //= 'true';
	return $node->safe_psql($database, "SELECT severity || ' ' || object || ': ' || problem FROM projections.validate() WHERE $where");
}

# As an operator would: the hints, one after the other, into psql.
sub follow_hints
{
	my ($database) = @_;
	my $hints = $node->safe_psql($database, q{SELECT replace(hint, E'\n', ' ') FROM projections.validate()});
	my ($out, $err);
	my $code = $node->psql($database, $hints, stdout => \$out, stderr => \$err, on_error_stop => 1);
	is($code, 0, "$database: the hints run") or diag("$hints\n$err");
	return;
}

sub is_equal
{
	my ($database) = @_;
	$node->safe_psql($database, q{SELECT projections.wait_for(projection, timeout => '60 s') FROM projections.definitions});
	is($node->safe_psql($database, q{SELECT equal FROM test.check_all()}), '5', "$database: equal");
	return;
}

is(problems('source'), '', 'nothing is wrong');

# In a pipeline.
my @psql = ('psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('source'), '-c');
$node->command_ok([ @psql, q{SELECT projections.validate(required => '{stock,total}', raise => true)} ], 'good: psql exits with 0');
$node->command_fails_like([ @psql, q{SELECT projections.validate(required => '{stock,missing_one}', raise => true)} ],
	qr/validation found 1 error.*missing_one: it is required/s, 'a required one is absent: psql fails and names it');
$node->safe_psql('source', q{UPDATE projections_internal.projection SET paused_at = '2026-01-01', paused_by = 'x', pause_reason = 'y' WHERE relation = 'stock'::regclass});
$node->command_ok([ @psql, q{SELECT projections.validate(raise => true)} ], 'what is no error does not fail');
like(problems('source'), qr/^INFO public.stock: it is paused since/, 'a long pause is told');
follow_hints('source');
is(problems('source'), '', 'and ended by its hint');

# A dump whose data is restored without triggers ends in ENABLE TRIGGER ALL, which turns ALWAYS into ORIGIN: event triggers
# turn that back, but not on the extension's own tables, which keep sessions from an old catalog.
mkdir $node->backup_dir;
my $dump = $node->backup_dir . '/source.dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, 'source' ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '-e', '--section=pre-data', '--section=post-data', '-d', 'restored', $dump ], 'schema restored');
$node->command_ok([ 'pg_restore', '-e', '--section=data', '--disable-triggers', '-d', 'restored', $dump ], 'data restored without triggers');
my $enabled = q{SELECT string_agg(DISTINCT tgenabled::text, '') FROM pg_trigger WHERE tgname ~ '^projections_(capture|guard|arrival)'};
is($node->safe_psql('restored', $enabled), 'A', 'triggers fire always again');
my $found = problems('restored', q{severity = 'ERROR'});
unlike($found, qr/public\.|projections_(capture|guard|arrival)/, 'so nothing is told of them');
like($found, qr/ERROR projections_internal\.projection: trigger announce_change does not fire always/, 'and of our own');
$node->safe_psql('restored', q{SET session_replication_role = replica; INSERT INTO orders VALUES (1000, 1, 1000)});
$node->command_fails([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-c', 'SELECT projections.validate(raise => true)' ],
	'raise after such a restore');
follow_hints('restored');
is(problems('restored'), '', 'the hints restore all');
is_equal('restored');
$node->safe_psql('restored', q{SET session_replication_role = replica; INSERT INTO orders VALUES (1001, 2, 1000); DELETE FROM orders WHERE id < 10});
is_equal('restored');

# Settings. ALTER SYSTEM, as the hints say, and a restart.
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->restart;
like(problems('source'), qr/^WARNING shared_preload_libraries: it lacks pg_projections/, 'library not preloaded');
follow_hints('source');
$node->restart;
is(problems('source'), '', 'preloaded');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET ALL');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_stat_statements, pg_projections'\nmax_worker_processes = 3\npg_projections.workers = 4\n");
$node->restart;
like(problems('source'), qr/^WARNING max_worker_processes: it is 3; the launcher and 4 workers need 6/, 'too few processes');
follow_hints('source');
$node->restart;
is(problems('source'), '', 'enough processes');
$node->append_conf('postgresql.conf', "pg_projections.workers = 0\n");
$node->reload;
$node->poll_query_until('source', 'SHOW pg_projections.workers', '0');
like(problems('source'), qr/^WARNING pg_projections.workers: it is 0/, 'no workers');
follow_hints('source');
$node->poll_query_until('source', 'SHOW pg_projections.workers', '4');
is(problems('source'), '', 'workers again');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_stat_statements'\nmax_worker_processes = 8\npg_projections.workers = 4\n");
$node->safe_psql('postgres', 'ALTER SYSTEM RESET ALL');
$node->restart;
like($node->safe_psql('source', 'SELECT hint FROM projections.validate()'), qr/^ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements', 'pg_projections';/,
	'other libraries stay');
follow_hints('source');
$node->restart;
is(problems('source'), '', 'both are loaded');

# A standby says what its primary would, and nothing of workers.
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "pg_projections.workers = 0\n");
$standby->start;
$node->safe_psql('source', q{UPDATE projections_internal.projection SET stale_since = now(), stale_reason = 'for the test' WHERE relation = 'total'::regclass});
$node->wait_for_catchup($standby, 'replay');
is($standby->safe_psql('source', q{SELECT string_agg(severity || ' ' || object, ', ') FROM projections.validate()}), 'ERROR public.total', 'works on a standby');
is($standby->safe_psql('source', 'SELECT count(*) FROM projections.orphans()'), '0', 'and so does orphans()');
$standby->stop;
follow_hints('source');
is(problems('source'), '', 'repaired');

# A thousand projections are looked at in well under a second; ten times that is allowed for a machine that is busy.
$node->safe_psql('postgres', 'CREATE DATABASE thousand');
$node->safe_psql('thousand', q{
	SET client_min_messages = error;
	CREATE EXTENSION pg_projections;
	CREATE TABLE source (id int PRIMARY KEY, a int, b int);
	CREATE TABLE events (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int);
	SELECT projections.register_source('events', 'seq');
	SELECT count(projections.create('p' || g, format('SELECT a, sum(b) AS b FROM source WHERE b > %s GROUP BY a', g))) FROM generate_series(1, 500) g;
	SELECT projections.pause_all('only looked at');
	SELECT count(projections.create('e' || g, format('SELECT a, count(*) AS n FROM events WHERE a > %s GROUP BY a', g), mode => 'async')) FROM generate_series(1, 500) g;
});
my $times = $node->safe_psql('thousand', q{
	DO $$
	DECLARE began timestamptz := clock_timestamp(); found bigint := (SELECT count(*) FROM projections.validate());
	BEGIN RAISE NOTICE '% problems', found; CREATE TEMP TABLE took AS SELECT extract(epoch FROM clock_timestamp() - began) AS s; END $$;
	SELECT s < 5, round(s, 3) FROM took;});
like($times, qr/^t\|/, 'a thousand projections');
note("validate() of a thousand projections: $times");

$node->stop;
done_testing();
