# Beside the tools that people run: what watches statements, what rewrites tables, what reads the log, what checks functions.
# Each part is skipped where its package is not installed.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($library) = run_command([ 'pg_config', '--pkglibdir' ]);
my ($programs) = run_command([ 'pg_config', '--bindir' ]);
my ($share) = run_command([ 'pg_config', '--sharedir' ]);
sub has { return -e "$library/$_[0].so" }

my @preloaded = ('pg_projections', grep { has($_) } qw(pg_stat_statements auto_explain pgaudit));
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', sprintf(q{
shared_preload_libraries = '%s'
wal_level = logical
pg_projections.workers = 0
pg_stat_statements.track = all
auto_explain.log_min_duration = 0
auto_explain.log_nested_statements = on
auto_explain.log_analyze = on
pgaudit.log = 'read, write, ddl'
}, join ', ', @preloaded));
# Since a minor version, plugins for the log have to be named.
$node->append_conf('postgresql.conf', "output_plugin_libraries = 'pgoutput, wal2json'\n") if slurp_file("$share/postgresql.conf.sample") =~ /output_plugin_libraries/;
$node->start;
sub run_sql { my ($sql) = @_; return $node->safe_psql('postgres', "SET client_min_messages = error; $sql") }
run_sql('CREATE EXTENSION pg_projections');
$node->safe_psql('postgres', '\i test/oracle.sql');
run_sql("CREATE EXTENSION $_") for grep { has($_) } qw(pg_stat_statements pgaudit);
run_sql(q{
	CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL);
	CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int NOT NULL REFERENCES customers, amount int NOT NULL);
	CREATE INDEX ON orders (customer);
	INSERT INTO customers SELECT i, 'c' || i FROM generate_series(1, 30) i;
	INSERT INTO orders (customer, amount) SELECT 1 + i % 30, i FROM generate_series(1, 600) i;
	SELECT projections.create('totals', 'SELECT customer, count(*) AS n, sum(amount) AS amount, max(amount) AS most FROM orders GROUP BY customer');
	SELECT projections.create('named', 'SELECT o.id, o.amount, c.name FROM orders o JOIN customers c ON c.id = o.customer');
	SELECT projections.create('documents', 'SELECT c.id, (SELECT jsonb_agg(o.amount ORDER BY o.id) FROM orders o WHERE o.customer = c.id) AS amounts FROM customers c');
	SELECT projections.create('later', 'SELECT customer, sum(amount) AS amount FROM orders GROUP BY customer', 'async');
});

sub writes
{
	run_sql(q{
		INSERT INTO orders (customer, amount) SELECT 1 + i % 30, i FROM generate_series(1, 50) i;
		UPDATE orders SET amount = amount + 1, customer = 1 + id % 30 WHERE id % 5 = 0;
		DELETE FROM orders WHERE id % 11 = 0;
		UPDATE customers SET name = name || '!' WHERE id % 3 = 0;
		SELECT projections.catch_up();});
	return;
}
sub is_right
{
	my ($after) = @_;
	writes();
	is(run_sql(q{SELECT string_agg(w.problem, '; ') FROM projections.definitions d, test.wrong(d.relation) w WHERE w.problem IS NOT NULL}), '', "right after $after");
	is(run_sql(q{SELECT count(*) FROM projections.status WHERE status <> 'healthy' AND message NOT LIKE '%worker%'}), '0', "and healthy after $after");
	return;
}
run_sql('SELECT pg_stat_statements_reset()') if has('pg_stat_statements');
is_right("writes under @preloaded");

