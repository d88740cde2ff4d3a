# Asking a server that may just be restarting after a crash.
package Restart;
use strict;
use warnings;
use Exporter 'import';
our @EXPORT = qw(poll_over_restart);

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

1;
