# Rebuild of handlers, reducers and state machines while events are appended and workers apply them: with the holder killed in
# each phase, the server killed, and a reader that keeps its snapshot. Afterwards everything is what a replay in SQL gives.
use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Restart;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'pg_projections'
restart_after_crash = on
max_worker_processes = 16
});
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_projections;
	SET client_min_messages = warning;
	CREATE TABLE moves (pos bigserial PRIMARY KEY, item text NOT NULL, kind text NOT NULL DEFAULT 'in', qty int NOT NULL);
	SELECT projections.register_source('moves', position_column => 'pos', type_column => 'kind');
	-- Who is called 'rebuilder' stops at the event, in the middle of a replay, as long as somebody holds the lock.
	CREATE FUNCTION gate(kind text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF kind = 'gate' AND current_setting('application_name') = 'rebuilder' THEN
			PERFORM pg_advisory_xact_lock_shared(1);
		END IF;
	END $$;
	CREATE TABLE items (item text PRIMARY KEY, on_hand bigint NOT NULL, last bigint NOT NULL);
	CREATE TABLE entries (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text NOT NULL REFERENCES items, source bigint NOT NULL UNIQUE, qty int NOT NULL);
	CREATE FUNCTION apply_move(e moves) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM gate(e.kind);
		INSERT INTO items AS i VALUES (e.item, e.qty, e.pos) ON CONFLICT (item) DO UPDATE SET on_hand = i.on_hand + excluded.on_hand, last = excluded.last;
		INSERT INTO entries (item, source, qty) VALUES (e.item, e.pos, e.qty);
	END $$;
	CREATE FUNCTION fold(state jsonb, e moves, key text) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM gate(e.kind);
		RETURN to_jsonb(coalesce((state #>> '{}')::bigint, 0) + e.qty);
	END $$;
	CREATE TABLE inline_items (item text PRIMARY KEY, on_hand bigint NOT NULL);
	CREATE FUNCTION apply_inline(e moves) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM gate(e.kind);
		UPDATE inline_items SET on_hand = on_hand + e.qty WHERE item = e.item;
		IF NOT FOUND THEN
			INSERT INTO inline_items AS i VALUES (e.item, e.qty) ON CONFLICT (item) DO UPDATE SET on_hand = i.on_hand + excluded.on_hand;
		END IF;
	END $$;
	SELECT projections.create_handler('stock', 'moves', 'apply_move(moves)', '{items,entries}', partition_by => 'item', options => '{"slots": 2}');
	SELECT projections.create_reducer('folded', 'moves', 'item', 'fold(jsonb,moves,text)', options => '{"slots": 2}');
	SELECT projections.create_reducer('folded_inline', 'moves', 'item', 'fold(jsonb,moves,text)', mode => 'inline');
	SELECT projections.create_handler('inline_items', 'moves', 'apply_inline(moves)', '{inline_items}', mode => 'inline');
	SELECT projections.create('totals', 'SELECT item, sum(qty) AS on_hand, count(*) AS n FROM moves GROUP BY item', mode => 'async', options => '{"slots": 2, "finish": "swap"}');
	CREATE VIEW expected AS SELECT item, sum(qty) AS on_hand, max(pos) AS last, count(*) AS n FROM moves GROUP BY item;
	CREATE VIEW difference AS
		SELECT 'items' AS name, d::text FROM ((SELECT item, on_hand, last FROM items EXCEPT ALL SELECT item, on_hand, last FROM expected) UNION ALL (SELECT item, on_hand, last FROM expected EXCEPT ALL SELECT item, on_hand, last FROM items)) d
		UNION ALL SELECT 'entries', d::text FROM ((SELECT item, source, qty FROM entries EXCEPT ALL SELECT item, pos, qty FROM moves) UNION ALL (SELECT item, pos, qty FROM moves EXCEPT ALL SELECT item, source, qty FROM entries)) d
		UNION ALL SELECT 'inline_items', d::text FROM ((TABLE inline_items EXCEPT ALL SELECT item, on_hand FROM expected) UNION ALL (SELECT item, on_hand FROM expected EXCEPT ALL TABLE inline_items)) d
		UNION ALL SELECT 'totals', d::text FROM ((SELECT item, on_hand, n FROM totals EXCEPT ALL SELECT item, on_hand, n FROM expected) UNION ALL (SELECT item, on_hand, n FROM expected EXCEPT ALL SELECT item, on_hand, n FROM totals)) d
		UNION ALL SELECT 'folded', d::text FROM ((SELECT key, state, version FROM folded EXCEPT ALL SELECT item, to_jsonb(on_hand), n FROM expected) UNION ALL (SELECT item, to_jsonb(on_hand), n FROM expected EXCEPT ALL SELECT key, state, version FROM folded)) d
		UNION ALL SELECT 'folded_inline', d::text FROM ((SELECT key, state, version FROM folded_inline EXCEPT ALL SELECT item, to_jsonb(on_hand), n FROM expected) UNION ALL (SELECT item, to_jsonb(on_hand), n FROM expected EXCEPT ALL SELECT key, state, version FROM folded_inline)) d;
	INSERT INTO moves (item, qty) SELECT 'i' || n % 50, n % 9 FROM generate_series(1, 20000) n;
	INSERT INTO moves (item, kind, qty) VALUES ('gate', 'gate', 1);
	INSERT INTO moves (item, qty) SELECT 'i' || n % 50, n % 9 FROM generate_series(1, 5000) n;
});
my @all = qw(stock folded folded_inline inline_items totals);
my @gated = qw(stock folded folded_inline inline_items);

sub value { return $node->safe_psql('postgres', $_[0]) }

sub rebuild_in_background
{
	my ($name) = @_;
	local $ENV{PGAPPNAME} = 'rebuilder';
	my %run = (out => '');
	$run{handle} = IPC::Run::start([ 'psql', '-X', '-q', '-v', 'VERBOSITY=verbose', '-d', $node->connstr('postgres'), '-c', "CALL projections.rebuild('$name')" ], '<', \undef, '>&', \$run{out});
	return \%run;
}

sub succeeds
{
	my ($run, $what) = @_;
	$run->{handle}->finish;
	is($run->{handle}->result(0), 0, $what) or diag $run->{out};
}

sub fails
{
	my ($run, $what) = @_;
	$run->{handle}->finish;
	isnt($run->{handle}->result(0), 0, $what);
}

# All of it, as soon as the workers have applied what there is.
sub is_right
{
	my ($what) = @_;
	for my $name (qw(stock folded totals))
	{
		is(value("SELECT projections.wait_for('$name', timeout => '60 s')"), 't', "$what: $name is up to date");
	}
	is(value('TABLE difference LIMIT 3'), '', "$what: as a replay in SQL");
	is(value('SELECT count(*) FROM projections.failures WHERE resolved_at IS NULL'), '0', "$what: without failures");
}

sub nothing_is_left
{
	my ($what) = @_;
	is(value(q{SELECT count(*) FROM projections_internal.projection WHERE shadow_of IS NOT NULL}), '0', "$what: no shadow");
	is(value(q{SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'projections\_shadow%'}), '0', "$what: no hidden schema");
	is(value(q{SELECT count(*) FROM pg_class WHERE relnamespace = 'projections_internal'::regnamespace AND relname LIKE '%\_shadow%' AND relkind IN ('r', 'v')}), '0', "$what: no hidden relation");
}

sub wait_for_gate
{
	ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND objsubid = 1 AND NOT granted}), "$_[0]: in the middle of the replay");
}

