# Without a worker of ours, pg_cron brings async projections up to date, set up as docs/events.md says.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# test/server installs it with the server; a server brought along by PG_CONFIG may lack it.
my ($library) = run_command([ 'pg_config', '--pkglibdir' ]);
plan skip_all => 'pg_cron is not installed' unless -e "$library/pg_cron.so";

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'pg_cron'
cron.database_name = 'postgres'
cron.use_background_workers = on
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION pg_cron; CREATE EXTENSION pg_projections; \i test/oracle.sql');
$node->safe_psql('postgres', q{
	SET client_min_messages = warning;
	CREATE TABLE movement (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text NOT NULL, quantity int NOT NULL);
	SELECT projections.register_source('movement', position_column => 'position');
	SELECT projections.create('stock', 'SELECT item, sum(quantity) AS quantity FROM movement GROUP BY item', 'async');
	INSERT INTO movement (item, quantity) SELECT 'item ' || i % 10, i FROM generate_series(1, 1000) AS i;
});
is($node->safe_psql('postgres', 'SELECT count(*) FROM stock'), '0', 'nothing runs by itself');

# Schedules of seconds exist from pg_cron 1.5 on.
my $seconds = $node->safe_psql('postgres', q{SELECT extversion !~ '^1\.[0-4]\M' FROM pg_extension WHERE extname = 'pg_cron'}) eq 't';
my $schedule = $seconds ? '5 seconds' : '* * * * *';
$node->safe_psql('postgres', "SELECT cron.schedule('projections', '$schedule', 'SELECT projections.catch_up()')");
my $equal = q{SELECT missing + extra = 0 FROM test.oracle('stock')};
ok($node->poll_query_until('postgres', $equal), 'equal after a run of pg_cron');
# The row of a run is written to its end after the run has committed.
ok($node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM cron.job_run_details WHERE status = 'succeeded'}), 'which succeeded');
is($node->safe_psql('postgres', q{SELECT count(*) FROM cron.job_run_details WHERE status = 'failed'}), '0', 'none failed');
$node->stop;
done_testing();
