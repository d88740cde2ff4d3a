# Calls that fail are recorded although their transactions leave nothing behind: through shared memory, by a worker.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'pg_projections'
pg_projections.poll_interval = '1h'
});
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_projections;
	CREATE ROLE mallory;
	SET client_min_messages = warning;
	CREATE TABLE sale (item text, amount int);
	SELECT projections.create('stock', 'SELECT item, sum(amount) AS amount FROM sale GROUP BY item');
});
# There are only inline projections: no worker is here but for this.
my $worker = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_projections worker'};

# The failed calls, once there are so many.
sub failed_calls
{
	my ($many, $database) = @_;
	$database //= 'postgres';
	$node->poll_query_until($database, "SELECT count(*) >= $many FROM projections.audit_log WHERE outcome = 'failed'") or die "not $many failed calls";
	my $calls = $node->safe_psql($database, q{SELECT operation, projection, login, role, arguments, sqlstate, error FROM projections.audit_log WHERE outcome = 'failed' ORDER BY started_at});
	$node->safe_psql($database, 'DELETE FROM projections_internal.audit');
	return $calls;
}

sub fails
{
	my ($sql, $pattern, $database) = @_;
	my ($status, undef, $error) = $node->psql($database // 'postgres', $sql, on_error_stop => 1);
	ok($status != 0 && $error =~ $pattern, "fails: $sql") or diag "status $status: $error";
}

fails(q{SELECT projections.pause('nothing', 'why')}, qr/relation "nothing" does not exist/);
is(failed_calls(1), 'pause|nothing|postgres|postgres|{"name": "nothing", "reason": "why"}|42P01|relation "nothing" does not exist', 'what is not there');

fails(q{SET ROLE mallory; SELECT projections.drop('stock')}, qr/must be owner/);
is(failed_calls(1), 'drop|public.stock|postgres|mallory|{"name": "stock", "if_exists": false, "keep_table": false}|42501|must be owner of projection public.stock', 'who may not');

fails(q{BEGIN; CREATE TABLE gone (i int); SELECT projections.pause('stock', ''); COMMIT}, qr/a pause needs a reason/);
like(failed_calls(1), qr/^pause\|public\.stock\|.*\|22004\|a pause needs a reason$/, 'in a transaction that is rolled back');

fails(q{SELECT projections.create('more', 'SELECT now() AS n, item FROM sale')}, qr/ERROR/);
like(failed_calls(1), qr/^create\|more\|.*"query": "SELECT now\(\) AS n, item FROM sale".*\|PJ002\|/, 'a definition that is refused');

fails(q{SELECT projections.retry(4711)}, qr/there is no failure 4711/);
like(failed_calls(1), qr/^retry\|\|.*\{"failure_id": 4711\}\|P0002\|/, 'no such failure');

fails(q{SELECT projections.register_source('sale', 'amount')}, qr/ERROR/);
like(failed_calls(1), qr/^register_source\|public\.sale\|/, 'a table that cannot be a source');

$node->safe_psql('postgres', q{DO $$
BEGIN
	FOR i IN 1 .. 3 LOOP
		BEGIN
			PERFORM projections.pause('stock', NULL);
		EXCEPTION WHEN null_value_not_allowed THEN NULL;
		END;
	END LOOP;
	PERFORM projections.pause('stock', 'after all'), projections.resume('stock');
END
$$});
is($node->safe_psql('postgres', q{SELECT operation FROM projections.audit_log WHERE outcome = 'ok' ORDER BY id}), "pause\nresume", 'after errors that were caught a call is recorded as ever');
is(() = failed_calls(3) =~ /22004/g, 3, 'as are errors that somebody catches');

# More than fits: what is kept is still JSON.
fails(q{SELECT projections.refresh_rows('stock', jsonb_build_object('nothing', repeat('"ä', 5000)))}, qr/ERROR/);
like(failed_calls(1), qr/^refresh_rows\|public\.stock\|postgres\|postgres\|\{"shortened": "\{\\"name\\":\\"stock\\".*"\}\|22023\|/, 'long arguments are cut');

fails(q{BEGIN; LOCK TABLE projections_internal.projection IN ACCESS EXCLUSIVE MODE; SET LOCAL statement_timeout = 1; SELECT pg_sleep(1)}, qr/timeout/);

# More than there is room for, while the worker cannot write.
my $many = 200;
my ($in, $out) = ("BEGIN; LOCK TABLE projections_internal.audit IN SHARE MODE;\n\\echo locked\n", '');
my $locker = IPC::Run::start([ 'psql', '-X', '-q', '-d', $node->connstr('postgres') ], '<', \$in, '>', \$out, '2>', \$out, IPC::Run::timer($PostgreSQL::Test::Utils::timeout_default));
$locker->pump until $out =~ /locked/;
$node->safe_psql('postgres', qq{DO \$\$
BEGIN
	FOR i IN 1 .. $many LOOP
		BEGIN
			PERFORM projections.pause('nothing ' || i, 'why');
		EXCEPTION WHEN undefined_table OR syntax_error OR invalid_name THEN NULL;
		END;
	END LOOP;
END
\$\$});
$in .= "COMMIT;\n\\q\n";
$locker->finish;
fails(q{SELECT projections.pause('the last', 'why')}, qr/ERROR/);
$node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM projections.audit_log WHERE projection = 'the last' OR error ~ 'more calls have failed'}) or die 'nothing was written';
$node->poll_query_until('postgres', "SELECT ($worker) = 0") or die 'the worker stays';
is($node->safe_psql('postgres', q{SELECT count(*) + coalesce(sum(substring(error FROM '\((\d+) more calls have failed')::int), 0) FROM projections_internal.audit WHERE sqlstate IS NOT NULL}), $many + 1, 'none goes uncounted');
pass('the worker leaves when it has written what there was');
$node->safe_psql('postgres', 'DELETE FROM projections_internal.audit');

