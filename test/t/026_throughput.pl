# What workers and sessions do is counted once, is told while it runs, and survives whoever did it.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'pg_projections'
restart_after_crash = on
});
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_projections;
	SET client_min_messages = warning;
	CREATE TABLE event (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text, quantity int);
	SELECT projections.register_source('event', 'position');
	CREATE FUNCTION slow(quantity int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN IF quantity = 7 THEN PERFORM pg_sleep(600); END IF; RETURN 100 / quantity; END $$;
	SELECT projections.create('stock', 'SELECT item, sum(slow(quantity)) AS quantity FROM event GROUP BY item', mode => 'async', options => '{"max_retries": 0}')});

sub value { return $node->safe_psql('postgres', $_[0]); }
sub becomes { my ($name, $query) = @_; ok($node->poll_query_until('postgres', $query), $name); }
my $counted = q{SELECT sum(events), sum(errors) FROM projections.throughput WHERE projection = 'public.stock'};

# From shared memory at once, and from the table when the minute is over: the same.
$node->safe_psql('postgres', q{INSERT INTO event (item, quantity) SELECT 'a', 1 FROM generate_series(1, 5000)}) for 1 .. 4;
$node->safe_psql('postgres', q{INSERT INTO event (item, quantity) VALUES ('a', 0)});
becomes('events are counted at once', 'SELECT (sum(events), sum(errors)) = (20001, 1) FROM projections.throughput');
is(value('SELECT sum(events_processed) FROM projections.checkpoints'), '20001', 'as many as were processed');
my $totals = q{SELECT max(value) FILTER (WHERE name ~ '_count$') AS batches, round(max(value) FILTER (WHERE name ~ '_sum$')::numeric, 6) AS seconds FROM projections.metrics('projection')};
my $before = value($totals);
my ($batches) = split /\|/, $before;
cmp_ok($batches, '>', 0, 'batches are counted');
becomes('a worker writes minutes that are over', q{SELECT sum(events) = 20001 FROM projections_internal.throughput_minute});
is(value($counted), '20001|1', 'nothing is lost or counted twice');
is(value($totals), $before, 'nor in the counters');

# A conflict is counted although its transaction is rolled back.
$node->safe_psql('postgres', q{SELECT projections.append('order-1', 'Placed', '{}', 0)});
for (1 .. 3)
{
	my ($code) = $node->psql('postgres', q{SELECT projections.append('order-1', 'Placed', '{}', 0)});
	is($code, 3, 'an append conflicts');
}
becomes('the stream is hot', q{SELECT EXISTS (SELECT FROM projections.hot_keys WHERE kind = 'stream' AND key = 'order-1' AND occurrences = 3 AND per_minute > 0)});
is(value(q{SELECT string_agg(value::text, ',' ORDER BY name) FROM projections.metrics('database') WHERE name ~ 'store'}), '1,3', 'appends and conflicts are metrics');

# What runs now: a worker's batch, for the projection's owner.
$node->safe_psql('postgres', q{CREATE ROLE owner; GRANT SELECT ON event TO owner; ALTER TABLE stock OWNER TO owner; INSERT INTO event (item, quantity) VALUES ('a', 7)});
becomes('a worker is told', q{SELECT count(*) = 1 FROM projections.activity WHERE kind = 'worker' AND projection = 'public.stock' AND for_whom = 'owner' AND phase = 'applying' AND since < now()});
is(value(q{SELECT value FROM projections.metrics('database') WHERE name = 'pg_projections_workers_running'}), '1', 'and is a metric');

