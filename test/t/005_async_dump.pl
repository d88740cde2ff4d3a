# A dump taken in the middle of async work brings back projections that go on exactly where they stood.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE source');
$node->safe_psql('source', 'CREATE EXTENSION pg_projections; \i test/oracle.sql');
$node->safe_psql('source', q{
	SET client_min_messages = error;
	CREATE TABLE move (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind text, item text, quantity int, at timestamptz DEFAULT now());
	CREATE TABLE late (position bigint PRIMARY KEY, item text);
	CREATE TABLE product (id int PRIMARY KEY, category text, price numeric);
	CREATE TABLE seen (item text PRIMARY KEY, moves int);
	SELECT projections.register_source('move', position_column => 'position', type_column => 'kind', time_column => 'at');
	SELECT projections.register_source('late', position_column => 'position', capture => 'trigger');
	CREATE FUNCTION add(state jsonb, event move, key text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN
		IF event.quantity = 0 THEN RAISE 'nothing moved'; END IF;
		RETURN to_jsonb(coalesce((state #>> '{}')::int, 0) + event.quantity);
	END $$;
	CREATE FUNCTION see(event move) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO seen VALUES (event.item, 1) ON CONFLICT (item) DO UPDATE SET moves = seen.moves + 1; END $$;
	SELECT projections.create('total', 'SELECT item, sum(quantity) AS quantity, max(quantity) AS most FROM move GROUP BY item', 'async', options => '{"slots": 2}');
	SELECT projections.create('arrived', 'SELECT item, count(*) AS n FROM late GROUP BY item', 'async');
	SELECT projections.create('category', 'SELECT category, sum(price) AS price, max(price) AS dearest FROM product GROUP BY category', 'async');
	SELECT projections.create('at_once', 'SELECT category, count(*) AS n FROM product GROUP BY category');
	SELECT projections.create('stored', 'SELECT stream, count(*) AS n FROM projections.events GROUP BY stream', 'async');
	SELECT projections.create_reducer('balance', 'move', 'item', 'add(jsonb, move, text)', options => '{"max_retries": 0}');
	SELECT projections.create_handler('sightings', 'move', 'see(move)', '{seen}', partition_by => 'item');
	SELECT projections.create_state_machine('state', 'move', 'item',
		'[{"from": null, "event": "in", "to": "here"}, {"from": "here", "event": "out", "to": "gone"}, {"from": "gone", "event": "in", "to": "here"}]');
	INSERT INTO move (kind, item, quantity) SELECT 'in', 'item ' || i, i FROM generate_series(1, 20) i;
	INSERT INTO move (kind, item, quantity) VALUES ('out', 'item 1', 0), ('in', 'item 1', 5), ('out', 'item 2', -1);
	INSERT INTO late SELECT 100 - i, 'item ' || i % 3 FROM generate_series(1, 20) i;
	INSERT INTO product SELECT i, 'category ' || i % 3, i FROM generate_series(1, 20) i;
	SELECT projections.append('s' || i % 3, 'made', '{}') FROM generate_series(1, 10) i;
	SELECT projections.catch_up();
	-- not applied when the dump is taken
	INSERT INTO move (kind, item, quantity) SELECT 'out', 'item ' || i, -i FROM generate_series(3, 10) i;
	INSERT INTO late VALUES (1, 'item 9');
	UPDATE product SET price = 0 WHERE id > 15;
	SELECT projections.append('s9', 'made', '{}');
	SELECT projections.pause('at_once', 'to see the dump');
	DELETE FROM product WHERE id < 4;
});

sub content
{
	my ($database) = @_;
	return $node->safe_psql($database, q{
		SELECT 'balance', t::text FROM balance t UNION ALL SELECT 'seen', t::text FROM seen t UNION ALL SELECT 'state', t::text FROM state t
		UNION ALL SELECT 'total', t::text FROM total t UNION ALL SELECT 'category', t::text FROM category t
		UNION ALL SELECT 'checkpoint', projection || slot || ' ' || position FROM projections.checkpoints
		UNION ALL SELECT 'failure', projection || ' ' || position || ' ' || error || coalesce(resolution, '') FROM projections.failures
		UNION ALL SELECT 'parked', projection || ' ' || position FROM projections.parked
		UNION ALL SELECT 'transition', projection || ' ' || position || to_state FROM projections.transitions ORDER BY 1, 2});
}

my $go_on = q{
	SET client_min_messages = error;
	SELECT projections.resume('at_once');
	INSERT INTO move (kind, item, quantity, at) VALUES ('in', 'item 3', 7, '2026-02-01'), ('in', 'new', 1, '2026-02-01');
	INSERT INTO late VALUES (2, 'item 9');
	INSERT INTO product VALUES (100, 'new', 1);
	SELECT projections.append('s1', 'made', '{}', expected_version => (SELECT version FROM projections.streams WHERE stream = 's1'));
	SELECT projections.catch_up();
};

my $dump = $node->backup_dir . '/directory';
mkdir $node->backup_dir;
$node->command_ok([ 'pg_dump', '-Fd', '-j', '2', '-f', $dump, 'source' ], 'pg_dump');
my $before = content('source');
$node->safe_psql('source', $go_on);
my $after = content('source');
like($after, qr/failure\|public.balance 21 nothing moved/, 'a failure is open');
like($after, qr/parked\|public.balance 22/, 'and an event waits behind it');
is($node->safe_psql('source', 'SELECT equal FROM test.check_all()'), '5', 'source: equal');

$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '-j', '2', '-e', '-d', 'restored', $dump ], 'pg_restore');
is(content('restored'), $before, 'restored as it was');
$node->safe_psql('restored', $go_on);
is(content('restored'), $after, 'and goes on as the source did');
is($node->safe_psql('restored', 'SELECT equal FROM test.check_all()'), '5', 'restored: equal');
my ($code, $out, $err) = $node->psql('restored', 'DELETE FROM balance');
like($err, qr/cannot write projection public.balance directly/, 'guarded');

$node->stop;
done_testing();
