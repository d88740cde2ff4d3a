# Migrations as Knex writes them, over tables that projections read: each is followed, or refused with what to do, and a
# projection is never wrong. With knex and pg from npm.
use strict;
use utf8;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

for my $program (qw(node npm))
{
	plan skip_all => "$program is not installed" unless grep { -x "$_/$program" } split /:/, $ENV{PATH};
}
my $script = abs_path(dirname(__FILE__)) . '/036_knex.js';
my $packages = PostgreSQL::Test::Utils::tempdir();
my ($said, $problem, $installed);
eval {
	$installed = IPC::Run::run(
		[ 'npm', 'install', '--no-audit', '--no-fund', '--loglevel=error', '--fetch-retries=1', '--fetch-timeout=20000', '--prefix', $packages, 'knex@3', 'pg@8' ],
		'<', \undef, '>', \$said, '2>', \$problem, IPC::Run::timeout(90));
};
plan skip_all => 'npm cannot install knex and pg: the registry cannot be reached' unless $installed;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION pg_projections; \i test/oracle.sql');

# One that failed is left out by later ones.
my @failed;

sub migrate
{
	my ($step) = @_;
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGUSER => $ENV{USER} // scalar getpwuid($<));
	my ($out, $err) = ('', '');
	IPC::Run::run([ 'sh', '-c', 'cd "$1" && exec node "$2" "$3" "$4"', 'sh', $packages, $script, $step, join(',', @failed) ],
		'<', \undef, '>', \$out, '2>', \$err)
	  or die "$step: $err";
	my $result = decode_json((split /\n/, $out)[-1]); # Knex itself says before it what has failed
	push @failed, $step if exists $result->{code} || exists $result->{message};
	return $result;
}

sub all_right
{
	my ($step, $changes) = @_;
	my $check = 'SELECT sum(equal) FROM test.check_all()';
	is($node->safe_psql('postgres', $check), '4', "$step: all are equal");
	$node->safe_psql('postgres', $changes);
	is($node->safe_psql('postgres', $check), '4', "$step: and after changes");
	return;
}

my $table = 'orders';
my $amount = 'amount';
my $customer = 'customer_id';
sub changes
{
	return qq{
		INSERT INTO $table ($customer, $amount) VALUES (1, 77), (2, 4000);
		UPDATE $table SET $amount = $amount + 1, $customer = 3 WHERE id % 7 = 0;
		DELETE FROM $table WHERE id = (SELECT min(id) FROM $table);
		UPDATE customers SET name = name || '.' WHERE id = 2};
}

sub applied
{
	my ($step) = @_;
	is_deeply(migrate($step), {}, "$step: is applied");
	all_right($step, changes());
	return;
}

sub refused
{
	my ($step, $code, $hint) = @_;
	my $result = migrate($step);
	is($result->{code}, $code, "$step: is refused") or diag(explain($result));
	unlike($result->{message} . ($result->{detail} // ''), qr/projections_internal/, "$step: without a hidden view's name");
	like($result->{hint} // '', $hint, "$step: says what to do");
	all_right($step, changes());
	return;
}

applied('create');
applied('add');
$amount = 'total';
applied('rename');
applied('retype_unused');
refused('retype', '2BP01', qr/^SELECT projections\.alter_source\('public\.orders', 'ALTER TABLE … ALTER COLUMN …'\);/);
applied('retype_source');
is($node->safe_psql('postgres', q{SELECT atttypid::regtype FROM pg_attribute WHERE attrelid = 'large'::regclass AND attname = 'amount'}),
	'numeric', 'the column of a projection has the new type');
applied('drop_unused');
refused('drop', '2BP01', qr/definitions => /);
refused('drop_source_undefined', '42703', qr/definitions => '\{"public\.sales": "SELECT …"\}'/);
$amount = 'cents';
applied('replace_source');
refused('key', '2BP01', qr/alter_source\('public\.orders'/);
refused('drop_table', '2BP01', qr/alter_source\('public\.orders'/);
applied('partition_source');
is($node->safe_psql('postgres', q{SELECT relkind FROM pg_class WHERE oid = 'orders'::regclass}), 'p', 'the source is partitioned');
my $result = migrate('half');
is($result->{code}, '22012', 'half: fails');
is($node->safe_psql('postgres', q{SELECT atttypid::regtype FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attname = 'cents'}),
	'bigint', 'half: leaves everything as it was');
all_right('half', changes());
($table, $customer) = ('purchases', 'buyer_id');
applied('rename_tables');
is($node->safe_psql('postgres', 'SELECT count(*) FROM projections.orphans()'), '0', 'nothing is left behind');
$node->stop;
done_testing();