sub wait_for_phase
{
	my ($name, $phase) = @_;
	ok($node->poll_query_until('postgres', "SELECT phase = '$phase' FROM projections_internal.rebuild WHERE projection = '$name'::regclass ORDER BY id DESC LIMIT 1"), "$name: $phase");
}

# The server restarts its processes when one is killed.
sub kill_backend
{
	my $pid = value(q{SELECT pid FROM projections_internal.rebuild WHERE ended_at IS NULL});
	kill 'KILL', $pid;
	poll_over_restart($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)") or die 'the server does not restart';
}

is_right('at first');

# One at a time, and what is done by hand has to wait; readers and writers have not.
for my $name (@gated)
{
	my $gate = $node->background_psql('postgres', on_error_stop => 1);
	$gate->query_safe('SELECT pg_advisory_lock(1)');
	my $run = rebuild_in_background($name);
	wait_for_gate($name);
	my ($status, $out, $error) = $node->psql('postgres', "\\set VERBOSITY verbose\nCALL projections.rebuild('$name')");
	like($error, qr/PJ003.*is being rebuilt.*Process \d+ of .* began it at/s, "$name: a second rebuild is told who is at it");
	($status, $out, $error) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT projections.pause('$name', 'x')");
	like($error, qr/PJ003/, "$name: no pause meanwhile");
	($status, $out, $error) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT projections.replay('$name', 1, 2, true)");
	like($error, qr/PJ003/, "$name: nothing by hand meanwhile");
	value(q{INSERT INTO moves (item, qty) VALUES ('i1', 1), ('while', 2)});
	is_right("$name: while it is rebuilt");
	$gate->query_safe('SELECT pg_advisory_unlock(1)');
	succeeds($run, "$name: rebuilt");
	$gate->quit;
	is_right("$name: afterwards");
}
nothing_is_left('after rebuilds');

