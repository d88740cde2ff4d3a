# Appends from 200 connections at once lose and repeat nothing. A dump brings back our own store, registered sources and
# subscriptions, and both stores go on where they were.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "max_connections = 220\nshared_buffers = 64MB");
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE source');
$node->safe_psql('source', 'CREATE EXTENSION pg_projections');

# Half of the appends come twice, as retries do.
my $script = $node->basedir . '/append.sql';
append_to_file($script, q{
\set stream random(1, 10)
\set id random(1, 1000)
SELECT * FROM projections.append_many('s-' || :stream, '[{"type": "a", "data": 1}, {"type": "b", "data": 2}, {"type": "c", "data": 3}]');
SELECT * FROM projections.append('t-' || :id % 7, 'once', '1', id => ('00000000-0000-0000-0000-' || lpad(:id::text, 12, '0'))::uuid);
});
$node->command_ok([ 'pgbench', '-n', '-c', '200', '-j', '4', '-t', '10', '-f', $script, 'source' ], '200 connections append');

my $wrong = q{
	SELECT s.stream, s.version, count(e), max(e.version), bool_and(e.in_order)
	FROM projections.streams s LEFT JOIN (SELECT e.*, position > lag(position, 1, 0::bigint) OVER (PARTITION BY stream ORDER BY version) AS in_order
		FROM projections.events e) e USING (stream)
	GROUP BY 1, 2 HAVING count(e) <> s.version OR max(e.version) <> s.version OR NOT bool_and(e.in_order)};
is($node->safe_psql('source', $wrong), '', 'each version is there once, and positions rise with versions');
is($node->safe_psql('source', q{SELECT count(*) FROM projections.events WHERE stream LIKE 's-%'}), '6000', 'nothing is lost');
is($node->safe_psql('source', q{SELECT count(*) > 500 AND count(*) <= 1000 FROM projections.events WHERE type = 'once'}), 't', 'nothing is repeated');

$node->safe_psql('source', q{
	CREATE SCHEMA "Odd schema";
	CREATE TABLE "Odd schema"."Events" ("No" bigint PRIMARY KEY, kind text);
	CREATE TABLE moves (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind text, at timestamptz NOT NULL);
	INSERT INTO "Odd schema"."Events" VALUES (7, 'a'), (3, 'b');
	INSERT INTO moves (kind, at) VALUES ('a', '2020-01-01'), ('b', '2026-01-01');
	SELECT projections.register_source('"Odd schema"."Events"', 'No', type_column => 'kind', capture => 'trigger');
	SELECT projections.register_source('moves', 'n', type_column => 'kind', time_column => 'at');
	SELECT projections.archive_events('moves', '2021-01-01');
	UPDATE projections.events SET recorded_at = '2020-01-01' WHERE position <= 100;
	SELECT projections.archive_events('projections.events', '2021-01-01');
	SELECT projections.create_subscription('odd', '"Odd schema"."Events"', partition_by => 'kind');
	SELECT count(*) FROM projections.poll('odd');
	SELECT projections.ack('odd', 1);
	INSERT INTO "Odd schema"."Events" VALUES (5, 'c');
});

my $contents = q{
	SELECT count(*), sum(hashtext(e::text)::bigint) FROM ONLY projections.events e;
	SELECT count(*), sum(hashtext(e::text)::bigint) FROM projections.events_archive e;
	SELECT count(*), sum(hashtext(s::text)::bigint) FROM projections.streams s;
	SELECT s.* FROM projections_internal.source s ORDER BY relation::text;
	SELECT s.* FROM projections_internal.subscription s;
	TABLE projections_internal."Events_arrivals" ORDER BY 1};
my $before = $node->safe_psql('source', $contents);
my $dump = $node->backup_dir . '/dump';
mkdir $node->backup_dir;
$node->command_ok([ 'pg_dump', '-Fd', '-j', '2', '-f', $dump, 'source' ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '-j', '2', '-e', '-d', 'restored', $dump ], 'pg_restore');
is($node->safe_psql('restored', $contents), $before, 'the same events, sources and subscriptions');

my $last = $node->safe_psql('restored', 'SELECT max(position) FROM projections.events');
is($node->safe_psql('restored', q{SELECT first_position > } . $last . q{ FROM projections.append('s-1', 'a', '1')}), 't', 'positions go on');
is($node->safe_psql('restored', q{SELECT count(*) FROM projections.append('t-1', 'once', '1', id => (SELECT id FROM projections.events WHERE stream = 't-1' LIMIT 1))}), '1', 'ids are known');
is($node->safe_psql('restored', $wrong), '', 'versions go on');
$node->safe_psql('restored', q{INSERT INTO "Odd schema"."Events" VALUES (4, 'd')});
is($node->safe_psql('restored', q{SELECT string_agg(format('%s:%s', position, event ->> 'No'), ' ' ORDER BY position) FROM projections.poll('odd')}),
	'2:7 3:5 4:4', 'arrivals go on');
$node->safe_psql('restored', q{SELECT projections.drop_subscription('odd'); DROP TABLE "Odd schema"."Events"});
is($node->safe_psql('restored', q{SELECT to_regclass('projections_internal."Events_arrivals"') IS NULL}), 't', 'a dropped source takes its arrivals along');
$node->stop;
done_testing();
