# A prepared transaction has flushed: it keeps its effect, or the absence of it, over a crash, and its locks on a join's sources.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "max_prepared_transactions = 10");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION pg_projections; \i test/oracle.sql');
$node->safe_psql('postgres', q{
	SET client_min_messages = warning;
	CREATE TABLE a (id int PRIMARY KEY, k int);
	CREATE TABLE b (id int PRIMARY KEY, k int);
	INSERT INTO a VALUES (1, 1);
	SELECT projections.create('pairs', 'SELECT a.k, count(*) AS n FROM a JOIN b ON a.k = b.k GROUP BY a.k');
	SELECT projections.create('sums', 'SELECT k, sum(id) AS s FROM a GROUP BY k');
	SELECT projections.create('several', 'SELECT k, sum(id) AS s FROM a GROUP BY k HAVING count(*) > 1');
	BEGIN; INSERT INTO a VALUES (2, 1), (3, 2); PREPARE TRANSACTION 'kept';
	BEGIN; INSERT INTO a VALUES (4, 3); PREPARE TRANSACTION 'undone';
});
$node->stop('immediate');
$node->start;

# The other side of the join waits for the prepared transactions: their rows are not visible yet and must not be missed.
my ($code, $out, $err) = $node->psql('postgres', q{SET lock_timeout = '200ms'; INSERT INTO b VALUES (1, 1), (2, 2), (3, 3)});
like($err, qr/canceling statement due to lock timeout/, 'a writer of the other source waits');

$node->safe_psql('postgres', "COMMIT PREPARED 'kept'");
$node->safe_psql('postgres', "ROLLBACK PREPARED 'undone'");
$node->safe_psql('postgres', 'INSERT INTO b VALUES (1, 1), (2, 2), (3, 3)');
is($node->safe_psql('postgres', 'SELECT k, n FROM pairs ORDER BY k'), "1|2\n2|1", 'joined with what was committed');
is($node->safe_psql('postgres', 'SELECT k, s FROM sums ORDER BY k'), "1|3\n2|3", 'summed');
is($node->safe_psql('postgres', 'SELECT k, s FROM several'), "1|3", 'a group that has crossed its threshold');
is($node->safe_psql('postgres', 'SELECT equal FROM test.check_all()'), '3', 'equal');
$node->stop;
done_testing();
