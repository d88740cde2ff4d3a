# From one version of the SQL objects to the other and back: the same catalogs as a fresh installation, projections that stay
# equal all the while, and no damage where library and SQL do not fit.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($old, $new) = ('0.2.0', '0.3.0');
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'pg_projections'
max_worker_processes = 16
pg_projections.poll_interval = '200ms'
});
$node->start;

# Everything that the extension is, one line for each property. Columns are compared by name, order and type: one that was
# dropped and added again has another number.
my $catalogs = q{
WITH member AS (
	SELECT d.classid, d.objid, pg_describe_object(d.classid, d.objid, 0) AS object FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
	WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'pg_projections'
), ours AS (
	SELECT c.*, m.object FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
), columns AS (
	SELECT o.object, o.oid, a.*, row_number() OVER (PARTITION BY o.oid ORDER BY a.attnum) AS place
	FROM ours o JOIN pg_attribute a ON a.attrelid = o.oid AND a.attnum > 0 AND NOT a.attisdropped
)
SELECT object FROM member
UNION ALL
SELECT object || ': comment ' || obj_description(objid, (SELECT relname FROM pg_class WHERE oid = classid)) FROM member WHERE obj_description(objid, (SELECT relname FROM pg_class WHERE oid = classid)) IS NOT NULL
UNION ALL
SELECT object || ': text ' || pg_get_functiondef(objid) FROM member JOIN pg_proc p ON p.oid = objid WHERE classid = 'pg_proc'::regclass AND p.prokind <> 'a'
UNION ALL
SELECT object || ': made of ' || row_to_json(a)::text FROM member JOIN pg_aggregate a ON a.aggfnoid = objid WHERE classid = 'pg_proc'::regclass
UNION ALL
SELECT object || ': privilege ' || a::text FROM member JOIN pg_proc p ON p.oid = objid, unnest(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE classid = 'pg_proc'::regclass
UNION ALL
SELECT object || ': text ' || pg_get_viewdef(oid) FROM ours WHERE relkind = 'v'
UNION ALL
SELECT object || ': options ' || concat_ws(' ', reloptions, relkind, relpersistence, relrowsecurity, relforcerowsecurity, relreplident) FROM ours
UNION ALL
SELECT object || ': privilege ' || a::text FROM ours, unnest(coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))) a
UNION ALL
SELECT format('%s: column %s %s %s %s %s %s %s %s', object, place, attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated,
	(SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d WHERE d.adrelid = attrelid AND d.adnum = attnum), col_description(attrelid, attnum)) FROM columns
UNION ALL
SELECT format('%s: column privilege %s %s', object, attname, a) FROM columns, unnest(attacl) a
UNION ALL
SELECT o.object || ': constraint ' || k.conname || ' ' || pg_get_constraintdef(k.oid) FROM ours o JOIN pg_constraint k ON k.conrelid = o.oid
UNION ALL
SELECT o.object || ': index ' || pg_get_indexdef(i.indexrelid) FROM ours o JOIN pg_index i ON i.indrelid = o.oid
UNION ALL
SELECT o.object || ': trigger ' || t.tgenabled::text || pg_get_triggerdef(t.oid) FROM ours o JOIN pg_trigger t ON t.tgrelid = o.oid WHERE NOT t.tgisinternal
UNION ALL
SELECT o.object || ': policy ' || concat_ws(' ', p.polname, p.polcmd, p.polpermissive, p.polroles::text) || coalesce(pg_get_expr(p.polqual, p.polrelid), '') || coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '')
FROM ours o JOIN pg_policy p ON p.polrelid = o.oid
UNION ALL
SELECT object || ': ' || concat_ws(' ', evtevent, evtenabled, evtfoid::regproc, evttags) FROM member JOIN pg_event_trigger e ON e.oid = objid WHERE classid = 'pg_event_trigger'::regclass
UNION ALL
SELECT 'dumped: ' || c.relation::regclass::text || ' ' || c.condition FROM pg_extension e, unnest(e.extconfig, e.extcondition) AS c(relation, condition) WHERE e.extname = 'pg_projections'
UNION ALL
SELECT 'version ' || extversion FROM pg_extension WHERE extname = 'pg_projections'
ORDER BY 1
};

