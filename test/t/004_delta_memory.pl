# A large statement stays within pg_projections.delta_memory: few groups fold into little, many groups are applied early, and
# rows kept for a join spill to disk. The backend's own memory is what is watched.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "fsync = off\nmax_wal_size = 4GB");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION pg_projections; \i test/oracle.sql');
$node->safe_psql('postgres', q{
	SET client_min_messages = warning;
	CREATE TABLE few (k int, v int);
	CREATE TABLE many (k int, v int);
	CREATE TABLE sides (id int PRIMARY KEY, k int);
	CREATE TABLE names (k int PRIMARY KEY, name text);
	INSERT INTO names SELECT g, 'n' || g FROM generate_series(0, 9) g;
	SELECT projections.create('few_sums', 'SELECT k, sum(v) AS s, count(*) AS n FROM few GROUP BY k');
	SELECT projections.create('many_sums', 'SELECT k, sum(v) AS s, count(*) AS n FROM many GROUP BY k');
	SELECT projections.create('named', 'SELECT n.name, count(*) AS n FROM sides s JOIN names n ON n.k = s.k GROUP BY n.name');
});

# Memory of the deltas, measured while they are largest: by a trigger's last call within the statement. The server's after-trigger
# queue has contexts of its own and is not counted.
sub delta_bytes
{
	my ($table, $insert) = @_;
	return $node->safe_psql('postgres', qq{
		CREATE TABLE IF NOT EXISTS measured (bytes bigint);
		TRUNCATE measured;
		CREATE OR REPLACE FUNCTION measure() RETURNS trigger LANGUAGE plpgsql AS \$\$
		BEGIN
			INSERT INTO measured SELECT coalesce(sum(total_bytes), 0) FROM pg_backend_memory_contexts
			WHERE name IN ('projection deltas', 'projection delta', 'projection delta row', 'tuplestore tuples');
			RETURN NULL;
		END \$\$;
		CREATE TRIGGER zz_measure AFTER INSERT ON $table FOR EACH STATEMENT EXECUTE FUNCTION measure();
		SET pg_projections.delta_memory = '4MB';
		$insert;
		DROP TRIGGER zz_measure ON $table;
		SELECT max(bytes) FROM measured});
}

my $rows = $ENV{DELTA_MEMORY_ROWS} // 1_000_000; # 10_000_000 for the full size
my $limit = 2 * 4 * 1024 * 1024;
my $few = delta_bytes('few', "INSERT INTO few SELECT g % 1000, g % 7 FROM generate_series(1, $rows) g");
cmp_ok($few, '>', 0, 'the delta is measured');
cmp_ok($few, '<', $limit, "$rows rows over 1,000 groups: $few bytes");
my $many = delta_bytes('many', 'INSERT INTO many SELECT g, 1 FROM generate_series(1, 150000) g');
cmp_ok($many, '<', $limit, "150,000 groups: $many bytes");
my $join = delta_bytes('sides', 'INSERT INTO sides SELECT g, g % 10 FROM generate_series(1, 300000) g');
cmp_ok($join, '<', $limit, "300,000 rows kept for a join: $join bytes");
is($node->safe_psql('postgres', 'SELECT equal FROM test.check_all()'), '3', 'equal');
$node->stop;
done_testing();
