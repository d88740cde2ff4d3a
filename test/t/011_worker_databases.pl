# Workers are in no command's way: databases are dropped, renamed, copied and moved while workers serve them, and served again.
# Runs alone: how soon a database is given up is measured.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'pg_projections'
pg_projections.poll_interval = '1h'
max_worker_processes = 20
});
$node->start;

sub make_database
{
	my ($database) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, q{
		SET client_min_messages = warning;
		CREATE EXTENSION pg_projections;
		CREATE TABLE event (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item int NOT NULL);
		SELECT projections.register_source('event', 'position');
		SELECT projections.create('counted', 'SELECT item, count(*) AS n FROM event GROUP BY item', mode => 'async')});
}

# The projection follows: a worker is there.
sub served
{
	my ($database, $name) = @_;
	$node->safe_psql($database, 'INSERT INTO event (item) VALUES (1)');
	ok($node->poll_query_until($database, 'SELECT (SELECT sum(n) FROM counted) = (SELECT count(*) FROM event)'), $name);
}

# Runs a command that needs a database without sessions, in less time than core waits for sessions to go.
sub unhindered
{
	my ($command) = @_;
	my $before = time;
	$node->safe_psql('postgres', $command);
	cmp_ok(time - $before, '<', 4, $command);
}

my $workers = q{FROM pg_stat_activity WHERE backend_type = 'pg_projections worker'};
make_database('shop');
served('shop', 'a new database is served');
unhindered('CREATE DATABASE branch TEMPLATE shop');
served('branch', 'a copy is served');
served('shop', 'the template is served again');
unhindered('ALTER DATABASE branch RENAME TO outlet');
served('outlet', 'a renamed database is served');
mkdir $node->basedir . '/space';
$node->safe_psql('postgres', "CREATE TABLESPACE space LOCATION '" . $node->basedir . "/space'");
unhindered('ALTER DATABASE outlet SET TABLESPACE space');
served('outlet', 'a moved database is served');

# An error of the command gives the database back to its workers.
$node->safe_psql('postgres', 'CREATE ROLE other LOGIN CREATEDB');
my ($code, $out, $err) = $node->psql('postgres', 'ALTER DATABASE outlet RENAME TO shop');
like($err, qr/database "shop" already exists/, 'a command that fails');
served('outlet', 'leaves the database served');
my $session = $node->background_psql('outlet');
($code, $out, $err) = $node->psql('postgres', 'ALTER DATABASE outlet RENAME TO elsewhere');
like($err, qr/is being accessed by other users\nDETAIL:  There is 1 other session/, 'only sessions of users are in the way');
$session->quit;
served('outlet', 'and the workers are back');

# Who may not drop a database cannot stop its workers.
my $pid = $node->safe_psql('postgres', "SELECT pid $workers AND datname = 'outlet'");
($code, $out, $err) = $node->psql('postgres', 'SET ROLE other; DROP DATABASE outlet');
like($err, qr/must be owner of database/, 'not the owner');
is($node->safe_psql('postgres', "SELECT count(*) $workers AND pid = $pid"), '1', 'the worker was left alone');

unhindered('DROP DATABASE outlet');
$node->safe_psql('postgres', 'CREATE DATABASE outlet TEMPLATE shop');
unhindered('DROP DATABASE outlet WITH (FORCE)');
served('shop', 'the others are served');

# In a transaction, the hold lasts as long as the transaction.
$session = $node->background_psql('postgres');
$session->query_safe('BEGIN; ALTER DATABASE shop RENAME TO store');
is($node->safe_psql('postgres', "SELECT count(*) $workers"), '0', 'no worker while the renaming transaction is open');
$session->query_safe('ROLLBACK');
$session->quit;
served('shop', 'served after its end');

# What is set for the sessions of a database is not for its workers.
$node->safe_psql('postgres', "ALTER DATABASE shop SET $_") for 'default_transaction_read_only = on', 'default_transaction_isolation = serializable', 'statement_timeout = 1', 'search_path = nowhere';
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid, 60000) $workers AND datname = 'shop'");
{
	local $ENV{PGOPTIONS} = '-c default_transaction_read_only=off -c statement_timeout=0 -c search_path=public';
	served('shop', 'served, whatever is set for sessions');
}
$node->safe_psql('postgres', 'ALTER DATABASE shop RESET ALL');

# A template is to be copied at any time: it has no workers.
$node->safe_psql('postgres', 'ALTER DATABASE shop IS_TEMPLATE true');
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 $workers"), 'a template is left');
$node->safe_psql('postgres', 'ALTER DATABASE shop IS_TEMPLATE false');
served('shop', 'an ordinary database again');

# A database that comes with its projections in a dump.
my $dump = $node->backup_dir . '/dump.sql';
mkdir $node->backup_dir;
$node->command_ok([ 'pg_dump', '-f', $dump, 'shop' ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'restored', '-f', $dump ], 'restored');
served('restored', 'a restored database is served');

is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_projections worker' AND datname IN ('postgres', 'template1')}),
	'0', 'no worker where there is nothing to do');

# The extension goes, and with it the worker; so the database can be dropped by a session without our hooks, too.
$node->safe_psql('restored', q{SET client_min_messages = warning; SELECT projections.drop('counted'); SELECT projections.unregister_source('event'); DROP EXTENSION pg_projections});
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 $workers AND datname = 'restored'"), 'no worker without the extension');

# Copied while a backlog is being applied.
make_database('busy');
for my $round (1 .. 10)
{
	$node->safe_psql('busy', 'INSERT INTO event (item) SELECT g % 5 FROM generate_series(1, 1000) g');
	$node->safe_psql('postgres', "CREATE DATABASE busy_copy TEMPLATE busy");
	$node->safe_psql('postgres', "DROP DATABASE busy_copy");
}
served('busy', 'copied ten times while it was appended to');
$node->stop;
my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP|terminated by signal/, 'nothing crashed');
done_testing();
