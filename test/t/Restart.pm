# A server that has crashed: asking it while it may just be restarting, and starting it.
package Restart;
use strict;
use warnings;
use Exporter 'import';
use PostgreSQL::Test::Utils;
use Time::HiRes qw(sleep);
our @EXPORT = qw(poll_over_restart start_after_kill);

# poll_query_until() dies of a broken pipe where psql cannot connect and has gone before the query is written to it.
sub poll_over_restart
{
	my ($node, @query) = @_;
	my $until = time + 180;
	while (time < $until)
	{
		my $answer = eval { $node->poll_query_until('postgres', @query) };
		return $answer if defined $answer;
		die $@ if $@ !~ /Broken pipe/;
	}
	return 0;
}

# After kill9(). Its processes need a moment to see that it is gone: while one is left, another server must not start.
sub start_after_kill
{
	my ($node) = @_;
	for (1 .. 100)
	{
		last if PostgreSQL::Test::Utils::system_log('pg_ctl', '-w', '-D', $node->data_dir, '-l', $node->logfile, 'start') == 0;
		sleep(0.1);
	}
	$node->_update_pid(1);
	return;
}

1;
