# Who decodes all that is changed in the database sees what a rebuild changes: it does not swap files then. And who begins
# to follow a table while it is rebuilt keeps it from being swapped.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "wal_level = logical\nautovacuum = off\n");
$node->start;
$node->safe_psql('postgres', q{
	SET client_min_messages = error;
	CREATE EXTENSION pg_projections;
	CREATE TABLE sale (id int PRIMARY KEY, item int, amount int);
	INSERT INTO sale SELECT i, i % 500, 1 FROM generate_series(1, 2000) i;
	SELECT projections.create('per_item', 'SELECT item, sum(amount) AS amount FROM sale GROUP BY item');
	CREATE TABLE move (position bigserial PRIMARY KEY, item text);
	SELECT projections.register_source('move', position_column => 'position');
	CREATE TABLE moved (position bigint PRIMARY KEY, item text);
	CREATE FUNCTION note(e move) RETURNS void LANGUAGE sql AS 'INSERT INTO moved VALUES (e.position, e.item)';
	INSERT INTO move (item) SELECT 'item ' || i FROM generate_series(1, 500) i;
	SELECT projections.create_handler('moved', 'move', 'note(move)', '{moved}', partition_by => 'item');
	SELECT projections.catch_up();
});
# Takes rows away behind the guards.
sub damage { $node->safe_psql('postgres', q{SET session_replication_role = replica; ALTER TABLE per_item DISABLE TRIGGER ALL; DELETE FROM per_item WHERE item % 10 > 0; ALTER TABLE per_item ENABLE ALWAYS TRIGGER projections_guard, ENABLE ALWAYS TRIGGER projections_guard_truncate; DELETE FROM moved WHERE position % 10 > 0}) }
sub rebuild { my ($name) = @_; my ($status, undef, $error) = $node->psql('postgres', "CALL projections.rebuild('$name')"); return $error }
sub decoded { $node->safe_psql('postgres', q{SELECT count(*) FILTER (WHERE data LIKE 'table public.per_item: INSERT%'), count(*) FILTER (WHERE data LIKE 'table public.moved: INSERT%') FROM pg_logical_slot_get_changes('reader', NULL, NULL)}) }

damage();
like(rebuild($_), qr/rebuilt by swap/, "without a slot, $_ is swapped") for 'per_item', 'moved';
$node->safe_psql('postgres', q{SELECT pg_create_logical_replication_slot('of_publications', 'pgoutput')});
damage();
like(rebuild($_), qr/rebuilt by swap/, "a slot that follows publications sees none, so $_ is swapped") for 'per_item', 'moved';

$node->safe_psql('postgres', q{SELECT pg_create_logical_replication_slot('reader', 'test_decoding')});
damage();
decoded();
like(rebuild($_), qr/rebuilt by merge/, "$_ is merged") for 'per_item', 'moved';
is(decoded(), '450|450', 'and each row that was put right is seen');
is($node->safe_psql('postgres', q{SELECT (SELECT count(*) FROM per_item), (SELECT count(*) FROM moved)}), '500|500', 'all are there');
for my $name ('per_item', 'moved')
{
	$node->safe_psql('postgres', qq{CALL projections.alter('$name', options => '{"finish": "swap"}')});
	like(rebuild($name), qr/cannot be swapped: logical slot reader may follow its rows.*HINT:.*"finish": "merge"/s, "$name is not swapped, says who reads, and what to do");
}
my (undef, undef, $error) = $node->psql('postgres', q{CALL projections.alter('per_item', query => 'SELECT item, count(*) AS n FROM sale GROUP BY item')});
like($error, qr/cannot be altered: logical slot reader may follow its rows/, 'nor is it altered');
$node->safe_psql('postgres', q{SELECT pg_drop_replication_slot('reader')});

# A rebuild waits for a writer; meanwhile somebody begins to follow the table.
my %followers = (
	'it is published' => [q{CREATE PUBLICATION sales FOR TABLE per_item}, q{DROP PUBLICATION sales}],
	'foreign keys refer to it' => [q{CREATE TABLE child (item int REFERENCES per_item (item))}, q{DROP TABLE child}],
	'other projections read it' => [q{SET client_min_messages = error; SELECT projections.create('above', 'SELECT amount, count(*) AS n FROM per_item GROUP BY amount')}, q{SELECT projections.drop('above')}]);
$node->safe_psql('postgres', 'CREATE UNIQUE INDEX ON per_item (item)');
for my $why (sort keys %followers)
{
	my ($follow, $end) = @{ $followers{$why} };
	my $writer = $node->background_psql('postgres');
	$writer->query_safe('BEGIN; UPDATE sale SET amount = amount + 1 WHERE id = 1');
	my ($out, $told) = ('', '');
	my $rebuild = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', q{CALL projections.rebuild('per_item')} ], '>', \$out, '2>', \$told);
	ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM projections_internal.rebuild WHERE ended_at IS NULL AND shadow IS NOT NULL}), "$why: the rebuild waits");
	$node->safe_psql('postgres', $follow);
	$writer->query_safe('COMMIT');
	$writer->quit;
	$rebuild->finish;
	like($told, qr/can no longer be swapped: $why/, "$why: it is not swapped");
	$node->safe_psql('postgres', $end);
}
$node->stop;
done_testing();
