# The number of workers follows its setting without a restart; no place for workers, no preload, no memory: each is said, and survived.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $declare = q{
	SET client_min_messages = warning;
	CREATE EXTENSION pg_projections;
	CREATE TABLE event (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item int NOT NULL);
	SELECT projections.register_source('event', 'position');
	CREATE FUNCTION slow(item int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN IF item > 0 THEN PERFORM pg_sleep(600); END IF; RETURN item; END $$;
	CREATE FUNCTION large(item int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN length(repeat('x', item)); END $$;
	SELECT projections.create('counted', 'SELECT count(*) AS n FROM event', mode => 'async');
};

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'pg_projections'
max_worker_processes = 12
});
$node->start;
$node->safe_psql('postgres', $declare);

sub follows
{
	my ($name) = @_;
	$node->safe_psql('postgres', 'INSERT INTO event (item) VALUES (0)');
	ok($node->poll_query_until('postgres', 'SELECT (SELECT n FROM counted) = (SELECT count(*) FROM event)'), $name);
}
sub set
{
	my ($setting, $value) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET $setting = $value");
	$node->safe_psql('postgres', 'SELECT pg_reload_conf()');
}
my $asleep = q{FROM pg_stat_activity WHERE backend_type = 'pg_projections worker' AND wait_event = 'PgSleep'};
my $workers = q{FROM pg_stat_activity WHERE backend_type = 'pg_projections worker'};

# Six slow projections: as many workers are at them as is allowed, less the one that is left to the others.
$node->safe_psql('postgres', join(';', 'SET client_min_messages = warning', 'INSERT INTO event (item) VALUES (1)',
	map { "SELECT projections.create('slow_$_', 'SELECT sum(slow(item)) AS n FROM event', mode => 'async')" } 1 .. 6));
ok($node->poll_query_until('postgres', "SELECT count(*) = 3 $asleep"), 'slow projections hold three of four workers');
follows('the fourth is there for the others');
set('pg_projections.workers', 6);
ok($node->poll_query_until('postgres', "SELECT count(*) = 5 $asleep"), 'more workers without a restart');
follows('one is left to the others');
my $oldest = $node->safe_psql('postgres', "SELECT pid $workers ORDER BY backend_start LIMIT 1");
set('pg_projections.workers', 2);
$node->safe_psql('postgres', "SELECT projections.restart_worker(pid) FROM projections.workers WHERE pid <> $oldest AND state = 'working'");
ok($node->poll_query_until('postgres', "SELECT count(*) = 2 $workers"), 'fewer workers without a restart');
is($node->safe_psql('postgres', "SELECT count(*) $workers AND pid = $oldest"), '1', 'the oldest stays: no gap');
follows('one of two is left to the others');
set('pg_projections.workers', 0);
$node->safe_psql('postgres', q{SELECT projections.restart_worker(pid) FROM projections.workers WHERE state = 'working'});
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 $workers"), 'none');
is($node->safe_psql('postgres', 'SELECT projections._workers_available(), projections._worker_problem()'),
	'f|The setting pg_projections.workers is 0. ALTER SYSTEM RESET pg_projections.workers; SELECT pg_reload_conf();', 'and it is said why');
$node->safe_psql('postgres', join(';', 'SET client_min_messages = warning', map { "SELECT projections.drop('slow_$_')" } 1 .. 6));
set('pg_projections.workers', 1);
follows('one worker');

# One worker and two projections, one of which fails as a whole: it is put off, said, and taken up again.
$node->safe_psql('postgres', q{
	SET client_min_messages = warning;
	SELECT projections.create('broken', 'SELECT item, count(*) AS n FROM event GROUP BY item', mode => 'async');
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE lock_not_available; END $$});
$node->safe_psql('postgres', 'ALTER TABLE projections.slot ADD CHECK (projection <> $$broken$$::regclass OR position = 0) NOT VALID')
	if $node->safe_psql('postgres', q{SELECT position FROM projections.slot WHERE projection = 'broken'::regclass}) eq '0';
done_testing();