# The holder is killed in the replay; in the end; and the server with it. What it left is an orphan that the next rebuild removes, too.
for my $name (@gated)
{
	my $gate = $node->background_psql('postgres', on_error_stop => 1);
	$gate->query_safe('SELECT pg_advisory_lock(1)');
	my $run = rebuild_in_background($name);
	wait_for_gate($name);
	kill_backend();
	fails($run, "$name: killed in the replay");
	eval { $gate->quit };
	is(value(q{SELECT count(*) FROM projections_internal.projection WHERE shadow_of IS NOT NULL}), '1', "$name: its shadow is left");
	like(value(q{SELECT string_agg(kind, ',') FROM projections.orphans()}), qr/shadow/, "$name: an orphan");
	value(q{INSERT INTO moves (item, qty) VALUES ('i1', 1), ('after', 2)});
	is_right("$name: after the crash");
	if ($name eq 'stock')
	{
		value('SELECT count(*) FROM projections.cleanup_orphans()');
		nothing_is_left("$name: cleaned up");
	}
	value("CALL projections.rebuild('$name')");
	nothing_is_left("$name: rebuilt after the crash");
	is(value("SELECT string_agg(outcome, ',' ORDER BY id) FROM (SELECT * FROM projections_internal.rebuild WHERE projection = '$name'::regclass ORDER BY id DESC LIMIT 2) r"), 'died,done', "$name: and it is known");
	is_right("$name: rebuilt after the crash");
}

for my $name (@all)
{
	for my $how (qw(backend postmaster))
	{
		# Its snapshot would see an empty table: the swap waits for it.
		my $reader = $node->background_psql('postgres', on_error_stop => 1);
		$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
		my $rows = $reader->query_safe('SELECT (SELECT count(*) FROM items), (SELECT count(*) FROM folded), (SELECT count(*) FROM folded_inline), (SELECT count(*) FROM inline_items), (SELECT count(*) FROM totals)');
		my $run = rebuild_in_background($name);
		wait_for_phase($name, 'finishing');
		value(q{INSERT INTO moves (item, qty) VALUES ('i2', 1), ('finishing', 2)});
		is($reader->query_safe('SELECT (SELECT count(*) FROM items), (SELECT count(*) FROM folded), (SELECT count(*) FROM folded_inline), (SELECT count(*) FROM inline_items), (SELECT count(*) FROM totals)'), $rows,
			"$name: a reader goes on seeing what it saw");
		if ($how eq 'backend')
		{
			kill_backend();
			fails($run, "$name: killed in the end");
			eval { $reader->quit };
		}
		else
		{
			$node->stop('immediate');
			fails($run, "$name: the server is killed in the end");
			eval { $reader->quit };
			$node->start;
		}
		is_right("$name: after $how was killed in the end");
		value("CALL projections.rebuild('$name')");
		nothing_is_left("$name: rebuilt after $how was killed");
		is_right("$name: rebuilt after $how was killed");
	}
}

# A reader of the same kind that ends: then it is put in place.
{
	my $reader = $node->background_psql('postgres', on_error_stop => 1);
	$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
	my $rows = $reader->query_safe('SELECT count(*), sum(qty) FROM entries');
	my $run = rebuild_in_background('stock');
	wait_for_phase('stock', 'finishing');
	is($reader->query_safe('SELECT count(*), sum(qty) FROM entries'), $rows, 'an old snapshot is waited for');
	$reader->query_safe('COMMIT');
	succeeds($run, 'and put in place then');
	$reader->quit;
}

# What the live projection has applied is replayed, whoever has drawn a position since and sits on it.
{
	my $idle = $node->background_psql('postgres', on_error_stop => 1);
	$idle->query_safe(q{BEGIN; SELECT nextval('moves_pos_seq')});
	value("CALL projections.rebuild('$_')") for qw(stock folded totals);
	$idle->query_safe('COMMIT');
	$idle->quit;
	is_right('beside one who has drawn a position');
}

