# A rebuild whose process, or server, is killed in each of its phases, under writers: the projection stays equal, the next rebuild
# works and leaves nothing behind.
use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Restart;
use Time::HiRes qw(usleep);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
restart_after_crash = on
pg_projections.swap_lock_timeout = '1min'
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION pg_projections; \i test/oracle.sql');
$node->safe_psql('postgres', q{
	SET client_min_messages = warning;
	CREATE TABLE customers (id int PRIMARY KEY, country text);
	CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int, price int);
	INSERT INTO customers SELECT i, 'country ' || i % 7 FROM generate_series(0, 99) AS i;
	INSERT INTO orders (customer, price) SELECT i % 100, i % 50 FROM generate_series(1, 5000) AS i;
	SELECT projections.create('lines', 'SELECT id, customer, price FROM orders', options => '{"finish": "swap"}');
	SELECT projections.create('revenue', 'SELECT country, sum(price) AS amount, max(price) AS high, count(*) AS n FROM customers AS c JOIN orders ON customer = c.id GROUP BY country',
		options => '{"finish": "swap"}');
});

# What a session runs, one line at a time; it is not waited for.
sub session
{
	my $session = { in => '', out => '', err => '' };
	$session->{process} = IPC::Run::start([ 'psql', '-X', '-q', '-A', '-t', '-d', $node->connstr('postgres') ],
		'<', \$session->{in}, '>', \$session->{out}, '2>', \$session->{err});
	return $session;
}
sub run_in
{
	my ($session, $sql) = @_;
	$session->{in} .= "$sql\n";
	$session->{process}->pump_nb;
	return;
}
sub has_said
{
	my ($session, $what) = @_;
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;
	until ($session->{out} =~ $what)
	{
		die "never said $what: $session->{err}" if time > $end;
		$session->{process}->pump_nb;
		usleep(10_000);
	}
	return;
}
sub end_session
{
	my ($session) = @_;
	$session->{in} .= "\\q\n";
	eval { $session->{process}->finish; 1 } or eval { $session->{process}->kill_kill };
	return;
}

# What the rebuild's process waits for, and whether it holds the live table for its session.
my $state = q{SELECT coalesce((SELECT r.phase || '/' || coalesce(a.wait_event, '') || '/' || coalesce((SELECT string_agg(DISTINCT l.mode || CASE WHEN l.granted THEN '' ELSE '?' END, ',') FROM pg_locks AS l
	WHERE l.pid = r.pid AND l.relation = r.projection::oid AND l.mode IN ('ShareRowExclusiveLock', 'AccessExclusiveLock')), '')
	FROM projections_internal.rebuild AS r JOIN pg_stat_activity AS a ON a.pid = r.pid WHERE r.ended_at IS NULL ORDER BY r.id DESC LIMIT 1), '')};
sub arrived
{
	my ($what) = @_;
	return $node->poll_query_until('postgres', "SELECT ($state) ~ '$what'");
}
sub granted
{
	my ($table, $mode) = @_;
	return $node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = '$table'::regclass AND mode = '$mode' AND granted)");
}

my %holds = (
	waiting => sub {
		my ($name, $first) = @_;
		run_in($first, 'BEGIN; LOCK TABLE orders IN ROW EXCLUSIVE MODE;');
		granted('orders', 'RowExclusiveLock');
		return sub { arrived('^waiting/virtualxid') };
	},
	copying => sub {
		my ($name, $first, $second) = @_;
		run_in($first, 'BEGIN; LOCK TABLE orders IN ROW EXCLUSIVE MODE;');
		granted('orders', 'RowExclusiveLock');
		return sub {
			arrived('^waiting/virtualxid');
			run_in($second, 'BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE;');
			$node->poll_query_until('postgres', q{SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'orders'::regclass AND mode = 'AccessExclusiveLock')});
			run_in($first, 'COMMIT;');
			arrived('^copying/relation');
		};
	},
	indexing => sub {
		my ($name, $first, $second) = @_;
		run_in($first, 'BEGIN; LOCK TABLE orders IN ROW EXCLUSIVE MODE;');
		granted('orders', 'RowExclusiveLock');
		return sub {
			arrived('^waiting/virtualxid');
			run_in($second, "BEGIN; LOCK TABLE projections_internal.${name}_shadow IN SHARE UPDATE EXCLUSIVE MODE;");
			granted("projections_internal.${name}_shadow", 'ShareUpdateExclusiveLock');
			run_in($first, 'COMMIT;');
			arrived('^indexing/relation');
		};
	},
	'catching up' => sub {
		my ($name, $first, $second) = @_;
		run_in($first, 'BEGIN; LOCK TABLE orders IN ROW EXCLUSIVE MODE;');
		granted('orders', 'RowExclusiveLock');
		return sub {
			arrived('^waiting/virtualxid');
			run_in($second, "BEGIN; LOCK TABLE projections_internal.${name}_shadow IN SHARE UPDATE EXCLUSIVE MODE;");
			granted("projections_internal.${name}_shadow", 'ShareUpdateExclusiveLock');
			run_in($first, 'COMMIT;');
			arrived('^indexing/relation');
			my $log = $node->safe_psql('postgres', 'SELECT changes[1] FROM projections_internal.projection WHERE shadow_of IS NOT NULL');
			run_in($first, "BEGIN; LOCK TABLE $log IN ACCESS EXCLUSIVE MODE;");
			granted($log, 'AccessExclusiveLock');
			run_in($second, 'COMMIT;');
			arrived('^catching up/relation');
		};
	},
	'finishing, before the lock' => sub {
		my ($name, $first) = @_;
		run_in($first, "BEGIN; LOCK TABLE $name IN SHARE UPDATE EXCLUSIVE MODE;");
		granted($name, 'ShareUpdateExclusiveLock');
		return sub { arrived('^finishing/relation/ShareRowExclusiveLock\?') };
	},
	'finishing, waiting for snapshots' => sub {
		my ($name, $first) = @_;
		run_in($first, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 'snapshot' WHERE EXISTS (SELECT FROM customers);");
		has_said($first, qr/snapshot/);
		return sub { arrived('^finishing/Extension/ShareRowExclusiveLock$') };
	},
	'finishing, before the exchange' => sub {
		my ($name, $first) = @_;
		run_in($first, "BEGIN; LOCK TABLE $name IN ACCESS SHARE MODE;");
		granted($name, 'AccessShareLock');
		return sub { arrived('^finishing/relation/AccessExclusiveLock\?') };
	});

