# A full disk is nobody's failure: what cannot be written waits, health says why, and all is right once there is room. A
# rebuild that runs out of room leaves the projection as it is.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $small = ($ENV{TEST_WORK} // '') . '/small';
plan skip_all => 'no small disk: test/server makes one for root' unless -d $small && -w $small;

# Leaves so many bytes free.
sub fill_but
{
	my ($free) = @_;
	open my $file, '>', "$small/ballast" or die $!;
	my $block = 'x' x 65536;
	while (defined(my $written = syswrite $file, $block)) { last if $written < length $block }
	truncate $file, (-s "$small/ballast") - $free;
	close $file;
}

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_projections'\nautovacuum = off\n");
$node->start;
mkdir "$small/space" or die $!;
$node->safe_psql('postgres', "CREATE TABLESPACE small LOCATION '$small/space'");
$node->safe_psql('postgres', q{
	SET client_min_messages = error;
	CREATE EXTENSION pg_projections;
	CREATE TABLE event (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text NOT NULL);
	SELECT projections.register_source('event', position_column => 'position');
	CREATE FUNCTION fold(state jsonb, e event, key text) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(e.position)';
	SET default_tablespace = small;
	CREATE TABLE seen (position bigint, item text);
	CREATE FUNCTION see(e event) RETURNS void LANGUAGE sql AS 'INSERT INTO seen VALUES (e.position, e.item)';
	SELECT projections.create_handler('seen', 'event', 'see(event)', '{seen}', partition_by => 'item', options => '{"max_retries": 0}');
	SELECT projections.create_reducer('folded', 'event', 'item', 'fold(jsonb, event, text)', options => '{"max_retries": 0}');
	SELECT projections.create('counted', 'SELECT item, count(*) AS n FROM event GROUP BY item', mode => 'async', options => '{"max_retries": 0}');
});
fill_but(1024 * 1024);
$node->safe_psql('postgres', q{INSERT INTO event (item) SELECT i || repeat('x', 900) FROM generate_series(1, 3000) i});
for my $name ('seen', 'folded', 'counted')
{
	ok($node->poll_query_until('postgres', qq{SELECT status = 'degraded' AND message LIKE '%No space left on device%' FROM projections.health('$name')}), "health says why $name waits");
	is($node->safe_psql('postgres', qq{SELECT count(*) < 3000 FROM $name}), 't', "$name lacks events");
	my ($status, undef, $error) = $node->psql('postgres', qq{SELECT projections.catch_up('$name')});
	like($error, qr/No space left on device/, "catch_up of $name says so, too");
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM projections.failures'), '0', 'nothing is booked on an event');

unlink "$small/ballast";
for my $name ('seen', 'folded', 'counted')
{
	ok($node->poll_query_until('postgres', qq{SELECT count(*) = 3000 FROM $name}), "with room, $name comes to be right by itself");
}
is($node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT position) FROM seen}), '3000|3000', 'each event once');
ok($node->poll_query_until('postgres', q{SELECT bool_and(status = 'healthy') FROM projections.status}), 'healthy again');

fill_but(1024 * 1024);
for my $name ('seen', 'folded', 'counted')
{
	my ($status, undef, $error) = $node->psql('postgres', "CALL projections.alter('$name', options => '{\"finish\": \"swap\"}'); CALL projections.rebuild('$name')");
	like($error, qr/No space left on device/, "the rebuild of $name fails");
	is($node->safe_psql('postgres', qq{SELECT count(*) FROM $name}), '3000', "$name is as it was");
}
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT outcome, ',') FROM projections_internal.rebuild}), 'failed', 'and that is its outcome');
is($node->safe_psql('postgres', q{SELECT (SELECT count(*) FROM projections.failures), (SELECT count(*) FROM projections_internal.projection WHERE shadow_of IS NOT NULL)}), '0|0', 'no failed event is left, and no shadow');
unlink "$small/ballast";
$node->safe_psql('postgres', "SET client_min_messages = error; CALL projections.rebuild('$_')") for 'seen', 'folded', 'counted';
is($node->safe_psql('postgres', 'SELECT (SELECT count(*) FROM seen), (SELECT count(*) FROM folded), (SELECT count(*) FROM counted)'), '3000|3000|3000', 'with room, rebuilt');

$node->stop;
done_testing();
