# Logical replication's apply writes rows without statements: a projection on the subscriber follows them all the same, and a
# projection that is a replication target by mistake refuses them.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $publisher = PostgreSQL::Test::Cluster->new('publisher');
$publisher->init(allows_streaming => 'logical');
$publisher->start;
my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
$subscriber->init(allows_streaming => 'logical');
$subscriber->start;

my $tables = 'CREATE TABLE lines (id int PRIMARY KEY, item text, quantity int); CREATE TABLE items (item text PRIMARY KEY, kind text)';
$publisher->safe_psql('postgres', $tables);
$subscriber->safe_psql('postgres', "$tables; CREATE EXTENSION pg_projections");
$subscriber->safe_psql('postgres', '\i test/oracle.sql');
$publisher->safe_psql('postgres', q{INSERT INTO items VALUES ('a', 'x'), ('b', 'y'); INSERT INTO lines VALUES (1, 'a', 5); CREATE PUBLICATION p FOR TABLE lines, items});
$subscriber->safe_psql('postgres', q{
	SET client_min_messages = warning;
	SELECT projections.create('stock', 'SELECT item, sum(quantity) AS quantity FROM lines GROUP BY item');
	SELECT projections.create('kinds', 'SELECT i.kind, max(l.quantity) AS largest, count(*) AS n FROM lines l JOIN items i USING (item) GROUP BY i.kind');
});
my $connection = $publisher->connstr . ' dbname=postgres';
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION '$connection' PUBLICATION p");
$subscriber->wait_for_subscription_sync($publisher, 's');
is($subscriber->safe_psql('postgres', 'SELECT equal FROM test.check_all()'), '2', 'equal after the first copy');

$publisher->safe_psql('postgres', q{INSERT INTO lines SELECT g, CASE WHEN g % 2 = 0 THEN 'a' ELSE 'b' END, g FROM generate_series(2, 50) g});
$publisher->safe_psql('postgres', q{BEGIN; UPDATE lines SET item = 'b' WHERE id < 10; DELETE FROM lines WHERE id > 45; UPDATE items SET kind = 'z' WHERE item = 'a'; COMMIT});
$publisher->safe_psql('postgres', q{DELETE FROM items WHERE item = 'b'});
$publisher->wait_for_catchup('s');
is($subscriber->safe_psql('postgres', 'SELECT equal FROM test.check_all()'), '2', 'equal after replicated changes');
is($subscriber->safe_psql('postgres', 'SELECT kind, n FROM kinds'), $publisher->safe_psql('postgres', q{SELECT i.kind, count(*) FROM lines l JOIN items i USING (item) GROUP BY 1}), 'as the publisher has it');
$publisher->safe_psql('postgres', 'TRUNCATE lines');
$publisher->wait_for_catchup('s');
is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM stock'), '0', 'TRUNCATE is followed');
$publisher->stop;
$subscriber->stop;
done_testing();