# A line break inside of a text must not part it. Both texts are then compared line by line.
sub catalogs { return [ split /\x1e\n/, $node->safe_psql($_[0], $catalogs, extra_params => [ '-R', "\x1e\n" ]) ]; }

sub same
{
	my ($found, $expected, $name) = @_;
	my %found = map { $_ => 1 } @$found;
	my %expected = map { $_ => 1 } @$expected;
	my @missing = grep { !$found{$_} } @$expected;
	my @extra = grep { !$expected{$_} } @$found;
	ok(!@missing && !@extra, $name) or diag join "\n", map({ "missing: $_" } @missing), map({ "too much: $_" } @extra);
}

sub fails
{
	my ($database, $sql, $pattern, $name) = @_;
	my ($status, undef, $error) = $node->psql($database, "\\set VERBOSITY verbose\n$sql", on_error_stop => 1);
	ok($status != 0 && $error =~ $pattern, $name) or diag "status $status: $error";
}

$node->safe_psql('postgres', "CREATE DATABASE $_") for qw(fresh_old fresh_new bare life broken older newer);
$node->safe_psql($_, "CREATE EXTENSION pg_projections VERSION '$old'") for qw(fresh_old bare life broken);
$node->safe_psql($_, 'CREATE EXTENSION pg_projections') for qw(fresh_new older newer);
my ($fresh_old, $fresh_new) = (catalogs('fresh_old'), catalogs('fresh_new'));
cmp_ok(scalar @$fresh_old, '>', 1000, 'there is much to compare');

# --------------------------------------------------------------------------------------------------------- the catalogs

for my $round (1, 2)
{
	$node->safe_psql('bare', "ALTER EXTENSION pg_projections UPDATE TO '$new'");
	same(catalogs('bare'), $fresh_new, "$old updated to $new is as a fresh $new, $round");
	$node->safe_psql('bare', "ALTER EXTENSION pg_projections UPDATE TO '$old'");
	same(catalogs('bare'), $fresh_old, "$new taken back to $old is as a fresh $old, $round");
}

# What needs the new SQL says so.
$node->safe_psql('bare', 'CREATE TABLE t (k int)');
fails('bare', q{SELECT projections.create('p', 'SELECT k, count(*) FROM t GROUP BY k', options => '{"fill": "online"}')},
	qr/ERROR:  55000: this needs the SQL objects of extension pg_projections in version $new.*HINT:  ALTER EXTENSION pg_projections UPDATE;/s, 'what the old SQL cannot do');
$node->safe_psql('bare', q{SET client_min_messages = error; SELECT projections.create('p', 'SELECT k, count(*) FROM t GROUP BY k'); INSERT INTO t VALUES (1), (1); SELECT projections.create('a', 'SELECT k, count(*) AS n FROM t GROUP BY k', 'async')});
is($node->safe_psql('bare', q{SELECT projections.pause('p', 'why'), projections.resume('p'); SELECT projections.catch_up() >= 0; SELECT count(*) FROM projections.health(); SELECT projections.drop('p')}), "|\nt\n2\n", 'what it can do goes on');
$node->safe_psql('bare', 'DROP TABLE t CASCADE');

# ----------------------------------------------------------------------------------- projections of every kind live on