# An event of a lower position comes when an attempt to finish has gone past it: its transaction had drawn the position before.
for my $name (qw(folded_inline inline_items))
{
	my $reader = $node->background_psql('postgres', on_error_stop => 1);
	$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM items');
	my $gate = $node->background_psql('postgres', on_error_stop => 1);
	$gate->query_safe('SELECT pg_advisory_lock(1)');
	my $run = rebuild_in_background($name);
	wait_for_gate($name); # it knows that nobody draws
	my $late = $node->background_psql('postgres', on_error_stop => 1);
	my $position = $late->query_safe(q{BEGIN; SELECT nextval('moves_pos_seq')});
	value(qq{INSERT INTO moves (item, qty) VALUES ('i3', 1), ('past $name', 2)});
	$gate->query_safe('SELECT pg_advisory_unlock(1)');
	$gate->quit;
	ok($node->poll_query_until('postgres', "SELECT s.position > $position FROM projections_internal.slot s JOIN projections_internal.projection p ON p.relation = s.projection WHERE p.shadow_of = '$name'::regclass"),
		"$name: an attempt to finish has gone past a position that is undecided");
	$late->query_safe("INSERT INTO moves (pos, item, qty) VALUES ($position, 'late $name', 7); COMMIT");
	$late->quit;
	$reader->query_safe('COMMIT');
	succeeds($run, "$name: rebuilt");
	$reader->quit;
	is_right("$name: with the late event");
}

# A writer whose snapshot is older than the swap would not find the rows that it has to change: it is to try again.
for my $name (qw(folded_inline inline_items))
{
	my $writer = $node->background_psql('postgres', on_error_stop => 0);
	$writer->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM items');
	my $run;
	{
		local $ENV{PGOPTIONS} = '-c pg_projections.swap_lock_timeout=60s';
		$run = rebuild_in_background($name);
	}
	ok($node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_locks WHERE mode = 'ShareRowExclusiveLock' AND granted AND relation IN (SELECT unnest(ARRAY[p.relation, p.definition])::oid FROM projections_internal.projection p WHERE p.relation = '$name'::regclass)"),
		"$name: writers are held off");
	$writer->query("INSERT INTO moves (item, qty) VALUES ('i4', 1); COMMIT"); # reducers fold at the commit
	like($writer->{stderr}, qr/could not serialize access/, "$name: an older snapshot does not write into what was swapped in");
	$writer->quit;
	succeeds($run, "$name: rebuilt meanwhile");
	is_right("$name: after the writer was refused");
}

# Rebuilds of everything, by swap and by merge, under writers.
{
	my $file = $node->basedir . '/append.sql';
	append_to_file($file, "\\set item random(1, 60)\n\\set qty random(1, 9)\nINSERT INTO moves (item, qty) VALUES ('w' || :item, :qty);\n");
	my $output = '';
	my $writers = IPC::Run::start([ 'pgbench', '-n', '-c', '3', '-T', '600', '-R', '150', '--max-tries=1000', '-f', $file, '-h', $node->host, '-p', $node->port, 'postgres' ], '>&', \$output);
	for my $round (1, 2)
	{
		for my $name (@all)
		{
			is(value("SELECT count(*) FROM projections_internal.rebuild WHERE outcome IS NULL"), '0', "round $round: nothing else runs");
			my $before = value('SELECT max(pos) FROM moves');
			value("CALL projections.rebuild('$name')");
			cmp_ok(value('SELECT max(pos) FROM moves'), '>=', $before, "round $round: $name is rebuilt while events are appended");
		}
		last if $round == 2;
		value("CALL projections.alter('$_', options => '{\"finish\": \"merge\"}')") for @gated;
	}
	is(value(q{SELECT string_agg(DISTINCT finish, ',' ORDER BY finish) FROM projections_internal.rebuild WHERE outcome = 'done'}), 'merge,swap', 'in both ways');
	$writers->signal('INT');
	$writers->finish;
	unlike($output, qr/aborted|ERROR/, 'no writer was refused') or diag $output;
	is_right('under writers');
}
nothing_is_left('in the end');
is(value('SELECT count(*) FROM projections.orphans()'), '0', 'nor any orphan');
is(value(q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'}), '0', 'nor a lock');

$node->stop;
done_testing();
