# Prometheus and prometheus-postgres-exporter, as Debian has them: rules, queries and metrics are valid; a lag and a dead letter raise exactly
# their alerts, which end with them.
#
# The alerts run in a copy of monitoring/alerts.yml in which a minute is a second, and seconds (`for: 30s`) are one second.
use strict;
use warnings;
use HTTP::Tiny;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my @programs = qw(prometheus promtool prometheus-postgres-exporter);
for my $program (@programs)
{
	plan skip_all => "$program is not installed: apt-get install prometheus prometheus-postgres-exporter"
	  unless grep { -x "$_/$program" } split /:/, $ENV{PATH};
}

# Neither server outlives the test.
my @running;
$SIG{TERM} = $SIG{INT} = sub { exit 1 };
END
{
	my $status = $?;
	$_->kill_kill(grace => 5) for @running;
	$? = $status;
}

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_projections'");
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_projections;
	CREATE ROLE exporter LOGIN IN ROLE pg_monitor;
	SET client_min_messages = warning;
	CREATE TABLE event (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text, quantity int, at timestamptz NOT NULL DEFAULT now());
	SELECT projections.register_source('event', 'position', time_column => 'at');
	SELECT projections.create('"st""o\ck"', 'SELECT item, sum(100 / quantity) AS share FROM event GROUP BY item', mode => 'async', options => '{"max_retries": 0}');
	SELECT projections.create('inline', 'SELECT item, count(*) FROM event GROUP BY item');
	INSERT INTO event (item, quantity) SELECT 'a', 1 FROM generate_series(1, 100)});
my $projection = q{public."st""o\ck"};

sub applied { return $node->safe_psql('postgres', q{SELECT position FROM projections.checkpoints WHERE projection LIKE '%ck"'}); }
$node->poll_query_until('postgres', q{SELECT position = 100 FROM projections.checkpoints WHERE projection LIKE '%ck"'}) or die 'events are not applied';

# What is valid without a server.
my $text = $node->safe_psql('postgres', 'SET ROLE pg_monitor; SELECT projections.metrics_text()') . "\n";
my ($out, $err);
ok(IPC::Run::run([ 'promtool', 'check', 'metrics' ], '<', \$text, '>', \$out, '2>', \$err), 'promtool check metrics');
is("$out$err", '', 'has nothing to say');
like($text, qr/^pg_projections_lag_events\{database="postgres",projection="public.\\"st\\"\\"o\\\\ck\\""\} 0$/m, 'labels are escaped');
like($text, qr/^pg_projections_apply_seconds_count\{.*\} [1-9]/m, 'batches are counted');

my $source = "$ENV{TESTDIR}/monitoring";
command_ok([ 'promtool', 'check', 'rules', "$source/alerts.yml" ], 'promtool check rules');
my $rules = slurp_file("$source/alerts.yml");
$rules =~ s/\b\d+s\b/1s/g;
$rules =~ s/\b(\d+)m\b/$1s/g;
my $directory = PostgreSQL::Test::Utils::tempdir;
append_to_file("$directory/alerts.yml", $rules);
command_ok([ 'promtool', 'check', 'rules', "$directory/alerts.yml" ], 'and of the copy');
my $dashboard = decode_json(slurp_file("$source/grafana.json"));

# The servers.
my ($exporter_port, $port) = map { PostgreSQL::Test::Cluster::get_free_port() } 1 .. 2;
append_to_file("$directory/prometheus.yml", <<"YAML");
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: ['$directory/alerts.yml']
scrape_configs:
  - job_name: postgres
    static_configs: [{targets: ['127.0.0.1:$exporter_port']}]
YAML

sub serve
{
	my ($log, @command) = @_;
	push @running, IPC::Run::start([@command], '<', '/dev/null', '>', "$directory/$log", '2>&1');
}
{
	local $ENV{DATA_SOURCE_NAME} = sprintf q{host='%s' port=%d user=exporter dbname=postgres sslmode=disable}, $node->host, $node->port;
	serve('exporter.log', 'prometheus-postgres-exporter', "--extend.query-path=$source/queries.yaml", "--web.listen-address=127.0.0.1:$exporter_port",
		'--disable-default-metrics', '--disable-settings-metrics');
}
serve('prometheus.log', 'prometheus', "--config.file=$directory/prometheus.yml", "--storage.tsdb.path=$directory/data", "--web.listen-address=127.0.0.1:$port");

sub api
{
	my ($path) = @_;
	my $answer = HTTP::Tiny->new(timeout => 10)->get("http://127.0.0.1:$port/api/v1/$path");
	return $answer->{success} ? decode_json($answer->{content})->{data} : undef;
}