# Procedures that commit, and what they end with.
$node->safe_psql('postgres', q{INSERT INTO sale SELECT 'item ' || i % 10, i FROM generate_series(1, 100) i});
$node->safe_psql('postgres', q{CALL projections.rebuild('stock')});
$node->safe_psql('postgres', q{CALL projections.rebuild_all()});
$node->safe_psql('postgres', q{CALL projections.alter('stock', query => 'SELECT item, sum(amount) AS amount, count(*) AS n FROM sale GROUP BY item')});
$node->safe_psql('postgres', q{SELECT projections.repair('stock')});
$node->safe_psql('postgres', q{SELECT projections.cleanup_orphans()});
$node->safe_psql('postgres', q{SELECT projections.verify('stock'), projections.orphans()});
is($node->safe_psql('postgres', q{SELECT operation, projection, outcome FROM projections.audit_log ORDER BY id}),
	join("\n", 'rebuild|public.stock|ok', 'rebuild_all||ok', 'alter|public.stock|ok', 'repair|public.stock|ok', 'cleanup_orphans||ok'), 'operations that commit in between; nothing that only looks');
$node->safe_psql('postgres', 'DELETE FROM projections_internal.audit');
fails(q{BEGIN; CALL projections.rebuild('stock'); COMMIT}, qr/ERROR/);
fails(q{CALL projections.alter('stock', query => 'SELECT random() AS r FROM sale')}, qr/ERROR/);
is(join(' ', failed_calls(2) =~ /^(\w+)\|public\.stock\|/mg), 'rebuild alter', 'and that fail');

# What nobody can write any more keeps nobody.
$node->safe_psql('postgres', 'CREATE DATABASE old');
$node->safe_psql('old', q{CREATE EXTENSION pg_projections VERSION '0.2.0'; SET client_min_messages = warning; CREATE TABLE t (i int); SELECT projections.create('c', 'SELECT i, count(*) FROM t GROUP BY i')});
$node->safe_psql('old', q{SELECT projections.pause('c', 'works'), projections.resume('c')});
fails(q{SELECT projections.pause('nothing', 'why')}, qr/does not exist/, 'old');
$node->safe_psql('old', 'ALTER EXTENSION pg_projections UPDATE');
fails(q{SELECT projections.pause('nothing', 'why')}, qr/does not exist/, 'old');
is(() = failed_calls(1, 'old') =~ /pause/g, 1, 'recorded from the update on');
$node->safe_psql('old', q{DO $$ BEGIN PERFORM projections.pause('nothing', 'why'); EXCEPTION WHEN undefined_table THEN NULL; END $$; SELECT projections.drop('c'); DROP EXTENSION pg_projections});
$node->poll_query_until('old', "SELECT ($worker) = 0") or die 'a worker stays where the extension is gone';
$node->safe_psql('postgres', 'DROP DATABASE old');

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal/, 'the server stayed up');
$node->stop;
done_testing();
