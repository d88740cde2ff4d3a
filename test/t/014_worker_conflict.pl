# An event whose handler raises a serialization failure every time: never counted as a failure, it lets what comes before
# it through, and health tells.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
# What is not tried again by itself would not be within the test's time.
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_projections'\npg_projections.poll_interval = '1h'\n");
$node->start;
$node->safe_psql('postgres', q{
	SET client_min_messages = error;
	CREATE EXTENSION pg_projections;
	CREATE TABLE event (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text NOT NULL);
	SELECT projections.register_source('event', position_column => 'position');
	CREATE TABLE seen (item text);
	CREATE TABLE taken (item text PRIMARY KEY);
	INSERT INTO taken VALUES ('bad');
	CREATE FUNCTION see(event event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF EXISTS (SELECT FROM taken t WHERE t.item = event.item) THEN RAISE SQLSTATE '40001'; END IF;
		INSERT INTO seen VALUES (event.item);
	END $$;
	SELECT projections.create_handler('sightings', 'event', 'see(event)', '{seen,taken}', partition_by => 'item');
	INSERT INTO event (item) SELECT CASE i WHEN 138 THEN 'bad' ELSE 'item ' || i END FROM generate_series(1, 140) i;
});

ok($node->poll_query_until('postgres', q{SELECT position = 137 FROM projections_internal.slot}), 'what precedes the event is applied');
ok($node->poll_query_until('postgres', q{SELECT status = 'degraded' AND message LIKE 'applying fails since%40001%' FROM projections.status}), 'health tells');
is($node->safe_psql('postgres', 'SELECT count(*) FROM projections.failures'), '0', 'no failure is counted');
$node->safe_psql('postgres', 'DELETE FROM taken');
ok($node->poll_query_until('postgres', q{SELECT position = 140 FROM projections_internal.slot}), 'it goes on when the conflict is gone');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT item) FROM seen'), '140|140', 'each event once');
is($node->safe_psql('postgres', 'SELECT status FROM projections.status'), 'healthy', 'healthy again');

$node->stop;
done_testing();