$node->safe_psql('life', '\i test/oracle.sql');
$node->safe_psql('life', q{
	SET client_min_messages = error;
	CREATE TABLE customer (id int PRIMARY KEY, country text);
	CREATE TABLE purchase (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int, amount numeric(10,2));
	CREATE TABLE visit (page text);
	CREATE TABLE move (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind text, item text, quantity int, at timestamptz DEFAULT now());
	CREATE TABLE seen (item text PRIMARY KEY, moves int);
	CREATE TABLE seen_inline (item text PRIMARY KEY, moves int);
	SELECT projections.register_source('move', position_column => 'position', type_column => 'kind', time_column => 'at');
	CREATE FUNCTION add(state jsonb, event move, key text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN
		IF event.quantity = 0 THEN RAISE 'nothing moved'; END IF;
		RETURN to_jsonb(coalesce((state #>> '{}')::int, 0) + event.quantity);
	END $$;
	CREATE FUNCTION see(event move) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO seen VALUES (event.item, 1) ON CONFLICT (item) DO UPDATE SET moves = seen.moves + 1; END $$;
	CREATE FUNCTION see_inline(event move) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO seen_inline VALUES (event.item, 1) ON CONFLICT (item) DO UPDATE SET moves = seen_inline.moves + 1; END $$;
	SELECT projections.create('revenue', 'SELECT c.country, sum(o.amount) AS amount, max(o.amount) AS most FROM purchase o JOIN customer c ON c.id = o.customer GROUP BY c.country');
	SELECT projections.create('by_size', 'SELECT amount > 500 AS large, count(*) AS n FROM revenue GROUP BY amount > 500');
	SELECT projections.create('everything', 'SELECT count(*) AS n, avg(amount) AS mean FROM purchase');
	SELECT projections.create('joined', 'SELECT o.amount, c.country FROM purchase o JOIN customer c ON c.id = o.customer');
	SELECT projections.create('pages', 'SELECT page FROM visit');
	SELECT projections.create('page_counts', 'SELECT page, count(*) AS n FROM visit GROUP BY page');
	SELECT projections.create('item_totals', 'SELECT item, sum(quantity) AS quantity, max(quantity) AS most FROM move GROUP BY item', 'async', options => '{"slots": 2}');
	SELECT projections.create('page_log', 'SELECT page, count(*) AS n FROM visit GROUP BY page', 'async');
	SELECT projections.create('stored', 'SELECT stream, count(*) AS n FROM projections.events GROUP BY stream', 'async');
	SELECT projections.create_reducer('balance', 'move', 'item', 'add(jsonb, move, text)', options => '{"max_retries": 0}');
	SELECT projections.create_handler('sightings', 'move', 'see(move)', '{seen}', partition_by => 'item');
	SELECT projections.create_handler('sightings_inline', 'move', 'see_inline(move)', '{seen_inline}', mode => 'inline');
	SELECT projections.create_state_machine('state', 'move', 'item',
		'[{"from": null, "event": "in", "to": "here"}, {"from": "here", "event": "in", "to": "here"}, {"from": "here", "event": "out", "to": "here"}]');
	INSERT INTO customer SELECT g, 'country ' || g % 3 FROM generate_series(1, 20) g;
	INSERT INTO move (kind, item, quantity) SELECT 'in', 'item ' || g, 1 FROM generate_series(0, 9) g;
});

my $write = $node->basedir . '/write.sql';
append_to_file($write, q{
\set item random(0, 9)
\set quantity random(1, 9)
BEGIN;
INSERT INTO purchase (customer, amount) VALUES (1 + :item, :quantity);
INSERT INTO visit VALUES ('page ' || :item);
INSERT INTO move (kind, item, quantity) VALUES (CASE WHEN :quantity > 5 THEN 'out' ELSE 'in' END, 'item ' || :item, :quantity);
SELECT FROM projections.append('stream ' || :item, 'noted', '{}');
COMMIT;
});
# Sessions that have the catalog of the version before in their caches go on writing.
my $output = '';
my $writers = IPC::Run::start([ 'pgbench', '-n', '-c', '2', '-T', '280', '-R', '40', '-f', $write, '-h', $node->host, '-p', $node->port, 'life' ], '>&', \$output);

my $behind = q{SELECT count(*) FROM projections.health() WHERE mode = 'async' AND (lag_events > 0 OR status NOT IN ('healthy', 'paused'))};
my $holds_off = q{LOCK TABLE purchase, visit, move, projections.events IN SHARE MODE};

# All at one moment: writers held off, everything applied.
sub all_equal
{
	my $name = shift;
	my $counted = $node->safe_psql('life', q{SELECT count(*) FROM purchase});
	$node->poll_query_until('life', "SELECT count(*) > $counted FROM purchase") or die "no writer writes: $output";
	ok($writers->pumpable, "$name: nobody's write failed") or diag $output;
	for my $try (1 .. 100)
	{
		$node->poll_query_until('life', "SELECT ($behind) = 0") or die "$name: not caught up";
		my ($status, $found, $error) = $node->psql('life', qq{
			BEGIN;
			$holds_off;
			SELECT ($behind) > 0 AS late \\gset
			\\if :late
				SELECT 'late';
			\\else
				SELECT 'wrong', item, sum(quantity) FROM move GROUP BY item EXCEPT SELECT 'wrong', key, state::text::int FROM balance;
				SELECT 'wrong', item, count(*) FROM move GROUP BY item EXCEPT SELECT 'wrong', item, moves FROM seen;
				SELECT 'wrong', item, count(*) FROM move GROUP BY item EXCEPT SELECT 'wrong', item, moves FROM seen_inline;
				SELECT 'wrong', item, count(*) FROM move GROUP BY item EXCEPT SELECT 'wrong', key, version FROM state;
				SELECT 'checked', equal > 8 FROM test.check_all();
			\\endif
			COMMIT;
		}, on_error_stop => 1);
		next if $found eq 'late';
		is("$found$error", 'checked|t', $name);
		return;
	}
	die "$name: never caught up";
}

is($node->safe_psql('life', 'SELECT * FROM projections.version()'), "$new|$old|f", 'version() says that they differ');
all_equal("library $new with the SQL of $old");
for my $round (1, 2)
{
	$node->safe_psql('life', "SELECT projections.pause('page_counts', 'update'), projections.pause('balance', 'update')");
	$node->safe_psql('life', "ALTER EXTENSION pg_projections UPDATE TO '$new'");
	$node->safe_psql('life', "SELECT projections.resume('page_counts'), projections.resume('balance')");
	is($node->safe_psql('life', 'SELECT * FROM projections.version()'), "$new|$new|t", "$round: version() says that they match");
	all_equal("$round: after the update");
	$node->safe_psql('life', "ALTER EXTENSION pg_projections UPDATE TO '$old'");
	all_equal("$round: after the way back");
}
same(catalogs('life'), $fresh_old, 'with projections, too, the way back leads to a fresh one');
$node->safe_psql('life', 'ALTER EXTENSION pg_projections UPDATE');
same(catalogs('life'), $fresh_new, 'with projections, too, the update leads to a fresh one');

kill 'INT', map { $_->{PID} // () } @{ $writers->{KIDS} };
$writers->finish;
unlike($output, qr/ERROR|aborted/, 'no writer ever failed') or diag $output;

# ------------------------------------------------------------------------------------------- an update that fails

my $made = q{
	SET client_min_messages = error;
	CREATE TABLE t (k int, v int);
	SELECT projections.create('sums', 'SELECT k, sum(v) AS s FROM t GROUP BY k');
	INSERT INTO t VALUES (1, 1), (2, 2);
};
$node->safe_psql('broken', $made);
# Nobody's objects are taken for the extension's because of their schema.
my $planted = q{CREATE SCHEMA projections_internal; CREATE TABLE projections_internal.projection (LIKE projections.projection); CREATE TABLE projections_internal.source (LIKE projections.source)};
$node->safe_psql('broken', $planted);
my $before = catalogs('broken');
fails('broken', 'ALTER EXTENSION pg_projections UPDATE', qr/ERROR:  42P06: schema "projections_internal" already exists/, 'an update that fails');
same(catalogs('broken'), $before, 'leaves everything as it was');
$node->safe_psql('broken', 'INSERT INTO t VALUES (1, 10)');
is($node->safe_psql('broken', 'SELECT k, s FROM sums ORDER BY k'), "1|11\n2|2", 'and projections go on');
$node->safe_psql('broken', "SET client_min_messages = error; DROP SCHEMA projections_internal CASCADE; ALTER EXTENSION pg_projections UPDATE; INSERT INTO t VALUES (1, 100)");
is($node->safe_psql('broken', 'SELECT k, s FROM sums ORDER BY k'), "1|111\n2|2", 'it succeeds once what was in the way is gone');

# ----------------------------------------------------------------------------- a dump of the old version

# It says WITH SCHEMA public, as the extension was installed there, and names that version's tables: it gets that version,
# restores as it is, and is updated then.
$node->safe_psql('postgres', 'CREATE DATABASE dumped; CREATE DATABASE restored');
$node->safe_psql('dumped', "CREATE EXTENSION pg_projections VERSION '$old'; UPDATE pg_extension SET extnamespace = 'public'::regnamespace WHERE extname = 'pg_projections'");
$node->safe_psql('dumped', $made . q{SELECT projections.create('later', 'SELECT k, sum(v) AS s FROM t GROUP BY k', 'async'); INSERT INTO t VALUES (1, 10)});
my $file = $node->backup_dir . '/old.sql';
mkdir $node->backup_dir;
$node->command_ok([ 'pg_dump', '-f', $file, 'dumped' ], 'a dump of the old version');
like(slurp_file($file), qr/CREATE EXTENSION IF NOT EXISTS pg_projections WITH SCHEMA public/, 'names the schema that it had');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'restored', '-f', $file ], 'it can be restored');
my $installed = q{SELECT extnamespace::regnamespace, extversion FROM pg_extension WHERE extname = 'pg_projections'};
is($node->safe_psql('restored', $installed), "pg_catalog|$old", 'the extension is of the version that the dump is of, and in pg_catalog');
$node->safe_psql('restored', q{INSERT INTO t VALUES (3, 3)});
ok($node->poll_query_until('restored', q{SELECT (SELECT string_agg(k || ' ' || s, ',' ORDER BY k) FROM later) = '1 11,2 2,3 3'}), 'the worker goes on');
is($node->safe_psql('restored', 'SELECT k, s FROM sums ORDER BY k'), "1|11\n2|2\n3|3", 'and so does what is inline');
$node->safe_psql('restored', q{ALTER EXTENSION pg_projections UPDATE; INSERT INTO t VALUES (3, 4)});
is($node->safe_psql('restored', $installed), "pg_catalog|$new", 'an update follows');
ok($node->poll_query_until('restored', q{SELECT (SELECT string_agg(k || ' ' || s, ',' ORDER BY k) FROM later) = '1 11,2 2,3 7'}), 'the worker goes on then, too');
is($node->safe_psql('restored', 'SELECT k, s FROM sums ORDER BY k'), "1|11\n2|2\n3|7", 'and what is inline');
is($node->safe_psql('restored', q{SELECT string_agg(problem, '; ') FROM projections.validate() WHERE severity <> 'INFO'}), '', 'nothing is amiss');
is($node->safe_psql('restored', q{SELECT count(*) FROM pg_class WHERE relnamespace = 'projections'::regnamespace AND relkind IN ('r', 'v') AND obj_description(oid, 'pg_class') LIKE 'pg\_projections: %'}), '0', 'nothing hidden is left where users look');
$node->safe_psql('postgres', 'CREATE DATABASE before');
$node->safe_psql('before', "CREATE EXTENSION pg_projections VERSION '$old'");
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'before', '-f', $file ], 'it can be restored where the extension has been made in its version before');
$node->safe_psql('before', q{ALTER EXTENSION pg_projections UPDATE; INSERT INTO t VALUES (3, 3)});
is($node->safe_psql('before', 'SELECT k, s FROM sums ORDER BY k'), "1|11\n2|2\n3|3", 'and is updated there');
fails('postgres', 'CREATE EXTENSION pg_projections WITH SCHEMA public', qr/must be installed in schema "pg_catalog"/, 'who names another schema himself');

# In the midst of a restore, a batch neither tells nor records that triggers and indexes are missing: they are to come.
$node->safe_psql('postgres', 'CREATE DATABASE sections');
for my $section (qw(pre-data data post-data))
{
	$node->command_ok([ 'pg_dump', '-f', $file, "--section=$section", 'restored' ], "the $section of a dump");
	$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'sections', '-f', $file ], "the $section restored");
	$node->psql('sections', q{SELECT projections.catch_up('later')}) if $section eq 'data';
}
$node->safe_psql('sections', q{INSERT INTO t VALUES (3, 30)});
ok($node->poll_query_until('sections', q{SELECT (SELECT string_agg(k || ' ' || s, ',' ORDER BY k) FROM later) = '1 11,2 2,3 37'}), 'a batch in the midst of a restore does no harm');
is($node->safe_psql('sections', q{SELECT string_agg(problem, '; ') FROM projections.validate() WHERE severity <> 'INFO'}), '', 'nor does it mark anything stale');