my $writes = PostgreSQL::Test::Utils::tempdir() . '/writes';
append_to_file($writes, q{
\set id random(1, 5000)
\set customer random(0, 99)
\set price random(1, 100)
BEGIN;
UPDATE orders SET price = :price, customer = :customer WHERE id = :id;
INSERT INTO orders (customer, price) VALUES (:customer, :price);
DELETE FROM orders WHERE id = :id + 5000;
COMMIT;
});

sub nothing_left
{
	return $node->safe_psql('postgres', q{
		SELECT (SELECT count(*) FROM projections_internal.projection WHERE shadow_of IS NOT NULL), (SELECT count(*) FROM pg_class WHERE relnamespace = 'projections_internal'::regnamespace AND relname LIKE '%shadow%'),
		       (SELECT count(*) FROM projections_internal.rebuild WHERE ended_at IS NULL OR shadow IS NOT NULL)});
}

sub crash
{
	my ($phase, $name, $victim) = @_;
	my ($first, $second, $rebuilder) = (session(), session(), session());
	my $held = $holds{$phase}->($name, $first, $second);
	my $writers = IPC::Run::start([ 'pgbench', '-n', '-c', '3', '-T', '300', '-f', $writes, $node->connstr('postgres') ], '<', \undef, '>', \my $report, '2>', \my $errors);
	run_in($rebuilder, "CALL projections.rebuild('$name');");
	ok($held->(), "$phase, $victim: held") or diag($rebuilder->{err}, $node->safe_psql('postgres', $state));
	if ($victim eq 'backend')
	{
		my $pid = $node->safe_psql('postgres', 'SELECT pid FROM projections_internal.rebuild WHERE ended_at IS NULL');
		my $began = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time(), backend_start FROM pg_stat_activity WHERE backend_type = \'checkpointer\'');
		kill 'KILL', $pid;
		poll_over_restart($node, "SELECT backend_start::text <> split_part('$began', '|', 2) FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
	}
	else
	{
		my @processes = split /\n/, $node->safe_psql('postgres', 'SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()');
		$node->kill9;
		$writers->finish;
		# They notice that the postmaster has gone; until then no other can start.
		my $tries = 1800;
		usleep(100_000) while grep({ kill 0, $_ } @processes) && $tries-- > 0;
		$node->start;
	}
	$writers->finish;
	end_session($_) for $first, $second, $rebuilder;
	is($node->safe_psql('postgres', 'SELECT equal FROM test.check_all()'), '2', "$phase, $victim: equal after the crash");
	isnt(nothing_left(), '0|0|0', "$phase, $victim: something is left of it");
	# Writers go on, with a shadow that nobody will need.
	$node->safe_psql('postgres', 'DELETE FROM orders WHERE id % 10 = 3; UPDATE orders SET price = price + 1 WHERE id % 10 = 5');
	is($node->safe_psql('postgres', 'SELECT equal FROM test.check_all()'), '2', "$phase, $victim: maintained after the crash");
	$node->safe_psql('postgres', "CALL projections.rebuild('$name')");
	is($node->safe_psql('postgres', 'SELECT equal FROM test.check_all()'), '2', "$phase, $victim: equal after the next rebuild");
	is(nothing_left(), '0|0|0', "$phase, $victim: the next rebuild removes what was left");
	is($node->safe_psql('postgres', 'SELECT string_agg(outcome, \' \' ORDER BY id DESC) FROM (SELECT id, outcome FROM projections_internal.rebuild ORDER BY id DESC LIMIT 2) AS r'), 'done died', "$phase, $victim: outcomes");
	$node->safe_psql('postgres', 'DELETE FROM orders WHERE id > 6000');
	return;
}

my $number = 0;
for my $phase ('waiting', 'copying', 'indexing', 'catching up', 'finishing, before the lock', 'finishing, waiting for snapshots', 'finishing, before the exchange')
{
	crash($phase, $number++ % 2 ? 'lines' : 'revenue', $_) for 'backend', 'postmaster';
}

$node->stop;
done_testing();
