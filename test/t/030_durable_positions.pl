# What poll has handed out is not taken back by a crash, though its writer did not wait for the disk, and its position is
# not drawn again.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Restart;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
# Nobody else writes the WAL out meanwhile.
$node->append_conf('postgresql.conf', "synchronous_commit = off\nwal_writer_delay = 10s\nautovacuum = off\nbgwriter_lru_maxpages = 0\ncheckpoint_timeout = 1h\n");
$node->start;
$node->safe_psql('postgres', q{
	SET client_min_messages = error;
	CREATE EXTENSION pg_projections;
	CREATE TABLE event (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text NOT NULL);
	SELECT projections.register_source('event', position_column => 'position');
	SELECT projections.create_subscription('reader', 'event');
	CHECKPOINT;
});
for my $round (1 .. 3)
{
	# It is woken by the commit, whatever its delay: only one that is stopped writes nothing.
	my $wal_writer = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'});
	kill 'STOP', $wal_writer;
	my $polled = $node->safe_psql('postgres', q{
		INSERT INTO event (item) SELECT 'item ' || i FROM generate_series(1, 40) i;
		SELECT max(position) || ' ' || count(*) FROM projections.poll('reader', 1000)});
	$node->kill9;
	kill 'KILL', $wal_writer;
	start_after_kill($node);
	my ($last, $count) = split / /, $polled;
	is($node->safe_psql('postgres', "SELECT count(*) FROM event WHERE position <= $last"), $count, "round $round: the events are there after the crash");
	my $next = $node->safe_psql('postgres', q{INSERT INTO event (item) VALUES ('next') RETURNING position});
	cmp_ok((split /\n/, $next)[0], '>', $last, "round $round: their positions are not drawn again");
}
$node->stop;
done_testing();
