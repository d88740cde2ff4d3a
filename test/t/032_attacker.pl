# An ordinary user with traps of every sort plays every function and view that PUBLIC may use; so do a bystander and a
# superuser over what he made; and workers, writers, a dump, a restore and an update of the extension come across it.
# A trap writes down as whom it runs, into the server's log, which no rollback takes back. None may run as anybody but its
# owner, nor outside a security-restricted operation where he is not the session's user; no setting may stay; and nothing
# that says SECRET may reach him. A function that no call here has brought to succeed fails the test.
#
# ATTACK_PICKS=200 ATTACK_SEED=1 make ...: more calls with chosen arguments.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use JSON::PP;

my $seed = $ENV{ATTACK_SEED} // int(rand(1_000_000));
my $picks = $ENV{ATTACK_PICKS} // 6;
srand($seed);
diag("seed $seed");
my $scripts = "$ENV{TESTDIR}/test/attacker";

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'pg_projections'
max_worker_processes = 16
log_line_prefix = '%a|'
log_statement = 'none'
wal_level = logical
});
$node->start;

# psql ROLE, DATABASE, SCRIPT: what it prints, on both channels; errors do not stop it.
sub psql
{
	my ($role, $database, @arguments) = @_;
	my $output = '';
	run_log([ 'psql', '-X', '-A', '-t', '-q', '-U', $role, '-h', $node->host, '-p', $node->port, '-d', $database, @arguments ], '>', \$output, '2>&1');
	return $output;
}

# Calls --------------------------------------------------------------------------

my @own = map { "attacker.$_" } qw(inline_groups inline_rows over_shared joined_shared async_events async_log async_arrived reduced handled machine);
my @others = map { "victim.$_" } qw(names data seen picked);
my %text = (
	key => ['stream 1', 'stream 0', "attacker.liar('argument', stream)"],
	name_or_query => [ @own, "SELECT attacker.liar('explained', id) AS id FROM attacker.s" ],
	query => ["SELECT attacker.liar('query', k) AS k, count(*) AS n FROM attacker.s GROUP BY 1"],
	mode => [ 'inline', 'async' ], reason => ['a reason'], state => [ 'open', 'closed' ], stream => [ 'stream 1', 'known account' ],
	type => ['Opened'], correlation_id => ['correlation'], causation_id => ['cause'], strategy => ['by hand'], note => ['a note'],
	partition_by => ["attacker.liar('partition argument', stream)"], about => [ 'check', 'projection' ], preset => [undef], capture => [ 'position', 'trigger' ],
	sequence => [undef], kind => [ 'query', 'reducer' ], options => ['{}']);
my %typed = (
	bigint => [ 1, 3, 1000, undef ], integer => [ 1, 5, 100 ], boolean => [ 'true', 'false' ], 'double precision' => [ 0.5, 1 ], numeric => [ 1, 2.25 ],
	'text[]' => [ '{attacker.inline_groups}', '{Opened,Closed}', '{k}', undef ], uuid => [undef], name => [ 'position', 'at', undef ], interval => [ '10 ms' ],
	'timestamp with time zone' => [ '2020-01-01', '2100-01-01' ], regprocedure => [ 'attacker.handle(attacker.ev)', 'attacker.fold(jsonb,attacker.ev,text)' ],
	'integer[]' => ['{1,2}'],
	jsonb => [ '{"k": 1}', '{"key": "stream 1"}', '{"type": "Opened"}', '{"id": 1}', '[{"type": "Opened"}]', '{"position": 3}', '{}', undef ],
	oid => [ @own ], regclass => [ @own, 'attacker.ev', 'attacker.s', 'attacker.arrived' ]);

