# Change logs while they are consumed: catch_up() is held at a lock, and another transaction commits meanwhile.
use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', 'max_prepared_transactions = 10');
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION pg_projections; \i test/oracle.sql');
$node->safe_psql('postgres', q{
	SET client_min_messages = error;
	CREATE TABLE items (id int PRIMARY KEY, category text, price int);
	SELECT projections.create('prices', 'SELECT category, sum(price) AS price, count(*) AS n FROM items GROUP BY category', 'async');
	INSERT INTO items VALUES (1, 'tea', 1), (2, 'ale', 2);
	SELECT projections.catch_up('prices');
});
my $log = value(q{SELECT changes[1] FROM projections_internal.projection WHERE relation = 'prices'::regclass});

sub value { return $node->safe_psql('postgres', $_[0]) }
sub begin { return IPC::Run::start([ 'psql', '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-c', $_[0] ], '>', '/dev/null') }
sub waiting { return $node->poll_query_until('postgres', "SELECT count(*) = $_[0] FROM pg_stat_activity WHERE wait_event_type = 'Lock'") }
my $equal = q{SELECT missing + extra FROM test.oracle('prices')};

# What is deleted from the log is what was read, under one snapshot. The prepared transaction has logged under the lower
# number. Who wants the log for himself waits for it, and catch_up() behind him, with the snapshot it has taken.
$node->safe_psql('postgres', q{BEGIN; INSERT INTO items VALUES (3, 'tea', 10); PREPARE TRANSACTION 'lower'});
$node->safe_psql('postgres', q{INSERT INTO items VALUES (4, 'ale', 20)});
my $gate = begin("BEGIN; LOCK TABLE $log; COMMIT");
ok(waiting(1), 'the log is asked for');
my $reader = begin(q{SELECT projections.catch_up('prices')});
ok(waiting(2), 'catch_up waits for it');
$node->safe_psql('postgres', q{COMMIT PREPARED 'lower'});
$gate->finish;
ok($reader->finish, 'catch_up has ended');
$node->safe_psql('postgres', q{SELECT projections.catch_up('prices')});
is(value($equal), '0', 'the change that came in between is not lost');

# The checkpoint does not pass what came after the log was read: workers look for no more than what is behind it.
my $holder = $node->background_psql('postgres', on_error_stop => 1);
$holder->query_safe(q{BEGIN; SELECT 1 FROM prices WHERE category = 'tea' FOR UPDATE});
$node->safe_psql('postgres', q{INSERT INTO items VALUES (5, 'tea', 100)});
$reader = begin(q{SELECT projections.catch_up('prices')});
ok(waiting(1), 'catch_up has read the log, and waits for the row');
$node->safe_psql('postgres', q{INSERT INTO items VALUES (6, 'ale', 200)});
$holder->query_safe('COMMIT');
$holder->quit;
ok($reader->finish, 'catch_up has ended');
is(value("SELECT (SELECT position FROM projections_internal.slot WHERE projection = 'prices'::regclass) < (SELECT max(change) FROM $log)"), 't',
	'the checkpoint is before the change that is left');
$node->safe_psql('postgres', q{SELECT projections.catch_up('prices')});
is(value($equal), '0', 'equal');

$node->stop;
done_testing();