sub query
{
	my ($expression) = @_;
	my $data = api('query?' . HTTP::Tiny->new->www_form_urlencode({ query => $expression }));
	return $data ? @{ $data->{result} } : ();
}

# What is asked becomes true, in time.
sub becomes
{
	my ($name, $true) = @_;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		if ($true->()) { pass($name); return; }
		select undef, undef, undef, 0.1;
	}
	fail($name);
	diag slurp_file("$directory/$_.log") for qw(exporter prometheus);
}

# Alerts of one state now, as "name severity projection".
sub alerts
{
	my $data = api('alerts') or return 'no answer';
	return join "\n", sort map { join ' ', $_->{labels}{alertname}, $_->{labels}{severity}, $_->{labels}{projection} // '' }
	  grep { $_->{state} eq 'firing' } @{ $data->{alerts} };
}

# What has ever fired.
sub fired
{
	return join "\n", sort map { join ' ', $_->{metric}{alertname}, $_->{metric}{severity}, $_->{metric}{projection} // '' }
	  query('max_over_time(ALERTS{alertstate="firing"}[1h])');
}

becomes('the exporter is scraped', sub { query('pg_projections_workers_running > 0') });
my %names = map { $_->{metric}{__name__} => 1 } query('{__name__=~"pg_projections_.*"}');
my @missing = grep { !$names{$_} } grep { $_ ne 'pg_projections_version_info' } $text =~ /^(pg_projections_\w+)/mg;
is("@missing", '', 'the exporter has every metric that metrics() has');
ok(query('pg_exporter_user_queries_load_error == 0'), 'its queries are accepted');
# What rules and panels ask for exists, and is understood.
is(join(' ', grep { !$names{$_} } $rules =~ /(pg_projections_\w+)/g), '', 'alerts are about metrics that there are');
my @expressions = map { $_->{expr} } map { @{ $_->{targets} } } @{ $dashboard->{panels} };
cmp_ok(scalar(@expressions), '>', 10, 'there are panels');
for (@expressions)
{
	s/\$__rate_interval/1m/g;
	s/\$(instance|database|projection)\b/.*/g;
}
is(join(' ', grep { !$names{$_} } map { /(pg_projections_\w+)/g } @expressions), '', 'panels, too');
is(join("\n", grep { !defined api('query?' . HTTP::Tiny->new->www_form_urlencode({ query => $_ })) } @expressions), '', 'and Prometheus understands them');
ok(query('pg_projections_check_errors == 0') && query('pg_projections_check_orphans == 0'), 'what is asked for less often comes, too');
my ($exported) = query('pg_projections_checkpoint{projection!=""}');
is($exported->{metric}{projection}, $projection, 'a label is what it was');
# Long enough for each rule to have been true for as long as it asks.
$node->safe_psql('postgres', q{INSERT INTO event (item, quantity) VALUES ('a', 1)});
becomes('rules are evaluated', sub { query('min_over_time(pg_projections_checkpoint{projection!=""}[8s]) == 101') });
is(alerts(), '', 'no alert while all is well');

# A dead letter, and then a lag: 1,500 events that are 20 seconds old and that nobody applies.
$node->safe_psql('postgres', q{INSERT INTO event (item, quantity) VALUES ('b', 0)});
becomes('a dead letter raises its alert', sub { alerts() =~ /^ProjectionDeadLetters warning \Q$projection\E$/m });
$node->append_conf('postgresql.conf', 'pg_projections.workers = 0');
$node->reload;
$node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM projections.workers}) or die 'workers stay';
$node->safe_psql('postgres', q{INSERT INTO event (item, quantity, at) SELECT 'a', 1, now() - interval '20 s' FROM generate_series(1, 1500)});
my @lag = ("ProjectionLagEvents warning $projection", "ProjectionLagSeconds warning $projection", "ProjectionNotAdvancing critical $projection");
becomes('a lag raises its alerts, and the dead letter is still one', sub { alerts() eq join "\n", "ProjectionDeadLetters warning $projection", @lag });
is(fired(), join("\n", "ProjectionDeadLetters warning $projection", "ProjectionFailuresRising warning $projection", @lag), 'and nothing else has been raised');

# A deliberate pause is none.
$node->safe_psql('postgres', q{SELECT projections.pause('"st""o\ck"', 'test')});
becomes('a pause ends those of the lag', sub { alerts() eq "ProjectionDeadLetters warning $projection" });

$node->append_conf('postgresql.conf', 'pg_projections.workers = 4');
$node->reload;
$node->safe_psql('postgres', q{SELECT projections.resume('"st""o\ck"'); SELECT projections.skip(id, 'test') FROM projections.dead_letters});
becomes('all end with what they are about', sub { alerts() eq '' });
$node->stop;
done_testing();
