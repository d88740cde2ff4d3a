# Orphans that no SQL makes: a rebuild whose process is killed, and dumps of parts of a database.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Restart;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "restart_after_crash = on\n");
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE source');
$node->safe_psql('source', q{
	SET client_min_messages = error;
	CREATE EXTENSION pg_projections;
	\i test/oracle.sql
	CREATE TABLE orders (id int PRIMARY KEY, customer int, amount int);
	CREATE TABLE arriving (seq bigint PRIMARY KEY, item text);
	CREATE FUNCTION receive(event arriving) RETURNS void LANGUAGE plpgsql AS 'BEGIN INSERT INTO received VALUES (event.item); END';
	CREATE TABLE received (item text);
	INSERT INTO orders SELECT g, g % 5, g FROM generate_series(1, 1000) g;
	SELECT projections.register_source('arriving', 'seq', capture => 'trigger');
	SELECT projections.create('by_customer', 'SELECT customer, sum(amount) AS amount FROM orders GROUP BY customer', options => '{"finish": "swap"}');
	SELECT projections.create('logged', 'SELECT customer, count(*) AS n FROM orders GROUP BY customer', mode => 'async');
	SELECT projections.create_handler('receiver', 'arriving', 'receive(arriving)', '{received}');
});

sub orphans
{
	my ($database) = @_;
	return $node->safe_psql($database, q{SELECT kind || ': ' || object FROM projections.orphans()});
}

sub cleanup
{
	my ($database) = @_;
	return $node->safe_psql($database, q{SELECT kind || ': ' || object || ': ' || action FROM projections.cleanup_orphans()});
}

is(orphans('source'), '', 'nothing is left behind');

# A rebuild waits for a writer, who is there before it, and has its shadow already.
my $writer = $node->background_psql('source');
$writer->query_safe('BEGIN; INSERT INTO orders VALUES (2000, 1, 1);');
my $rebuild = IPC::Run::start([ 'psql', '-X', '-q', '-d', $node->connstr('source'), '-c', q{CALL projections.rebuild('by_customer')} ], \my $in, \my $out, \my $err);
ok($node->poll_query_until('source', q{SELECT count(*) = 1 FROM projections_internal.rebuild WHERE ended_at IS NULL AND shadow IS NOT NULL}), 'a rebuild has made its shadow');
is(orphans('source'), '', 'a shadow in use is no orphan');
my ($pid, $kept) = split /\|/, $node->safe_psql('source',
	q{SELECT holder_pid, object || ' ' || action || ' ' || holder_user || ' ' || (holder_since < now()) || ' ' || (holder_phase <> '') FROM projections.cleanup_orphans()});
like($kept, qr/^projections_internal\.by_customer_shadow kept \w+ true true$/, 'cleanup keeps it and tells the holder');
is($pid, $node->safe_psql('source', q{SELECT pid FROM pg_stat_activity WHERE query LIKE 'CALL projections.rebuild%'}), 'by its pid');

# A copy that was made meanwhile has the shadow, and nobody who rebuilds.
mkdir $node->backup_dir;
my $copy = $node->backup_dir . '/copy.sql';
$node->command_ok([ 'pg_dump', '-f', $copy, 'source' ], 'dump in a rebuild');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('copy'), '-f', $copy ], 'restored');
is(orphans('copy'), 'shadow: projections_internal.by_customer_shadow', 'the copy of a shadow in use is an orphan');
is(cleanup('copy'), 'shadow: projections_internal.by_customer_shadow: removed', 'and goes');
is($node->safe_psql('copy', q{SELECT equal FROM test.check_all()}), '2', 'the copy is equal');
is(orphans('source'), '', 'while the original is in use');

# Kills the rebuild's process, and waits until the server has started again: not for an answer, which it may still give
# before it knows. What a killed process says of itself stays until then.
sub crash
{
	my ($process) = @_;
	kill 'KILL', $process;
	$rebuild->finish;
	eval { $writer->quit };
	return poll_over_restart($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $process)");
}

