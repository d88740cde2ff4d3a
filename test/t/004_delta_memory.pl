# A large statement stays within pg_projections.delta_memory: few groups fold into little, many groups are applied early, and
# rows kept for a join spill to disk. What savepoints, flushes and a session keep is within what docs/performance.md says. The backend's own
# memory is what is watched.
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

# The bounds of docs/performance.md, by what they grow with. What a flush takes is measured by a trigger on the projection, at its end.
sub kept { return 'SELECT coalesce(sum(total_bytes), 0) FROM pg_backend_memory_contexts WHERE name IN (' . join(', ', map { "'$_'" } @_) . ')' }
my @delta = ('projection deltas', 'projection delta', 'projection delta row');
my @flush = ('projection delta', 'projection flush', 'projection row images', 'projection keys that came', 'projection keys that went');

sub flush_bytes
{
	my ($projection, $statement) = @_;
	return $node->safe_psql('postgres', qq{
		SET client_min_messages = warning;
		TRUNCATE measured;
		CREATE OR REPLACE FUNCTION measure_flush() RETURNS trigger LANGUAGE plpgsql AS \$\$
		BEGIN
			INSERT INTO measured } . kept(@flush) . qq{;
			RETURN NULL;
		END \$\$;
		CREATE TRIGGER zz_measure AFTER INSERT OR UPDATE OR DELETE ON $projection FOR EACH STATEMENT EXECUTE FUNCTION measure_flush();
		$statement;
		DROP TRIGGER zz_measure ON $projection;
		SELECT max(bytes) FROM measured});
}

$node->safe_psql('postgres', q{
	SET client_min_messages = warning;
	CREATE TABLE facts (id int PRIMARY KEY, k int, v int);
	CREATE TABLE keys (k int PRIMARY KEY, name text);
	INSERT INTO keys SELECT g, 'n' || g FROM generate_series(0, 19999) g;
	INSERT INTO facts SELECT g, g % 20000, g FROM generate_series(1, 60000) g;
	ANALYZE;
	SELECT projections.create('by_name', 'SELECT n.name, sum(f.v) AS s, count(*) AS n FROM facts f JOIN keys n ON n.k = f.k GROUP BY n.name')});
my $groups = flush_bytes('by_name', 'UPDATE facts SET k = (k + 1) % 20000');
cmp_ok($groups, '>', 20000 * 100, 'the flush is measured');
cmp_ok($groups, '<', 20000 * 1000, "a join's flush of 20,000 groups: $groups bytes");
$node->safe_psql('postgres', q{
	SET client_min_messages = warning;
	SELECT projections.drop('by_name');
	SELECT projections.create('with_name', 'SELECT f.id, n.name, f.v FROM facts f JOIN keys n ON n.k = f.k')});
my $images = flush_bytes('with_name', 'UPDATE facts SET k = (k + 1) % 20000');
cmp_ok($images, '>', 120000 * 50, 'the flush is measured');
cmp_ok($images, '<', 120000 * 300, "60,000 rows of a join that are exchanged: $images bytes");
$node->safe_psql('postgres', q{
	SET client_min_messages = warning;
	SELECT projections.create('largest', 'SELECT k, max(v) AS most FROM facts GROUP BY k')});
my $extrema = delta_bytes('facts', 'INSERT INTO facts SELECT g, g, 1 FROM generate_series(100001, 150000) g');
cmp_ok($extrema, '<', 50000 * 400 + $limit, "50,000 groups with max: $extrema bytes");

my $savepoints = 2000;
my $nested = $node->safe_psql('postgres', join("\n", 'BEGIN;',
		(map { "SAVEPOINT s$_; INSERT INTO few VALUES ($_ % 10, 1);" } 1 .. $savepoints), kept(@delta) . ';',
		(map { "RELEASE s$_;" } grep { $_ % 2 } reverse 1 .. $savepoints), 'COMMIT;'));
cmp_ok($nested, '>', $savepoints * 100, 'what savepoints keep is measured');
cmp_ok($nested, '<', $savepoints * 2048, "$savepoints nested savepoints: $nested bytes");

# A session gives up what it has not used for long.
$node->safe_psql('postgres', q{
	SET client_min_messages = warning;
	CREATE TABLE read_by_many (k int, v int);
	SELECT projections.create('many_' || i, format('SELECT k, sum(v + %s) AS s, count(*) AS n FROM read_by_many GROUP BY k', i))
	FROM generate_series(1, 60) i});
my @session = ('projection block', 'projection evaluator', 'projection direct write', 'projection statements');
for my $case (['64MB', 2 * 1024 * 1024, 64 * 1024 * 1024], ['1MB', 512 * 1024, 1024 * 1024], ['0', 0, 0])
{
	my ($setting, $least, $most) = @$case;
	my $bytes = $node->safe_psql('postgres', "SET pg_projections.session_memory = '$setting';
		INSERT INTO read_by_many VALUES (1, 1);
		INSERT INTO read_by_many VALUES (1, 1), (2, 2);
		" . kept(@session));
	cmp_ok($bytes, '>=', $least, "session_memory = $setting: $bytes bytes, of what was used last");
	cmp_ok($bytes, '<=', $most, "session_memory = $setting: $bytes bytes at most");
}
is($node->safe_psql('postgres', 'SELECT equal FROM test.check_all()'), '65', 'equal');
$node->stop;
done_testing();