SKIP: {
	skip 'pg_stat_statements is not installed', 2 unless has('pg_stat_statements');
	is(run_sql(q{SELECT count(DISTINCT p) FROM pg_stat_statements s, unnest('{named,documents}'::text[]) p WHERE s.query LIKE format('/* maintenance of projection public.%s */ %%', p)}), '2', 'statements of maintenance say what they are for');
	is(run_sql(q{SELECT count(*) FROM pg_stat_statements WHERE query NOT LIKE '/* maintenance%' AND query ~ '^(INSERT INTO|UPDATE ONLY|DELETE FROM ONLY) public.(totals|named|documents|later)'}), '0', 'all of them do');
}
SKIP: {
	skip 'auto_explain is not installed', 1 unless has('auto_explain');
	like(slurp_file($node->logfile), qr{Query Text: /\* maintenance of projection public\.named \*/ INSERT}, 'auto_explain shows them, with their plans');
}
SKIP: {
	skip 'pgaudit is not installed', 1 unless has('pgaudit');
	like(slurp_file($node->logfile), qr{AUDIT: SESSION,\d+,\d+,WRITE,INSERT,,,"?/\* maintenance of projection public\.named \*/}, 'pgaudit tells maintenance from what a user wrote');
}

# Names that would end a comment.
run_sql(q{
	CREATE TABLE "a*/ DROP TABLE orders; /*" (id int PRIMARY KEY, n int);
	SELECT projections.create('"b*/ DROP TABLE orders; /*"', 'SELECT id, n FROM "a*/ DROP TABLE orders; /*"');
	INSERT INTO "a*/ DROP TABLE orders; /*" VALUES (1, 1), (2, 2);
	DELETE FROM "a*/ DROP TABLE orders; /*" WHERE id = 1;
});
is(run_sql('SELECT count(*) FROM "b*/ DROP TABLE orders; /*"'), '1', 'a name that ends a comment ends none');

for my $rewrites ('VACUUM FULL', 'VACUUM (FULL, ANALYZE)', 'REINDEX TABLE', 'REINDEX TABLE CONCURRENTLY')
{
	for my $table ('orders', 'totals', 'named', 'documents')
	{
		$node->safe_psql('postgres', "$rewrites $table");
	}
	is_right($rewrites);
}
$node->safe_psql('postgres', "CLUSTER $_ USING " . run_sql("SELECT indexrelid::regclass FROM pg_index WHERE indrelid = '$_'::regclass AND indisunique LIMIT 1")) for 'orders', 'named';
is_right('CLUSTER');

SKIP: {
	skip 'pg_repack is not installed', 2 unless has('pg_repack') && -x "$programs/pg_repack";
	run_sql('CREATE EXTENSION pg_repack');
	my @keyed = split /\n/, run_sql(q{SELECT indrelid::regclass FROM pg_index WHERE indisprimary AND indrelid IN ('orders'::regclass, 'customers'::regclass, 'totals'::regclass, 'named'::regclass, 'documents'::regclass) ORDER BY 1});
	for my $table (@keyed)
	{
		$node->command_ok([ "$programs/pg_repack", '-h', $node->host, '-p', $node->port, '-d', 'postgres', '--no-kill-backend', '-t', $table ], "pg_repack of $table");
	}
	is_right("pg_repack of @keyed");
}

SKIP: {
	skip 'plpgsql_check is not installed', 1 unless has('plpgsql_check');
	run_sql('CREATE EXTENSION plpgsql_check');
	is(run_sql(q{
		SELECT string_agg(format('%s, line %s: %s', p.oid::regprocedure, c.lineno, c.message), '; ')
		FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang AND l.lanname = 'plpgsql', plpgsql_check_function_tb(p.oid, fatal_errors => false) c
		WHERE p.pronamespace IN ('projections'::regnamespace, 'projections_internal'::regnamespace) AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype) AND c.level = 'error'}), '', 'plpgsql_check finds no error in what the extension is made of');
}

SKIP: {
	skip 'wal2json is not installed', 2 unless has('wal2json');
	run_sql(q{SELECT pg_create_logical_replication_slot('reader', 'wal2json')});
	run_sql(q{BEGIN; INSERT INTO orders (customer, amount) VALUES (1, 1), (1, 2), (2, 3); UPDATE orders SET amount = amount + 1 WHERE customer = 1; DELETE FROM orders WHERE id = (SELECT max(id) FROM orders WHERE customer = 1); COMMIT});
	my $changes = run_sql(q{SELECT string_agg(format('%s %s', c ->> 'kind', n), ', ') FROM (
		SELECT c -> 'kind' AS kind, c, count(*) OVER (PARTITION BY c ->> 'kind') AS n, row_number() OVER (PARTITION BY c ->> 'kind') AS r
		FROM pg_logical_slot_get_changes('reader', NULL, NULL, 'add-tables', 'public.totals') d, jsonb_array_elements(d.data::jsonb -> 'change') c) x WHERE r = 1});
	is($changes, 'update 2', 'a consumer of the log sees one change of each row that a transaction changed');
	run_sql(q{SELECT pg_drop_replication_slot('reader')});
}
$node->stop;
done_testing();