# kill -9: the server starts again, and the shadow is an orphan.
ok(crash($pid), 'the server is up again');
is(orphans('source'), 'shadow: projections_internal.by_customer_shadow', 'the shadow of a killed rebuild is an orphan');
like($node->safe_psql('source', q{SELECT reason FROM projections.orphans()}), qr/^pid $pid of \w+, which rebuilt public\.by_customer, is gone; it was \w+/, 'with who left it');
is($node->safe_psql('source', q{SELECT severity || ' ' || problem || ' ' || hint FROM projections.validate() WHERE object = 'orphans'}),
	'WARNING 1 thing was left behind: shadow (1) SELECT * FROM projections.cleanup_orphans();', 'validate tells of it');
$node->safe_psql('source', q{INSERT INTO orders VALUES (3000, 1, 1)}); # goes into the shadow's log, too
is(cleanup('source'), 'shadow: projections_internal.by_customer_shadow: removed', 'cleanup removes it');
is(orphans('source'), '', 'all of it');
is($node->safe_psql('source', q{SELECT count(*) FROM pg_class WHERE relnamespace = 'projections_internal'::regnamespace AND relname LIKE 'by_customer_shadow%'}), '0',
	'table, definition and log');
is($node->safe_psql('source', q{SELECT outcome || ' ' || (ended_at IS NOT NULL) FROM projections_internal.rebuild}), 'died true', 'the rebuild is known to have died');
$node->safe_psql('source', q{CALL projections.rebuild('by_customer')});
$node->safe_psql('source', q{SELECT projections.catch_up()});
is($node->safe_psql('source', q{SELECT equal FROM test.check_all()}), '2', 'the next one succeeds');
is(orphans('source'), '', 'and leaves nothing behind');

# A killed rebuild's next one tidies up itself.
$writer = $node->background_psql('source');
$writer->query_safe('BEGIN; INSERT INTO orders VALUES (4000, 1, 1);');
$rebuild = IPC::Run::start([ 'psql', '-X', '-q', '-d', $node->connstr('source'), '-c', q{CALL projections.rebuild('by_customer')} ], \$in, \$out, \$err);
ok($node->poll_query_until('source', q{SELECT count(*) = 1 FROM projections_internal.rebuild WHERE ended_at IS NULL AND shadow IS NOT NULL}), 'a rebuild has made its shadow');
ok(crash($node->safe_psql('source', q{SELECT pid FROM projections_internal.rebuild WHERE ended_at IS NULL})), 'the server is up again');
is(orphans('source'), 'shadow: projections_internal.by_customer_shadow', 'an orphan');
$node->safe_psql('source', q{CALL projections.rebuild('by_customer')});
is(orphans('source'), '', 'the next rebuild removes it');

# A handler's rebuild has tables of its own, in a schema of their own. It cannot finish while somebody holds off its writes.
$node->safe_psql('source', q{INSERT INTO arriving VALUES (1, 'a'); SELECT projections.catch_up()});
$writer = $node->background_psql('source');
$writer->query_safe('BEGIN; LOCK TABLE received IN SHARE MODE;');
$rebuild = IPC::Run::start([ 'psql', '-X', '-q', '-d', $node->connstr('source'), '-c', q{CALL projections.rebuild('receiver')} ], \$in, \$out, \$err);
ok($node->poll_query_until('source', q{SELECT count(*) = 1 FROM projections_internal.rebuild WHERE ended_at IS NULL AND shadow IS NOT NULL}), 'a handler is being rebuilt');
is(orphans('source'), '', 'what it uses is no orphan');
ok(crash($node->safe_psql('source', q{SELECT pid FROM projections_internal.rebuild WHERE ended_at IS NULL})), 'the server is up again');
is(orphans('source'), 'shadow: projections_internal.receiver_shadow', 'then it is');
is(cleanup('source'), 'shadow: projections_internal.receiver_shadow: removed', 'removed');
is(orphans('source'), '', 'with all that belongs to it');
is($node->safe_psql('source', q{SELECT count(*) FROM pg_namespace WHERE obj_description(oid) LIKE 'pg_projections:%'}), '0', 'the schema of its tables, too');
is($node->safe_psql('source', q{SELECT count(*) FROM received}), '1', 'the live table is as it was');

