# Rights, with real workers: what a background process does over a user's relations, it does as their owner. Every object of the
# owner's that can carry code is a trap that tells who sprung it (test/traps.sql; sql/rights_workers.sql does the same in sessions).
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_projections'\npg_projections.scrub_rate = 1000000\nfsync = off\nmax_worker_processes = 20");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION pg_projections; CREATE ROLE trapper LOGIN; \i test/traps.sql');
$node->safe_psql('postgres', "SELECT trap.lay('trapper')");

sub value { return $node->safe_psql('postgres', $_[0]) }
sub as_owner { return $node->safe_psql('postgres', "SET client_min_messages = error; SET search_path = trapper; $_[0]", extra_params => [ '-U', 'trapper' ]) }
sub strangers_are_none { is(value('SELECT * FROM trap.strangers()'), '', $_[0]) }
sub done { return $node->poll_query_until('postgres', $_[0]) }

my $machine = q{[{"from": null, "event": "opened", "to": "open"}, {"from": "open", "event": "opened", "to": "open"}, {"from": "open", "event": "closed", "to": "done"}]};
as_owner(qq{
	SELECT projections.register_source('event', position_column => 'pos', type_column => 'type', time_column => 'at', id_column => 'id');
	SELECT projections.register_source('arrived', position_column => 'pos', type_column => 'type', time_column => 'at', id_column => 'id', capture => 'trigger');
	SELECT projections.create('totals', 'SELECT item, sum(q + liar(''definition'', 0)) AS q, count(*) AS n FROM event GROUP BY item', 'async', options => '{"slots": 2}');
	SELECT projections.create('arrivals', 'SELECT item, sum(q + liar(''definition'', 0)) AS q FROM arrived GROUP BY item', 'async');
	SELECT projections.create('logged', 'SELECT id, item, q, liar(''definition'', id) AS l FROM changed', 'async');
	SELECT projections.create_reducer('states', 'event', 'item || liar(''key'', 1)', 'reduce(jsonb, event, text)', options => '{"slots": 2}');
	SELECT projections.create_state_machine('machine', 'event', 'item', '$machine', options => '{"retention": "1 s", "terminal": ["done"]}');
	SELECT projections.create_handler('writes', 'event', 'handle(event)', tables => '{book}', partition_by => 'item');
});
value("SELECT trap.hide(('trapper.' || t)::regclass) FROM unnest('{totals,arrivals,logged,states,machine}'::text[]) t");
as_owner(q{ALTER TABLE totals ADD CONSTRAINT few CHECK (n < 6)});

# Events of every kind; the third batch has one that fails, and keys at their end.
my $event = q{INSERT INTO event (item, q, type, at, id) SELECT i, 1, '%s', ROW(now() - interval '1 day')::moment, ROW(i)::label FROM unnest('{a,b,c}'::text[]) i};
as_owner(sprintf($event, 'opened')) for 1 .. 4;
as_owner(sprintf($event, 'broken'));
as_owner(sprintf($event, 'closed'));
as_owner('INSERT INTO arrived (item, q, type, at, id) SELECT item, q, type, at, id FROM event; INSERT INTO changed SELECT n, chr(96 + n), n FROM generate_series(1, 3) n');
my $behind = q{SELECT NOT EXISTS (SELECT FROM projections_internal.slot s JOIN projections_internal.projection p ON p.relation = s.projection
	WHERE p.changes = '{}' AND s.position < projections_internal._safe_position(p.sources[1]))};
ok(done($behind), 'workers apply what there is');
ok(done("SELECT count(*) >= 3 FROM projections_internal.failure"), 'and record what failed');
strangers_are_none('as nobody but the owner');
ok(done("SELECT bool_and(retry_count > 0) FROM projections_internal.failure WHERE resolved_at IS NULL"), 'they try again');
strangers_are_none('as the owner');

# Rebuilds that are carried out in the background.
as_owner("SELECT projections.schedule_rebuild(projection) FROM projections.definitions");
ok(done('SELECT NOT EXISTS (SELECT FROM projections_internal.rebuild_request) AND (SELECT count(*) FROM projections_internal.rebuild WHERE ended_at IS NOT NULL) >= 6'), 'all are rebuilt');
is(value("SELECT projection::regclass, outcome, error FROM projections_internal.rebuild WHERE outcome IS DISTINCT FROM 'done'"), '', 'without an error');
strangers_are_none('as the owner');

# A scrub looks at each of them in turn. (The worker is done with the row before it is written directly, or it would mend it.)
as_owner(q{UPDATE changed SET q = q + 1});
ok(done('SELECT NOT EXISTS (SELECT FROM projections_internal.logged_changes)'), 'workers apply what changed');
value("SET pg_projections.allow_direct_writes = on; SET ROLE trapper; UPDATE trapper.logged SET q = 77 WHERE id = 1");
value("UPDATE projections_internal.projection SET stale_since = NULL");
ok(done("SELECT stale_reason LIKE '1 difference%' FROM projections_internal.projection WHERE relation = 'trapper.logged'::regclass"), 'a scrub finds what was written directly');
strangers_are_none('as the owner');

# An owner who may not read is not read for.
as_owner('REVOKE SELECT ON event FROM trapper');
value("SET ROLE trapper; INSERT INTO trapper.event (item, q, type, at, id) VALUES ('a', 1, 'opened', ROW(now())::trapper.moment, ROW('a')::trapper.label)");
for my $refused (qw(totals states machine writes)) {
	ok($node->wait_for_log(qr/applying events to trapper.$refused, slot 0 failed: projection \S+ cannot read its sources: its owner, trapper, may not read trapper\.event/), "what the owner may not read is an error of $refused");
}
as_owner("INSERT INTO changed (id, item) VALUES (9, 'z')");
ok(done("SELECT NOT EXISTS (SELECT FROM projections_internal.logged_changes)"), 'the others go on');
strangers_are_none('and nobody reads in the place of the owner');
is(value("SELECT * FROM trap.untouched WHERE trap <> 'operator'"), '', 'all traps were in the way');
$node->stop;
done_testing();
