# A state machine forgets keys at their end after options.retention, though no event comes any more; and reset makes
# checkpoints anew that somebody has deleted.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
# Nobody else would wake a worker within the test's time.
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_projections'\npg_projections.poll_interval = '1h'\nautovacuum = off\n");
$node->start;
$node->safe_psql('postgres', q{
	SET client_min_messages = error;
	CREATE EXTENSION pg_projections;
	CREATE TABLE event (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, task text, type text, at timestamptz DEFAULT now());
	SELECT projections.register_source('event', position_column => 'position', type_column => 'type', time_column => 'at');
	SELECT projections.create_state_machine('task', 'event', 'task', '[{"from": "open", "event": "Done", "to": "done"}, {"from": "open", "event": "Seen", "to": "open"}]', options => '{"initial": "open", "terminal": ["done"], "retention": "2 seconds"}');
	SELECT projections.create('per_type', 'SELECT type, count(*) AS n FROM event GROUP BY type', mode => 'async');
	INSERT INTO event (task, type) VALUES ('a', 'Done'), ('b', 'Seen');
});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 2 FROM projections.transitions}), 'both are applied');
ok($node->poll_query_until('postgres', q{SELECT string_agg(key, ',') = 'b' FROM task}), 'the one at its end goes, the other stays');

ok($node->poll_query_until('postgres', q{SELECT count(*) = 2 FROM per_type}), 'a projection is right');
$node->safe_psql('postgres', q{DELETE FROM projections_internal.slot WHERE projection = 'per_type'::regclass; SELECT projections.reset('per_type'); INSERT INTO event (task, type) VALUES ('c', 'Seen')});
ok($node->poll_query_until('postgres', q{SELECT string_agg(type || n, ',' ORDER BY type) = 'Done1,Seen2' FROM per_type}), 'without its checkpoints, it starts from the first event');
$node->stop;
done_testing();