# ----------------------------------------------------------------------------- what the old version cannot follow

$node->safe_psql('postgres', 'CREATE DATABASE beyond');
$node->safe_psql('beyond', q{
	SET client_min_messages = error;
	CREATE EXTENSION pg_projections;
	CREATE TABLE t (id int PRIMARY KEY, k int, v int);
	CREATE TABLE u (id int PRIMARY KEY, k int);
	CREATE TABLE n (id int PRIMARY KEY, pieces int);
	CREATE TABLE parted_source (k int) PARTITION BY LIST (k);
	INSERT INTO t SELECT i, i % 3, i FROM generate_series(1, 9) i;
	SELECT projections.create('plain', 'SELECT t.k, sum(t.v) AS s FROM t JOIN u ON u.k = t.k GROUP BY t.k');
	SELECT projections.create('plain_rows', 'SELECT t.id, u.id AS u FROM t, u WHERE u.k = t.k');
	SELECT projections.create('plain_later', 'SELECT k, max(v) AS m FROM t GROUP BY k', 'async');
	SELECT projections.create('plain_required', 'SELECT k, count(*) AS n FROM t GROUP BY k', options => '{"key_not_null": true}');
});
# Version 0.2.0 knows rows by another index than a primary key, which is made beside it, and has not the option.
my $required = q{SELECT (SELECT string_agg(format('%s %s', c.relname, CASE WHEN i.indisprimary THEN 'primary' WHEN i.indnullsnotdistinct THEN 'unique' END), ', '
	ORDER BY c.relname, i.indisprimary) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relname IN ('plain_rows', 'plain_required')),
	(SELECT string_agg(concat_ws(' ', object, problem), '; ') FROM projections.validate() WHERE severity = 'ERROR' AND object <> 'pg_projections'), (SELECT count(*) FROM projections.verify('plain_required')), (SELECT count(*) FROM projections.verify('plain_rows'))};