# Rolled back as a whole, it is an error.
$node->safe_psql('postgres', q{CREATE OR REPLACE FUNCTION slow(quantity int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 100 / quantity'; REVOKE SELECT ON event FROM owner});
$node->safe_psql('postgres', q{SELECT pg_cancel_backend(pid) FROM projections.activity WHERE kind = 'worker'});
becomes('a batch that fails as a whole is an error', q{SELECT sum(errors) > 1 FROM projections.throughput});
$node->safe_psql('postgres', q{GRANT SELECT ON event TO owner});
becomes('it goes on', q{SELECT sum(events) = 20002 FROM projections.throughput});

# A session that applies by hand is told until its transaction ends, however that ends.
$node->append_conf('postgresql.conf', 'pg_projections.workers = 0');
$node->reload;
becomes('no workers', 'SELECT count(*) = 0 FROM projections.workers');
my $session = q{SELECT count(*) FROM projections.activity WHERE kind = 'session' AND projection = 'public.stock' AND query ~ 'catch_up'};
for my $end ('COMMIT', 'ROLLBACK', 'pg_terminate_backend')
{
	$node->safe_psql('postgres', q{INSERT INTO event (item, quantity) VALUES ('a', 1)});
	my $hand = $node->background_psql('postgres', on_error_stop => 0);
	$hand->query_safe(q{BEGIN; SELECT projections.catch_up('stock')});
	is(value($session), '1', 'a session is told');
	if ($end eq 'pg_terminate_backend')
	{
		value(q{SELECT pg_terminate_backend(pid) FROM projections.activity});
	}
	else
	{
		$hand->query_safe($end);
	}
	becomes("until $end", $session =~ s/count\(\*\)/count(*) = 0/r);
	$hand->{run}->finish if $end eq 'pg_terminate_backend';
	$hand->quit if $end ne 'pg_terminate_backend';
}
is(value('SELECT sum(events) FROM projections.throughput'), value('SELECT sum(events_processed) FROM projections.checkpoints'), 'what was rolled back is not counted');

# A rebuild is told with its phase, in every place, and is no lag's fault.
$node->safe_psql('postgres', q{
	SET client_min_messages = warning;
	CREATE TABLE goods (id int PRIMARY KEY, quantity int);
	INSERT INTO goods SELECT g, 1 FROM generate_series(1, 3000) g;
	CREATE FUNCTION waits(id int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN IF id = 2500 AND current_setting('test.wait', true) = 'on' THEN PERFORM pg_sleep(600); END IF; RETURN id; END $$;
	SELECT projections.create('total', 'SELECT waits(id) AS id, quantity FROM goods', options => '{"finish": "swap"}');
	ANALYZE total});
my $rebuild = $node->background_psql('postgres', on_error_stop => 0);
$rebuild->query_until(qr/started/, "SET test.wait = 'on';\n\\echo started\nCALL projections.rebuild('total');\n");
becomes('a rebuild tells how far it is',
	q{SELECT count(*) = 1 FROM projections.rebuilds WHERE projection = 'public.total' AND holder_alive AND phase = 'copying' AND done BETWEEN 1 AND 2499 AND total = 3000 AND percent > 0 AND rate > 0 AND eta > now() AND outcome IS NULL});
is(value(q{SELECT status, phase ~ '^copying \d+ %$', message ~ '^rebuild by .* \(pid \d+\) since .*: copying \d+ %$' FROM projections.health('total')}), 'rebuilding|t|t', 'health() tells it');
is(value(q{SELECT kind, phase, done > 0, total, percent > 0, query ~ 'projections.rebuild' FROM projections.activity WHERE projection = 'public.total'}), 'rebuild|copying|t|3000|t|t', 'activity, too');
is(value(q{SELECT string_agg(name, ' ' ORDER BY name) FROM projections.metrics() WHERE labels ->> 'projection' = 'public.total' AND value > 0}), 'pg_projections_rebuild_seconds pg_projections_rebuilding pg_projections_status', 'and metrics');
is(value(q{SELECT projections.cancel_rebuild('total')}), 't', 'it is cancelled');
becomes('and is told as that', q{SELECT outcome = 'cancelled' AND NOT holder_alive AND percent IS NULL AND ended_at IS NOT NULL FROM projections.rebuilds WHERE projection = 'public.total'});
is(value(q{SELECT status, phase IS NULL FROM projections.health('total')}), 'healthy|t', 'nothing of it is left');
$rebuild->{run}->kill_kill;

# A crash loses what no worker had written, and nothing else.
$node->append_conf('postgresql.conf', 'pg_projections.workers = 4');
$node->reload;
$node->safe_psql('postgres', q{INSERT INTO event (item, quantity) VALUES ('a', 1)});
becomes('workers are back', q{SELECT count(*) > 0 FROM projections.workers});
my $pid = value('SELECT pid FROM projections.workers LIMIT 1');
kill 'KILL', $pid;
becomes('the server comes back', 'SELECT true');
becomes('what was written is there', 'SELECT sum(events) >= 20001 FROM projections.throughput');
$node->safe_psql('postgres', q{SET client_min_messages = warning; SELECT projections.drop('stock')});
is(value('SELECT count(*) FROM projections.throughput'), '0', 'what is dropped is not shown');
$node->stop;
done_testing();