# Dumps of parts. Triggers come with the tables, and nothing that would need them.
sub restore_part
{
	my ($database, $tables, @part) = @_;
	my $file = $node->backup_dir . "/$database.sql";
	$node->command_ok([ 'pg_dump', @part, '-f', $file, 'source' ], "$database: dump");
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, "CREATE EXTENSION pg_projections; $tables");
	$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($database), '-f', $file ], "$database: restored");
	return;
}

restore_part('tables', '', '-t', 'by_customer', '-t', 'orders');
is(orphans('tables'), join("\n", 'trigger: projections_capture on public.orders', 'trigger: projections_capture_truncate on public.orders',
		'trigger: projections_guard on public.by_customer', 'trigger: projections_guard_truncate on public.by_customer'), 'tables: their triggers are orphans');
$node->safe_psql('tables', 'INSERT INTO orders VALUES (5000, 1, 1); INSERT INTO by_customer (customer, amount, _count) VALUES (99, 1, 1);');
cleanup('tables');
is(orphans('tables'), '', 'tables: clean');
is($node->safe_psql('tables', 'SELECT count(*) FROM by_customer WHERE customer = 99'), '1', 'tables: rows stay');
$node->safe_psql('tables', q{
	DROP TABLE by_customer;
	SELECT projections.create('by_customer', 'SELECT customer, sum(amount) AS amount FROM orders GROUP BY customer');
	INSERT INTO orders VALUES (5001, 1, 1)});
is($node->safe_psql('tables', q{SELECT count(*) FROM projections.validate() WHERE severity = 'ERROR'}), '0', 'tables: projected again');

restore_part('hidden', 'CREATE TABLE orders (id int PRIMARY KEY, customer int, amount int)', '-t', 'projections_internal.by_customer_definition', '-t', 'projections_internal.logged_changes');
$node->safe_psql('hidden', 'CREATE TABLE projections_internal.stock_changes (change bigint); CREATE VIEW projections_internal.stock_definition AS SELECT 1 AS a');
is(orphans('hidden'), "definition: projections_internal.by_customer_definition\nchange log: projections_internal.logged_changes", 'hidden: definition and log are orphans');
cleanup('hidden');
is(orphans('hidden'), '', 'hidden: clean');
is($node->safe_psql('hidden', 'SELECT count(*) FROM projections_internal.stock_changes, projections_internal.stock_definition'), '0', 'hidden: what we did not make stays');

# Without comments nothing is known to be ours, so that nothing is removed; what is in use is in use.
my $bare = $node->backup_dir . '/bare.sql';
$node->command_ok([ 'pg_dump', '--no-comments', '-f', $bare, 'source' ], 'bare: dump');
$node->safe_psql('postgres', 'CREATE DATABASE bare');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('bare'), '-f', $bare ], 'bare: restored');
is($node->safe_psql('bare', q{SELECT object FROM projections.validate() WHERE object <> 'shared_preload_libraries'}), '', 'bare: nothing is wrong');
$node->safe_psql('bare', q{
	ALTER EVENT TRIGGER projections_after_drop DISABLE;
	DELETE FROM projections_internal.projection WHERE relation = 'by_customer'::regclass});
is(orphans('bare'), "trigger: projections_guard on public.by_customer\ntrigger: projections_guard_truncate on public.by_customer", 'bare: triggers are known by their function');

$node->stop;
done_testing();