is($node->safe_psql('beyond', $required), 'plain_required primary, plain_rows primary||0|0', 'primary keys before the way back');
$node->safe_psql('beyond', "ALTER EXTENSION pg_projections UPDATE TO '$old'");
is($node->safe_psql('beyond', $required), 'plain_required unique, plain_required primary, plain_rows unique, plain_rows primary||0|0', 'after it, with indexes beside them');
is($node->safe_psql('beyond', q{SELECT options FROM projections.projection WHERE relation = 'plain_required'::regclass}), '{}', 'and without the option');
$node->safe_psql('beyond', q{INSERT INTO u VALUES (1, 1); UPDATE t SET k = 4 WHERE id = 3; SELECT projections.create('plain_new', 'SELECT id, v FROM t')});
is($node->safe_psql('beyond', $required), 'plain_required unique, plain_required primary, plain_rows unique, plain_rows primary||0|0', 'and they are followed');
is($node->safe_psql('beyond', q{SELECT bool_or(indisprimary) FROM pg_index WHERE indrelid = 'plain_new'::regclass}), 'f', 'there, a new one has no primary key');
$node->safe_psql('beyond', "ALTER EXTENSION pg_projections UPDATE TO '$new'");
$node->safe_psql('beyond', 'UPDATE t SET k = 5 WHERE id = 4; DELETE FROM u');
is($node->safe_psql('beyond', $required), 'plain_required unique, plain_required primary, plain_rows unique, plain_rows primary||0|0', 'nor does the update take anything away');
$node->safe_psql('beyond', q{ALTER TABLE plain_rows DROP CONSTRAINT plain_rows_pkey; SELECT projections.drop('plain_new'); SELECT projections.drop('plain_required')});
my %beyond = (
	many => [ 'SELECT k FROM t GROUP BY k HAVING count(*) > 1', 'has parts' ],
	nobody => [ 'SELECT id FROM t WHERE NOT EXISTS (SELECT FROM u WHERE u.k = t.k)', 'asks whether rows are there' ],
	parted => [ 'SELECT k, count(*) AS n FROM parted_source GROUP BY k', 'follows a partitioned table' ],
	optional => [ 'SELECT t.id, u.k FROM t LEFT JOIN u ON u.id = t.id', 'reads a union' ],
	listed => [ 'SELECT k, array_agg(v ORDER BY v) AS v FROM t GROUP BY k', 'reads again what a change concerns' ],
	last => [ 'SELECT k FROM t ORDER BY v LIMIT 2', 'is read again as a whole', q{'{"fallback": "refresh"}'} ],
	pieces => [ 'SELECT n.id FROM n, generate_series(1, n.pieces)', 'repeats rows' ],
	above => [ 'SELECT p.k, p.s FROM plain p', 'knows its rows by the key of another projection' ],
	joined => [ 'SELECT t.id, u.id AS u FROM t, u WHERE u.k = t.k', 'joins tables in async mode', undef, 'async' ],
);
for my $name (sort keys %beyond)
{
	my ($query, $reason, $options, $mode) = @{ $beyond{$name} };
	$node->safe_psql('beyond', sprintf q{SET client_min_messages = error; SELECT projections.create('%s', $q$%s$q$, mode => '%s', options => %s)},
		$name, $query, $mode // 'inline', $options // q{'{}'});
	fails('beyond', "ALTER EXTENSION pg_projections UPDATE TO '$old'", qr/ERROR:  55000: version 0\.2\.0 cannot maintain 1 of the projections.*DETAIL:  public\.$name \Q$reason\E.*HINT:  Drop them/s, "$name: the way back");
	if ($name eq 'many')
	{
		$node->safe_psql('beyond', 'INSERT INTO t VALUES (10, 7, 7), (11, 7, 7)');
		is($node->safe_psql('beyond', 'SELECT k FROM many ORDER BY k'), "0\n1\n2\n7", 'and it is followed as before');
	}
	$node->safe_psql('beyond', "SELECT projections.drop('$name')");
}
$node->safe_psql('beyond', "ALTER EXTENSION pg_projections UPDATE TO '$old'");

# ----------------------------------------------------------------------------- a library that is older than the SQL

# As it finds a database that somebody has updated with a newer one.
$node->safe_psql('newer', $made);
$node->safe_psql('newer', q{CREATE TABLE plain (i int); UPDATE pg_extension SET extversion = '9.9.9' WHERE extname = 'pg_projections'});
is($node->safe_psql('newer', 'SELECT * FROM projections.version()'), "$new|9.9.9|f", 'version() says that they differ, and raises nothing');
my $refused = qr/ERROR:  55000: the SQL objects of extension pg_projections are not those of its library.*DETAIL:.*$new.*9\.9\.9.*HINT:  Install the library of version 9\.9\.9/s;
fails('newer', $_, $refused, "refused: $_")
  for 'INSERT INTO t VALUES (3, 3)', 'TRUNCATE t', "SELECT projections.drop('sums')", "SELECT projections.pause('sums', 'why')",
  "SELECT projections.create('more', 'SELECT v FROM t')", 'SELECT projections.catch_up()', 'DROP TABLE sums', 'DELETE FROM sums', 'DROP TABLE t CASCADE';
is($node->safe_psql('newer', 'INSERT INTO plain VALUES (1) RETURNING i; SELECT k, s FROM sums ORDER BY k'), "1\n1|1\n2|2", 'other tables can be written, projections can be read');
$node->safe_psql('newer', "UPDATE pg_extension SET extversion = '$new' WHERE extname = 'pg_projections'");
$node->safe_psql('newer', 'INSERT INTO t VALUES (3, 3)');
is($node->safe_psql('newer', 'SELECT k, s FROM sums ORDER BY k'), "1|1\n2|2\n3|3", 'with the library that fits nothing is lost');

# The update scripts are for the library that knows both ends.
$node->safe_psql('older', q{CREATE OR REPLACE FUNCTION projections_internal._library_version() RETURNS text LANGUAGE sql STABLE AS $$SELECT '0.2.0'$$});
fails('older', "ALTER EXTENSION pg_projections UPDATE TO '$old'", qr/ERROR:  55000: the loaded library is version 0\.2\.0.*HINT:  Install it, and restart/s, 'an old library that is still loaded');

$node->stop;
done_testing();
