# docs/runbook.md, run: what an operator pastes at three in the morning does what the page says, and prints what it shows.
#
# In the document
#   <!-- run: NAME -->    brings the symptom about: the step of that name below;
#   a block ```sql        is given to psql as it stands, in the order of the document, each to a session of its own;
#   the ```text after it  is what psql printed. A block that prints nothing has none.
# Both texts are compared with blanks and lines drawn to one, as columns are as wide as what they hold, and with the
# values of @volatile replaced by the name of their kind. A pid that a block of the document shows, and a later one uses,
# is that of this run there too. RUNBOOK_WRITE=FILE writes the document anew, with what is printed now (docs/runbook does).
use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my @volatile = (
	[ time => qr/\b\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d(?:\.\d+)?(?:[+-]\d\d(?::\d\d)?)?)?/ ],
	[ time => qr/\b\d\d:\d\d:\d\d(?:\.\d+)?/ ],
	[ pid => qr/(?<=pid )\d+|(?<=Process )\d+|(?<=terminate_backend\()\d+|(?<=restart_worker\()\d+|^(?:holder_pid|pid|blocked_by) +\| \K\d+/m ],
	[ age => qr/\bunder 1 s\b|\b\d+ (?:ms|s|min|h|days)\b/ ],
	[ number => qr/^(?:lag_seconds|p50|p95|p99|per_minute|duration|id|batches|events|batch_events|transaction) +\| \K\S+/m ],
	[ oid => qr/(?<=shadow_)\d+|(?<=relation )\d+/ ]);

# The text with volatile values replaced, and the pids that were in it.
sub template
{
	my ($text) = @_;
	my @pids;
	for my $kind (@volatile)
	{
		my ($name, $pattern) = @$kind;
		$text =~ s/$pattern/push @pids, $& if $name eq 'pid'; "<$name>"/ge;
	}
	$text =~ s/-{2,}/--/g;
	$text =~ s/[ \t]+/ /g;
	$text =~ s/ $//gm;
	return ($text, @pids);
}

# ------------------------------------------------------------------------------------------------------------- servers

my $server = PostgreSQL::Test::Cluster->new('main');
my $primary; # of the replica that $server is towards the end
my $settings = q{
shared_preload_libraries = 'pg_projections'
max_worker_processes = 16
max_prepared_transactions = 5
restart_after_crash = on
pg_projections.poll_interval = '200ms'
pg_projections.max_retries = 1
pg_projections.lag_degraded = '1s'
checkpoint_timeout = '1h'
timezone = 'UTC'
};
$server->init(allows_streaming => 1);
$server->append_conf('postgresql.conf', $settings);
$server->start;
my $directory = PostgreSQL::Test::Utils::tempdir();
$server->safe_psql('postgres', q{SELECT 'CREATE ROLE postgres SUPERUSER LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'postgres') \gexec});
$server->safe_psql('postgres', 'CREATE DATABASE shop OWNER postgres');

sub connection { return ($server->connstr('shop') . ' user=postgres application_name=psql'); }
sub sql { my ($text) = @_; return $server->safe_psql('shop', $text, connstr => connection()); }
sub until_true
{
	my ($condition) = @_;
	return $server->poll_query_until('shop', "SELECT $condition") || die "in vain: $condition\n" . sql('SELECT * FROM projections.health()');
}
sub until_healthy { my ($name) = @_; return until_true("status = 'healthy' AND lag_events = 0 FROM projections.health('$name')"); }

# Sessions that stay: what they were told last may still run.
my %sessions;
sub session
{
	my ($name, $text) = @_;
	my $session = $sessions{$name} //= do {
		my %new = (in => '', out => '');
		$new{process} = IPC::Run::start([ 'psql', '-X', '-q', '-A', '-t', '-d', connection() ], '<', \$new{in}, '>', \$new{out}, '2>&1');
		\%new;
	};
	$session->{in} .= "$text\n";
	$session->{process}->pump_nb;
	return;
}
# As session(), and waits until it has been done.
sub session_done
{
	my ($name, $text) = @_;
	session($name, "$text\n\\echo done");
	my $session = $sessions{$name};
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;
	until ($session->{out} =~ /done\n/)
	{
		die "in vain: $text\n$session->{out}" if time > $end;
		$session->{process}->pump_nb;
		usleep(10_000);
	}
	$session->{out} = '';
	return;
}
sub end_session
{
	my ($name) = @_;
	my $session = delete $sessions{$name};
	$session->{in} .= "\\q\n";
	eval { $session->{process}->finish; 1 } or $session->{process}->kill_kill;
	return;
}

# What an operator runs.
sub paste
{
	my ($text) = @_;
	my $printed = '';
	my $file = "$directory/block.sql";
	open my $handle, '>', $file or die $!;
	print $handle $text;
	close $handle;
	IPC::Run::run([ 'psql', '-X', '-d', connection() ], '<', $file, '>&', \$printed, init => sub { chdir $directory or die $! });
	$printed =~ s/ +$//gm;
	$printed =~ s/\n+\z/\n/;
	return $printed;
}

# --------------------------------------------------------------------------------------------------------------- steps

my %steps = (
	'the shop' => sub {
		sql(q{
			CREATE EXTENSION pg_projections;
			SET client_min_messages = error;
			CREATE TABLE customer (id int PRIMARY KEY, country text NOT NULL);
			CREATE TABLE purchase (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int NOT NULL, amount numeric(10,2) NOT NULL);
			CREATE TABLE move (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, type text NOT NULL, item text NOT NULL, quantity int NOT NULL,
				at timestamptz NOT NULL DEFAULT now());
			SELECT projections.register_source('move', 'position', type_column => 'type', time_column => 'at');
			CREATE FUNCTION fold(state jsonb, event move, key text) RETURNS jsonb LANGUAGE plpgsql AS $$
			DECLARE
				units int := (state ->> 'units')::int + event.quantity;
			BEGIN
				IF units < 0 THEN
					RAISE check_violation USING MESSAGE = format('%s of %s would be left', units, key);
				END IF;
				RETURN jsonb_build_object('units', units);
			END $$;
			CREATE TABLE label (item text PRIMARY KEY, copies int NOT NULL);
			CREATE FUNCTION print_label(event move) RETURNS void LANGUAGE sql AS $$
				INSERT INTO label AS l VALUES (event.item, 1) ON CONFLICT (item) DO UPDATE SET copies = l.copies + 1 $$;
			CREATE INDEX ON purchase (customer);
			INSERT INTO customer SELECT g, (ARRAY['at', 'de', 'fr'])[1 + g % 3] FROM generate_series(1, 30) g;
			INSERT INTO purchase (customer, amount) SELECT 1 + g % 30, g FROM generate_series(1, 300) g;
			INSERT INTO move (type, item, quantity) SELECT 'received', 'item ' || g % 5, 10 FROM generate_series(1, 50) g;
			SELECT projections.create('revenue', 'SELECT country, count(*) AS purchases, sum(amount) AS amount FROM customer c JOIN purchase p ON p.customer = c.id GROUP BY country');
			SELECT projections.create('large_country', 'SELECT amount > 15000 AS large, count(*) AS countries FROM revenue GROUP BY amount > 15000');
			SELECT projections.create('by_customer', 'SELECT customer, sum(amount) AS amount FROM purchase GROUP BY customer', options => '{"finish": "swap"}');
			SELECT projections.create('stock', 'SELECT item, sum(quantity) AS quantity FROM move GROUP BY item', 'async');
			SELECT projections.create_reducer('balance', 'move', 'item', 'fold(jsonb, move, text)', initial => '{"units": 0}');
			SELECT projections.create_handler('labels', 'move', 'print_label(move)', '{label}', partition_by => 'item', options => '{"event_timeout": "1 hour"}');
			SELECT projections.create_state_machine('pick_task', 'projections.events', 'stream',
				'[{"from": "open", "event": "started", "to": "picking"}, {"from": "picking", "event": "finished", "to": "done"}]', options => '{"initial": "open"}');
			SELECT projections.append('task-1', 'started', '{}');
			SELECT projections.append('task-1', 'finished', '{}');
		});
		until_true(q{count(*) = 0 FROM projections.health() WHERE status <> 'healthy' OR lag_events > 0});
	},
	'two things are wrong' => sub {
		sql(q{
			SELECT projections.pause('large_country', 'figures are being audited');
			INSERT INTO move (type, item, quantity) VALUES ('picked', 'item 1', -1000)});
		until_true(q{dead_letters = 1 FROM projections.health('balance')});
	},
	'they are put right' => sub {
		sql(q{
			SELECT projections.resume('large_country');
			SELECT projections.skip(id, 'slip of the keyboard') FROM projections.dead_letters;
			INSERT INTO move (type, item, quantity) VALUES ('corrected', 'item 1', 1000)});
		until_healthy('balance');
		# The projections that took both agree with the one that left the first out once this is left out, too.
		sql(q{UPDATE projections_internal.failure SET resolution = 'skipped'; SELECT projections.wait_for('stock')});
	},
	'a transaction that has drawn a position stays open' => sub {
		session_done('forgotten', q{BEGIN; INSERT INTO move (type, item, quantity) VALUES ('received', 'item 2', 1);});
		sql(q{INSERT INTO move (type, item, quantity) SELECT 'received', 'item 3', 1 FROM generate_series(1, 20)});
		until_true(q{lag_seconds > 1 FROM projections.health('stock')});
	},
	'the forgotten session is gone' => sub { end_session('forgotten') },
	'a lock is in the way of the handler' => sub {
		sql(q{SELECT projections.wait_for('labels')});
		session_done('locker', q{BEGIN; LOCK TABLE label IN EXCLUSIVE MODE;});
		sql(q{INSERT INTO move (type, item, quantity) SELECT 'received', 'item ' || g % 5, 1 FROM generate_series(1, 2000) g});
		until_true(q{status = 'degraded' AND lag_events = 2000 FROM projections.health('labels')});
		until_true(q{lag_events = 0 FROM projections.health('balance')});
		until_true(q{EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'label'::regclass)});
	},
	'the lock goes' => sub { session_done('locker', 'ROLLBACK;'); end_session('locker') },
	'a rebuild waits for a writer' => sub {
		session_done('writer', q{BEGIN; INSERT INTO purchase (customer, amount) VALUES (1, 1);});
		session('rebuilder', q{CALL projections.rebuild('by_customer');});
		until_true(q{EXISTS (SELECT FROM projections.rebuilds r, unnest(pg_blocking_pids(r.holder_pid)) WHERE outcome IS NULL AND phase = 'waiting')});
	},
	'the rebuild has ended' => sub { until_true(q{NOT EXISTS (SELECT FROM projections.rebuilds WHERE outcome IS NULL)}); end_session('rebuilder') },
	'the handler names its table with a schema' => sub {
		session_done('writer', 'ROLLBACK;');
		end_session('writer');
		sql(q{CREATE OR REPLACE FUNCTION print_label(event move) RETURNS void LANGUAGE sql AS $$
			INSERT INTO public.label AS l VALUES (event.item, 1) ON CONFLICT (item) DO UPDATE SET copies = l.copies + 1 $$});
	},
	'the handler is mended' => sub {
		sql(q{CREATE OR REPLACE FUNCTION print_label(event move) RETURNS void LANGUAGE sql AS $$
			INSERT INTO label AS l VALUES (event.item, 1) ON CONFLICT (item) DO UPDATE SET copies = l.copies + 1 $$});
	},
	'a rebuild is killed, and a trigger is left' => sub {
		sql(q{CREATE TABLE formerly_a_source (id int); CREATE TRIGGER projections_capture AFTER INSERT OR UPDATE OR DELETE ON formerly_a_source FOR EACH ROW EXECUTE FUNCTION projections_internal.capture()});
		session_done('writer', q{BEGIN; INSERT INTO purchase (customer, amount) VALUES (1, 1);});
		session('rebuilder', q{CALL projections.rebuild('by_customer');});
		until_true(q{EXISTS (SELECT FROM projections_internal.rebuild WHERE ended_at IS NULL AND shadow IS NOT NULL)});
		my $checkpointer = q{backend_start FROM pg_stat_activity WHERE backend_type = 'checkpointer'};
		my $before = sql("SELECT $checkpointer");
		kill 'KILL', sql(q{SELECT pid FROM projections_internal.rebuild WHERE ended_at IS NULL}) or die $!;
		# For a moment the server still answers that is about to restart.
		until_true("'$before' <> $checkpointer");
		end_session($_) for 'writer', 'rebuilder';
	},
	'rows are doubled and wrong' => sub {
		until_healthy('stock');
		sql(q{
			SET pg_projections.allow_direct_writes = on;
			SET session_replication_role = replica; -- else it would be refused
			ALTER TABLE stock DROP CONSTRAINT stock_pkey;
			RESET session_replication_role;
			INSERT INTO stock SELECT * FROM stock WHERE item = 'item 1';
			UPDATE stock SET quantity = -7 WHERE item = 'item 2'});
	},
	'more is picked than was there' => sub {
		sql(q{INSERT INTO move (type, item, quantity) VALUES ('received', 'item 9', 5), ('picked', 'item 9', -8)});
		sql(q{SELECT projections.wait_for('stock')});
	},
	'a trigger is disabled for a load' => sub {
		sql(q{
			SET client_min_messages = error;
			ALTER TABLE purchase DISABLE TRIGGER ALL;
			INSERT INTO purchase (customer, amount) VALUES (1, 1000)});
	},
	'the event is a dead letter' => sub {
		sql(q{INSERT INTO move (type, item, quantity) VALUES ('received', 'item 9', 10)});
		until_true(q{dead_letters = 1 AND parked_events = 1 FROM projections.health('balance')});
		until_healthy('labels');
	},
	'a task is finished that was never started' => sub {
		sql(q{SELECT projections.append('task-2', 'finished', '{}')});
		until_true(q{dead_letters = 1 FROM projections.health('pick_task')});
	},
	'a batch does not end' => sub {
		session_done('locker', q{BEGIN; LOCK TABLE label IN EXCLUSIVE MODE;});
		sql(q{INSERT INTO move (type, item, quantity) VALUES ('received', 'item 1', 1)});
		until_true(q{EXISTS (SELECT FROM projections.workers WHERE state = 'stuck')});
	},
	'there is no worker' => sub {
		session_done('locker', 'ROLLBACK;');
		end_session('locker');
		until_healthy('labels');
		sql('ALTER SYSTEM SET pg_projections.workers = 0');
		sql('SELECT pg_reload_conf()');
		until_true('NOT EXISTS (SELECT FROM projections.workers)');
		sql(q{INSERT INTO move (type, item, quantity) SELECT 'received', 'item ' || g % 5, 1 FROM generate_series(1, 1500) g});
	},
	'a join without an index' => sub {
		until_healthy('labels');
		sql(q{
			SET client_min_messages = error;
			CREATE TABLE visit (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int NOT NULL);
			INSERT INTO visit (customer) SELECT 1 + g % 30 FROM generate_series(1, 3000) g;
			ANALYZE visit;
			SELECT projections.create('visits_by_country', 'SELECT country, count(*) AS visits FROM visit v JOIN customer c ON c.id = v.customer GROUP BY country');
			SELECT projections.create('busy_country', 'SELECT visits > 500 AS busy, count(*) AS countries FROM visits_by_country GROUP BY visits > 500')});
	},
	'a load' => sub { sql(q{INSERT INTO purchase (customer, amount) SELECT 1 + g % 30, 1 FROM generate_series(1, 10000) g}) },
	'two writers fight over a stream' => sub { $server->psql('shop', q{SELECT projections.append('task-1', 'started', '{}', expected_version => 1)}) for 1 .. 3 },
	'the conflict is counted' => sub { until_true(q{occurrences = 4 FROM projections.hot_keys WHERE kind = 'stream'}) },
	'the SQL objects are those of the version before, and a schema is in the way' => sub {
		sql(q{ALTER EXTENSION pg_projections UPDATE TO '0.2.0'; CREATE SCHEMA projections_internal});
	},
	'a view uses what is new' => sub { sql(q{CREATE VIEW readers AS SELECT name, source FROM projections.subscriptions}) },
	'forward again' => sub { sql('ALTER EXTENSION pg_projections UPDATE') },
	'somebody sets a checkpoint back' => sub {
		until_healthy('stock');
		sql(q{SELECT projections.set_checkpoint('stock', 40, allow_regression => true); SELECT projections.wait_for('stock', timeout => '30 s')});
	},
	'a checkpoint is lost' => sub { sql(q{DELETE FROM projections_internal.slot WHERE projection = 'balance'::regclass}) },
	'old moves are archived' => sub {
		until_true(q{count(*) = 0 FROM projections.health() WHERE lag_events > 0});
		sql(q{
			CREATE TABLE move_backup AS TABLE move;
			SELECT projections.archive_events('move', now())});
	},
	'the events are restored' => sub { sql('INSERT INTO move OVERRIDING SYSTEM VALUE SELECT * FROM move_backup ON CONFLICT DO NOTHING') },
	'everything is dropped' => sub {
		sql(q{SET client_min_messages = error; DROP TABLE large_country, revenue, busy_country, visits_by_country, stock, balance, pick_task, by_customer CASCADE; SELECT projections.drop('labels')});
	},
	'what is left to do is done' => sub { until_true(q{count(*) = 0 FROM projections.health() WHERE lag_events > 0 OR failures > dead_letters}) },
	'on a replica' => sub {
		$server->backup('replica');
		my $replica = PostgreSQL::Test::Cluster->new('replica');
		$replica->init_from_backup($server, 'replica', has_streaming => 1);
		$replica->start;
		$server->wait_for_catchup($replica, 'replay', $server->lsn('insert'));
		$primary = $server;
		$server = $replica;
	},
	'the promoted replica has workers' => sub {
		sql(q{INSERT INTO move (type, item, quantity) VALUES ('received', 'item 1', 1)});
		until_true(q{count(*) = 0 FROM projections.health() WHERE status <> 'healthy' OR lag_events > 0});
	},
	'the server crashes while by_customer is rebuilt' => sub {
		session_done('writer', q{BEGIN; INSERT INTO purchase (customer, amount) VALUES (1, 1);});
		session('rebuilder', q{CALL projections.rebuild('by_customer');});
		until_true(q{EXISTS (SELECT FROM projections_internal.rebuild WHERE ended_at IS NULL AND shadow IS NOT NULL)});
		$server->stop('immediate');
		end_session($_) for 'writer', 'rebuilder';
		$server->start;
	},
);

# ------------------------------------------------------------------------------------------------------------ document

my %actual; # pid of the document => pid of this run
my $heading = 'Runbook';
my $number = 0;
my $written;
if ($ENV{RUNBOOK_WRITE}) { open $written, '>', $ENV{RUNBOOK_WRITE} or die $! }
my @lines = split /^/, slurp_file('docs/runbook.md');
my %seen;

# The lines of a block whose first one has been read, without its last, ```.
sub block
{
	my $text = '';
	while (defined(my $line = shift @lines))
	{
		return $text if $line eq "```\n";
		$text .= $line;
	}
	die "a block of $heading has no end";
}

while (defined(my $line = shift @lines))
{
	if ($line =~ /^##? (.*)/)
	{
		($heading, $number) = ($1, 0);
	}
	elsif ($line =~ /^<!-- run: (.*) -->$/)
	{
		my $step = $steps{$1} or die "no step: $1";
		$seen{$1} = 1;
		$step->();
	}
	elsif ($line eq "```sql\n")
	{
		my $text = block();
		$text =~ s/\b\d{3,}\b/$actual{$&} \/\/ $&/ge;
		my $found = paste($text);
		my $shown = '';
		if (@lines && $lines[0] eq "```text\n")
		{
			shift @lines;
			$shown = block();
		}
		my ($found_template, @found_pids) = template($found);
		my ($shown_template, @shown_pids) = template($shown);
		@actual{@shown_pids} = @found_pids if @shown_pids == @found_pids;
		print $written "```sql\n$text```\n", $found eq '' ? () : "```text\n$found```\n" if $written;
		$number++;
		is($found_template, $shown_template, "$heading: block $number") unless $written;
		next;
	}
	print $written $line if $written;
}

is_deeply([ grep { !$seen{$_} } sort keys %steps ], [], 'the document uses every step');
my $document = slurp_file('docs/runbook.md');
my %anchor = map { my $name = lc; $name =~ s/[^a-z0-9 -]//g; $name =~ tr/ /-/; $name => 1 } $document =~ /^## (.*)$/gm;
my @links = ($document =~ /\(#([^)]*)\)/g, slurp_file('monitoring/alerts.yml') =~ /runbook\.md#(\S+)/g);
is_deeply([ grep { !$anchor{$_} } @links ], [], 'what the page and the alert rules link to is there');
close $written or die $! if $written;
end_session($_) for sort keys %sessions;
$server->stop;
$primary->stop if $primary;
done_testing();
