# A streaming replica: it shows how projections are while it follows, and goes on exactly where they stood when it is promoted,
# after the primary's sudden death as after a planned switch-over.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('first');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', q{
shared_preload_libraries = 'pg_projections'
pg_projections.poll_interval = '500ms'
max_prepared_transactions = 5
max_worker_processes = 16
hot_standby_feedback = on
});
$primary->start;
$primary->safe_psql('postgres', 'CREATE EXTENSION pg_projections; \i test/oracle.sql');
$primary->safe_psql('postgres', q{
	SET client_min_messages = error;
	CREATE TABLE customer (id int PRIMARY KEY, country text);
	CREATE TABLE purchase (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int, amount numeric(10,2));
	CREATE TABLE move (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind text, item text, quantity int, at timestamptz DEFAULT now());
	CREATE TABLE seen (item text PRIMARY KEY, moves int);
	SELECT projections.register_source('move', position_column => 'position', type_column => 'kind', time_column => 'at');
	CREATE FUNCTION add(state jsonb, event move, key text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$SELECT to_jsonb(coalesce((state #>> '{}')::int, 0) + event.quantity)$$;
	CREATE FUNCTION see(event move) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO seen VALUES (event.item, 1) ON CONFLICT (item) DO UPDATE SET moves = seen.moves + 1; END $$;
	SELECT projections.create('revenue', 'SELECT c.country, sum(o.amount) AS amount, max(o.amount) AS most FROM purchase o JOIN customer c ON c.id = o.customer GROUP BY c.country');
	SELECT projections.create('by_size', 'SELECT amount > 500 AS large, count(*) AS n FROM revenue GROUP BY amount > 500');
	SELECT projections.create('item_totals', 'SELECT item, sum(quantity) AS quantity, max(quantity) AS most FROM move GROUP BY item', 'async', options => '{"slots": 2}');
	SELECT projections.create('per_customer', 'SELECT customer, count(*) AS n FROM purchase GROUP BY customer', 'async');
	SELECT projections.create('stored', 'SELECT stream, count(*) AS n, max(version) AS version FROM projections.events GROUP BY stream', 'async');
	SELECT projections.create_reducer('balance', 'move', 'item', 'add(jsonb, move, text)');
	SELECT projections.create_handler('sightings', 'move', 'see(move)', '{seen}', partition_by => 'item');
	INSERT INTO customer SELECT g, 'country ' || g % 3 FROM generate_series(1, 20) g;
});

my $write = $primary->basedir . '/write.sql';
append_to_file($write, q{
\set item random(0, 9)
\set quantity random(1, 9)
BEGIN;
INSERT INTO purchase (customer, amount) VALUES (1 + :item, :quantity);
DELETE FROM purchase WHERE id = (SELECT id FROM purchase ORDER BY amount DESC, id LIMIT 1 OFFSET :item * 10);
INSERT INTO move (kind, item, quantity) VALUES ('moved', 'item ' || :item, :quantity);
SELECT FROM projections.append('stream ' || :item, 'noted', '{}');
COMMIT;
});
my $noise = '';

sub writers
{
	my ($node) = @_;
	$noise = '';
	my $writers = IPC::Run::start([ 'pgbench', '-n', '-c', '3', '-T', '250', '-R', '100', '-f', $write, '-h', $node->host, '-p', $node->port, 'postgres' ], '<', '/dev/null', '>&', \$noise);
	my $before = $node->safe_psql('postgres', 'SELECT coalesce(max(position), 0) FROM move');
	$node->poll_query_until('postgres', "SELECT coalesce(max(position), 0) > $before + 100 FROM move") or die "nobody writes: $noise";
	return $writers;
}

# Once everything is applied and nobody writes.
sub all_equal
{
	my ($node, $name) = @_;
	$node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM projections.health() WHERE lag_events > 0 OR status <> 'healthy'})
	  or diag $node->safe_psql('postgres', 'SELECT * FROM projections.health()');
	is($node->safe_psql('postgres', q{
		(SELECT item, sum(quantity) FROM move GROUP BY item EXCEPT SELECT key, state::text::bigint FROM balance) UNION ALL
		(SELECT key, state::text::bigint FROM balance EXCEPT SELECT item, sum(quantity) FROM move GROUP BY item);
		(SELECT item, count(*) FROM move GROUP BY item EXCEPT SELECT item, moves FROM seen) UNION ALL (SELECT item, moves FROM seen EXCEPT SELECT item, count(*) FROM move GROUP BY item);
		SELECT stream FROM projections.streams s WHERE version <> (SELECT count(*) FROM projections.events e WHERE e.stream = s.stream);
		SELECT 'checked', equal FROM test.check_all()
	}), 'checked|5', "$name: every projection is exact");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM projections.failures'), '0', "$name: no failure");
}

# Workers: those of this server alone, in its own processes.
my $workers = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_projections%'};

sub follow
{
	my ($from, $name) = @_;
	$from->backup("for_$name");
	my $standby = PostgreSQL::Test::Cluster->new($name);
	$standby->init_from_backup($from, "for_$name", has_streaming => 1);
	$standby->start;
	return $standby;
}

sub looks_like_standby
{
	my ($standby, $from) = @_;
	my $ahead = $from->safe_psql('postgres', 'SELECT max(position) FROM move');
	$standby->poll_query_until('postgres', "SELECT max(position) > $ahead FROM move") or die 'the replica does not follow';
	is($standby->safe_psql('postgres', 'SELECT DISTINCT status FROM projections.status'), 'standby', 'status says standby');
	is($standby->safe_psql('postgres', q{SELECT count(*), bool_and(status = 'standby'), bool_and(hint IS NULL), sum(failures) FROM projections.health()}), '7|t|t|0', 'health() tells of each, without alarm');
	is($standby->safe_psql('postgres', q{SELECT h ->> 'status', (SELECT count(*) FROM jsonb_object_keys(h -> 'projectionStatus')) FROM projections.health_json() h}), 'Healthy|7', 'health_json()');
	is($standby->safe_psql('postgres', 'SELECT projections.healthy()'), 't', 'healthy()');
	is($standby->safe_psql('postgres', 'SELECT matches FROM projections.version()'), 't', 'version()');
	cmp_ok($standby->safe_psql('postgres', 'SELECT count(*) FROM projections.checkpoints'), '==', 6, 'checkpoints');
	for my $reads ('projections.metrics()', 'projections.validate()', 'projections.orphans()', 'projections.audit_log', 'projections.workers', 'projections.definitions', 'projections.rebuilds',
		'projections.throughput', 'projections.activity', 'projections.conflicts', 'projections.hot_keys', 'projections.failures')
	{
		my ($status, undef, $error) = $standby->psql('postgres', "SELECT count(*) FROM $reads");
		is("$status$error", '0', "$reads can be read");
	}
	my ($status, undef, $error) = $standby->psql('postgres', q{SELECT projections.pause('balance', 'why')});
	like($error, qr/ERROR:  cannot execute .* in a read-only transaction|ERROR:  cannot .* during recovery/, 'what changes something is refused');
	is($standby->safe_psql('postgres', $workers), '0', 'no worker runs there');
}

# The rows that a standby shows are in step with each other: one snapshot sees sources, projections and checkpoints alike.
sub in_step
{
	my ($standby) = @_;
	is($standby->safe_psql('postgres', q{SELECT verdict FROM (SELECT projection, test.check(projection::regclass) AS verdict FROM projections.definitions WHERE mode = 'inline') x WHERE verdict NOT LIKE 'equal%'}),
		'', 'inline projections are exact on the standby, under load');
	is($standby->safe_psql('postgres', q{
		WITH reached AS (SELECT position AS p FROM projections.checkpoints WHERE projection = 'public.balance')
		SELECT count(*) FROM (SELECT item, sum(quantity) FROM move, reached WHERE position <= p GROUP BY item EXCEPT SELECT key, state::text::bigint FROM balance) x}),
		'0', 'and an async one as of its checkpoint');
}

# ------------------------------------------------------------------------------------------------- sudden death

my $second = follow($primary, 'second');
my $writers = writers($primary);
looks_like_standby($second, $primary);
in_step($second) for 1 .. 3;
# What was prepared on the primary holds its positions on the next one.
$primary->safe_psql('postgres', q{BEGIN; INSERT INTO move (kind, item, quantity) VALUES ('prepared', 'item 1', 100); INSERT INTO purchase (customer, amount) VALUES (99, 1); PREPARE TRANSACTION 'left'});
$primary->wait_for_catchup($second, 'replay', $primary->lsn('insert'));

my $pid = $primary->{_pid};
kill 'KILL', $pid or die "cannot kill $pid";
$writers->finish;
like($noise, qr/aborted/, 'the writers have lost their server');
$primary->{_pid} = undef;

my $seen = $second->safe_psql('postgres', 'SELECT max(position) FROM move');
my $stored = $second->safe_psql('postgres', 'SELECT max(position) FROM projections.events');
$second->promote;
$second->poll_query_until('postgres', "SELECT ($workers) >= 2") or die 'no worker comes';
pass('launcher and worker start by themselves');
my $next = $second->safe_psql('postgres', q{INSERT INTO move (kind, item, quantity) VALUES ('moved', 'item 2', 1) RETURNING position});
cmp_ok($next, '>', $seen, 'positions go on');
cmp_ok($second->safe_psql('postgres', q{SELECT last_position FROM projections.append('stream 1', 'noted', '{}')}), '>', $stored, 'those of the event store, too');
# The prepared event is before it, and comes later.
$second->poll_query_until('postgres', q{SELECT message ~ 'prepared transaction ''left'' holds back' FROM projections.health('balance')}) or die 'health() does not name what holds back';
is($second->safe_psql('postgres', qq{SELECT bool_and(position < $next) FROM projections.checkpoints WHERE projection IN ('public.balance', 'public.sightings', 'public.item_totals')}), 't',
	'nothing goes past the prepared event');
$writers = writers($second);
$second->safe_psql('postgres', q{COMMIT PREPARED 'left'});
is($second->safe_psql('postgres', q{SELECT projections.wait_for('balance', timeout => '30 s')}), 't', 'projections catch up under load');
$writers->signal('INT');
$writers->finish;
unlike($noise, qr/aborted/, 'no writer failed') or diag $noise;
all_equal($second, 'after the sudden death');
is($second->safe_psql('postgres', q{SELECT operation, projection, outcome, sqlstate FROM projections.audit_log WHERE operation = 'pause'}), 'pause|public.balance|failed|25006',
	'what was refused on the standby is recorded once that can write');
is($second->safe_psql('postgres', q{SELECT count(*) FROM move WHERE kind = 'prepared'}), '1', 'what was prepared is there');

# -------------------------------------------------------------------------------------------- planned switch-over

$writers = writers($second);
my $third = follow($second, 'third');
looks_like_standby($third, $second);
$second->stop('fast');
$writers->finish;
my $left = $third->safe_psql('postgres', 'SELECT count(*) FROM move');
$third->promote;
$third->poll_query_until('postgres', "SELECT ($workers) >= 2") or die 'no worker comes';
all_equal($third, 'after the switch-over');
$writers = writers($third);
$writers->signal('INT');
$writers->finish;
unlike($noise, qr/aborted/, 'no writer failed') or diag $noise;
all_equal($third, 'and under new load');
cmp_ok($third->safe_psql('postgres', 'SELECT count(*) FROM move'), '>', $left, 'events have come');

# The first one, which was killed, recovers by itself: a fork of history, but an exact one.
$primary->start;
$primary->safe_psql('postgres', q{ROLLBACK PREPARED 'left'});
all_equal($primary, 'after crash recovery');

$_->stop for $primary, $third;
unlike(slurp_file($_->logfile), qr/PANIC|TRAP|signal 11|signal 6/, $_->name . ' stayed up') for $primary, $second, $third;
done_testing();