sub quoted { my ($value) = @_; return 'NULL' if !defined $value; $value =~ s/'/''/g; return "'$value'"; }

# One argument's candidates, as SQL.
sub candidates
{
	my ($role, $argument) = @_;
	my ($name, $type) = @$argument{qw(name type)};
	my @names = $role eq 'attacker' ? (@own, @others) : @own;
	return map { quoted($_) } @names, 'attacker.fresh', 'attacker_reader', 'victim_reader' if $type eq 'text' && $name eq 'name';
	return map { quoted($_) } 'attacker.ev', 'attacker.arrived', 'attacker.s', 'victim.ev', 'victim.shared', 'victim.private', 'projections.events'
		if $type eq 'text' && $name eq 'source';
	return map { quoted($_) } @{ $text{$name} // ['a text'] } if $type eq 'text';
	return map { defined $_ ? quoted($_) . '::regclass::oid' : 'NULL' } @{ $typed{oid} } if $type eq 'oid';
	return map { quoted($_) . "::$type" } @{ $typed{$type} } if $typed{$type};
	return ("NULL::$type");
}

sub invocation
{
	my ($function, @arguments) = @_;
	my $call = "$function->{name}(" . join(', ', @arguments) . ')';
	return $function->{kind} eq 'p' ? "CALL $call;" : "BEGIN; SELECT * FROM $call; ROLLBACK;";
}

# Calls that mean something, by which each function is brought to succeed: role, statement.
my @meant = do { local $/; open my $file, '<', "$scripts/calls.sql" or die; map { /^(\w+): (.*)$/ ? [ $1, $2 ] : () } split /\n/, <$file> };

my (%succeeded, $calls, $leaks);
$calls = 0;
$leaks = '';

# Runs calls as one role in one session: [label, statement]. Settings are looked at after each.
sub play
{
	my ($role, $database, @statements) = @_;
	my $path = $role eq 'attacker' ? 'attacker, pg_catalog' : '"$user", public';
	my $script = "SET statement_timeout = '4s';\n";
	for my $i (0 .. $#statements)
	{
		my ($label, $statement) = @{ $statements[$i] };
		$script .= "SET search_path = $path;\nRESET work_mem;\nSET application_name = '$role $label';\n\\echo \@\@BEGIN $i\n$statement\n\\echo \@\@END $i :ERROR\n";
		$script .= "ROLLBACK;\n" if $statement =~ /^BEGIN/;
		$script .= "SELECT '\@\@SET', pg_catalog.current_setting('search_path'), pg_catalog.current_setting('work_mem');\n";
	}
	my $file = PostgreSQL::Test::Utils::tempdir() . '/calls.sql';
	open my $out, '>', $file or die;
	print $out $script;
	close $out;
	my $output = psql($role, $database, '-f', $file);
	my ($current, $text) = (0, '');
	for my $line (split /\n/, $output)
	{
		$current = $1 if $line =~ /^\@\@BEGIN (\d+)/;
		if ($line =~ /^\@\@END (\d+) (\w+)/)
		{
			$calls++;
			$succeeded{ $statements[$1][0] =~ s/"//gr }++ if $2 eq 'false';
		}
		if ($line =~ /^\@\@SET\|(.*)$/ && $role ne 'attacker' && $1 ne "$path|4MB")
		{
			$leaks .= "a setting stays after $role $statements[$current][0]: $1\n";
		}
		$leaks .= "$role sees after $statements[$current][1]: $line\n" if $role ne 'postgres' && $line =~ /SECRET/;
	}
	return $output;
}

# The database -------------------------------------------------------------------

$node->safe_psql('postgres', 'CREATE DATABASE play');
my $setup = psql('postgres', 'play', '-f', "$scripts/roles.sql");
my $planted = psql('postgres', 'play', '-v', 'schema=public', '-f', "$scripts/plant.sql");
cmp_ok($planted, '>', 500, 'operators and functions are planted before the extension comes');
$setup .= psql('postgres', 'play', '-c', q{SET application_name = 'create extension'}, '-c', 'CREATE EXTENSION pg_projections');
$setup .= psql('postgres', 'play', '-f', "$scripts/setup.sql");
unlike($setup, qr/ERROR/, 'the attacker has his traps') or diag($setup);
psql('postgres', 'play', '-v', 'schema=attacker', '-f', "$scripts/plant.sql");
ok( $node->poll_query_until('play', q{SELECT projections.wait_for('attacker.async_events') AND projections.wait_for('attacker.reduced') AND projections.wait_for('attacker.machine')}),
	'workers apply his events');

# A rebuild of the victim's that fails with an error about his data.
psql('victim', 'play', '-c', q{SET application_name = 'picky'}, '-c', q{CALL projections.rebuild('victim.picked')});

# What this test asks itself must not meet what is planted, either.
sub ask { my ($query) = @_; return scalar $node->safe_psql('play', "SET search_path = pg_catalog; $query"); }

my $functions = decode_json(ask(q{
	SELECT jsonb_agg(jsonb_build_object('name', format('%s.%I', pronamespace::regnamespace, proname), 'kind', prokind,
		'arguments', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', coalesce(p.proargnames[i], ''), 'type', format_type(p.proargtypes[i - 1], NULL)) ORDER BY i), '[]')
			FROM generate_series(1, p.pronargs) i)) ORDER BY p.oid)
	FROM pg_proc p WHERE p.pronamespace IN ('projections'::regnamespace, 'projections_internal'::regnamespace) AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
	  AND (has_function_privilege('public', p.oid, 'EXECUTE') OR proname !~ '^_')}));
my @views = split /\n/, ask(q{
	SELECT DISTINCT c.oid::regclass::text FROM pg_class c, aclexplode(c.relacl) a
	WHERE relnamespace IN ('projections'::regnamespace, 'projections_internal'::regnamespace) AND relkind IN ('r', 'v') AND a.grantee = 0 AND a.privilege_type = 'SELECT' ORDER BY 1});

for my $role (qw(attacker bystander postgres))
{
	my @statements = map { [ ($_->[1] =~ /(projections(?:_internal)?\.\w+)/)[0], $_->[1] ] } grep { $_->[0] eq $role || $_->[0] eq 'all' } @meant;
	push @statements, map { [ $_, "SELECT * FROM $_;" ] } @views;
	for my $function (@$functions)
	{
		next if $role eq 'postgres' && $function->{name} =~ /^projections_internal\./;
		# A query that somebody writes himself runs as himself, whatever it names, as in a view of his.
		next if $role ne 'attacker' && grep { $_->{name} eq 'query' } @{ $function->{arguments} };
		my %seen;
		for (1 .. $picks)
		{
			my @arguments;
			for my $argument (@{ $function->{arguments} }) { my @c = candidates($role, $argument); push @arguments, $c[ rand @c ]; }
			my $statement = invocation($function, @arguments);
			push @statements, [ $function->{name}, $statement ] if !$seen{$statement}++;
		}
	}
	my $output = play($role, 'play', @statements);
	unlike($output, qr/server closed the connection/, "the server stays up while $role plays");
}
ok($node->poll_query_until('play', q{SELECT count(*) = 0 FROM projections.workers WHERE state = 'applying'}), 'workers come to rest');

# Others write what his projections read.
for my $role (qw(bystander victim postgres))
{
	play($role, 'play',
		[ 'insert', 'INSERT INTO victim.shared SELECT i, i, i FROM generate_series(1000, 1010) i;' ],
		[ 'update', 'UPDATE victim.shared SET k = k + 1 WHERE id >= 1000;' ],
		[ 'read', 'BEGIN; UPDATE victim.shared SET v = v + 1 WHERE id >= 1000; SELECT count(*) FROM victim.names; COMMIT;' ],
		[ 'delete', 'DELETE FROM victim.shared WHERE id >= 1000;' ]);
}

# A dump and its restore, and an update of the extension.
my $dump = PostgreSQL::Test::Utils::tempdir() . '/play.sql';
$node->safe_psql('postgres', 'CREATE DATABASE restored');
{
	local $ENV{PGAPPNAME} = 'dump';
	command_ok([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-U', 'postgres', '-N', 'public', '-f', $dump, 'play' ], 'a superuser dumps');
	local $ENV{PGAPPNAME} = 'restore';
	my $restored = psql('postgres', 'restored', '-f', $dump);
	unlike($restored, qr/server closed the connection/, 'a superuser restores');
}
for my $version (split /\n/, ask(q{SELECT version FROM pg_available_extension_versions WHERE name = 'pg_projections' AND NOT installed}))
{
	my $current = ask(q{SELECT extversion FROM pg_extension WHERE extname = 'pg_projections'});
	psql('postgres', 'play', '-c', "SET application_name = 'update to $version'", '-c', "ALTER EXTENSION pg_projections UPDATE TO '$version'",
		'-c', q{SELECT count(*) FROM projections.health()}, '-c', "SET application_name = 'update from $version'",
		'-c', "ALTER EXTENSION pg_projections UPDATE TO '$current'", '-c', q{SELECT count(*) FROM projections.health()});
}

# Judgement ----------------------------------------------------------------------

$node->stop;
my (%marks, %bad);
my $marks = 0;
open my $log, '<', $node->logfile or die;
while (my $line = <$log>)
{
	next unless $line =~ /^(.*?)\|LOG:  MARK user=(\S+) session=(\S+) restricted=(\S) what=(.*)$/;
	my ($application, $user, $session, $restricted, $what) = ($1, $2, $3, $4, $5);
	$marks++;
	# The server itself evaluates these as whoever writes the table, and a restore writes it as the superuser.
	next if $application =~ /^restore/ && $what =~ /^(domain|text domain|check|default|generated column|trigger|index expression|index predicate|check of)/;
	next if $user eq 'attacker' && ($session eq 'attacker' || $restricted eq 't');
	$bad{"$application: $what runs as $user" . ($restricted eq 't' ? '' : ', not restricted')}++;
}
close $log;
diag("$calls calls, $marks marks, $planted planted");
cmp_ok($marks, '>', 1000, 'the traps were run into');
is(join("\n", map { "$_ ($bad{$_} times)" } sort keys %bad), '', 'nothing of his runs as anybody else');
is($leaks, '', 'no setting and no secret leaks');
my @unplayed = grep { !/\._/ && !$succeeded{$_} } map { s/"//gr } map { $_->{name} } @$functions;
is(join(' ', @unplayed), '', 'every function was brought to succeed');
done_testing();
