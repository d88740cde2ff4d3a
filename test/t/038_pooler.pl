# Through PgBouncer in transaction mode, where a client gets another session for each transaction: nothing that a projection,
# the event store or a reader needs stays in a session.
use strict;
use warnings;
use IPC::Run;
use Time::HiRes qw(usleep);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($pgbouncer) = grep { -x } '/usr/sbin/pgbouncer', '/usr/bin/pgbouncer';
plan skip_all => 'pgbouncer is not installed' unless $pgbouncer;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_projections'\npg_projections.poll_interval = '50ms'\n");
$node->start;
my $user = $node->safe_psql('postgres', 'SELECT current_user');
my ($directory, $port) = (PostgreSQL::Test::Utils::tempdir(), PostgreSQL::Test::Cluster::get_free_port());
append_to_file("$directory/users.txt", qq{"$user" ""\n});
# Three sessions for all clients; what a session has set is not reset in transaction mode.
append_to_file("$directory/pgbouncer.ini", sprintf(q{
[databases]
postgres = host=%s port=%d dbname=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = trust
auth_file = %s/users.txt
pool_mode = transaction
default_pool_size = 3
max_client_conn = 200
server_reset_query = DISCARD ALL
logfile = %s/pgbouncer.log
pidfile = %s/pgbouncer.pid
}, $node->host, $node->port, $port, ($directory) x 3));
my $pooler = IPC::Run::start([ $pgbouncer, "$directory/pgbouncer.ini" ], '<', \undef, '>', "$directory/out", '2>', "$directory/error");
my $pooled = "host=127.0.0.1 port=$port dbname=postgres user=$user";
my $scripts = 0;
sub pooled
{
	my ($sql) = @_;
	my ($script, $out, $error) = ("$directory/" . ++$scripts . '.sql');
	append_to_file($script, $sql);
	my $ok = IPC::Run::run([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $pooled, '-f', $script ], '>', \$out, '2>', \$error);
	chomp $out;
	return wantarray ? ($ok, $out, $error) : $out;
}
my $up = 0;
for (1 .. 200) { last if $up = (pooled('SELECT 1') // '') eq '1'; usleep(100_000) }
ok($up, 'PgBouncer answers') or diag(slurp_file("$directory/error"));

my ($created, undef, $complaint) = pooled(q{
	SET client_min_messages = error;
	CREATE EXTENSION pg_projections;
	CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL);
	CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int NOT NULL REFERENCES customers, amount int NOT NULL);
	CREATE INDEX ON orders (customer);
	INSERT INTO customers SELECT i, 'c' || i FROM generate_series(1, 50) i;
	SELECT projections.create('totals', 'SELECT c.id, c.name, count(o.id) AS n, sum(o.amount) AS amount FROM customers c LEFT JOIN orders o ON o.customer = c.id GROUP BY c.id, c.name');
	SELECT projections.create('buyers', 'SELECT c.id FROM customers c WHERE EXISTS (SELECT FROM orders o WHERE o.customer = c.id)');
	SELECT projections.create('documents', 'SELECT c.id, (SELECT jsonb_agg(o.amount ORDER BY o.id) FROM orders o WHERE o.customer = c.id) AS amounts FROM customers c');
	SELECT projections.create('later', 'SELECT customer, sum(amount) AS amount FROM orders GROUP BY customer', 'async');
	SELECT projections.create('placed', $$SELECT data ->> 'customer' AS customer, count(*) AS n FROM projections.events GROUP BY 1$$, 'async');
});
ok($created, 'projections are created through it') or diag($complaint);
$node->safe_psql('postgres', '\i test/oracle.sql');

# Clients that prepare statements cannot do so by name in this mode of PgBouncer's before 1.21; without a name they can.
for my $protocol ('simple', 'extended')
{
	append_to_file("$directory/$protocol.sql", q{\set c random(1, 50)
BEGIN;
INSERT INTO orders (customer, amount) VALUES (:c, :c);
UPDATE orders SET amount = amount + 1 WHERE customer = :c AND id % 7 = 0;
SELECT n FROM totals WHERE id = :c;
COMMIT;
SELECT count(*) FROM projections.append('order-' || random(), 'Placed', jsonb_build_object('customer', :c::int));
DELETE FROM orders WHERE id = (SELECT max(id) FROM orders WHERE customer = :c) AND random() < 0.3;
SELECT count(*) FROM buyers;
});
	my ($out, $error);
	my $ok = IPC::Run::run([ 'pgbench', '-n', '-M', $protocol, '-c', '12', '-j', '2', '-t', '25', '--max-tries=100', '-f', "$directory/$protocol.sql", $pooled ], '>', \$out, '2>', \$error);
	ok($ok && $out =~ m{number of transactions actually processed: 300/300}, "12 clients on 3 sessions, protocol $protocol") or diag("$out$error");
}
is($node->safe_psql('postgres', q{SELECT count(*) FROM projections.definitions d, test.wrong(d.relation) w WHERE w.problem IS NOT NULL AND d.projection IN ('public.totals', 'public.buyers', 'public.documents')}), '0', 'inline projections equal their queries');
is(pooled(q{SELECT projections.wait_for('later', timeout => '30 s'), projections.wait_for('placed', timeout => '30 s')}), 't|t', 'wait_for waits through it');
is($node->safe_psql('postgres', q{SELECT count(*) FROM projections.definitions d, test.wrong(d.relation) w WHERE w.problem IS NOT NULL}), '0', 'and async ones have all of it');
is(pooled(q{INSERT INTO orders (customer, amount) VALUES (1, 1); SELECT (projections.read('later', '{"customer": 1}', '30 s') ->> 'amount')::int = (SELECT sum(amount) FROM orders WHERE customer = 1)}), 't', 'read() reads what was just written');

# What one client sets or leaves open reaches no other one's maintenance.
pooled(q{SET search_path = pg_temp; SET timezone = 'Asia/Tokyo'; SET pg_projections.flush = statement;}) for 1 .. 4;
my ($failed, undef, $error) = pooled(q{BEGIN; INSERT INTO public.orders (customer, amount) VALUES (2, 5); SAVEPOINT s; DELETE FROM public.orders WHERE customer = 2; ROLLBACK TO s; SELECT n FROM public.totals WHERE id = 2; COMMIT;});
ok($failed, 'a transaction with a savepoint and a read in between') or diag($error);
is($node->safe_psql('postgres', q{SELECT count(*) FROM projections.definitions d, test.wrong(d.relation) w WHERE w.problem IS NOT NULL AND d.projection <> 'public.later'}), '0', 'all is right after what clients have set');
my ($conflict) = pooled(q{SELECT projections.append('order-x', 'Placed', '{}', expected_version => 3)});
ok(!$conflict, 'an append that expects another version is refused');
is($node->safe_psql('postgres', q{SELECT count(*) FROM projections.status WHERE status <> 'healthy'}), '0', 'all are healthy');
$pooler->kill_kill;
$node->stop;
done_testing();
