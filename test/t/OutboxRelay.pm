# What the tests of the relay share: its configuration, its processes, and what
# arrived.
package OutboxRelay;

use strict;
use warnings;

use Exporter 'import';
use IO::Socket::INET;
use POSIX ();
use Time::HiRes qw(sleep time);

our @EXPORT = qw(write_file read_file configure start_relay stop_relay run_relay
  wait_for http_get arrived);

my %running;

sub write_file
{
	my ($path, $text) = @_;

	open(my $out, '>', $path) or die "could not write $path: $!";
	print $out $text;
	close($out) or die "could not write $path: $!";
	return $path;
}

sub read_file
{
	my ($path) = @_;

	open(my $in, '<', $path) or return '';
	local $/;
	return <$in> // '';
}

# A configuration file for a subscription of the node's database.
sub configure
{
	my ($node, $path, %setting) = @_;
	my $sections = delete $setting{sections} // '';

	%setting = (
		dsn => sprintf("host=%s port=%s dbname=postgres", $node->host, $node->port),
		sink => 'stdout',
		lease => '5s',
		%setting);
	return write_file($path,
		join('', map { "$_ = '$setting{$_}'\n" } sort keys %setting) . $sections);
}

# Starts one; its output is appended to the file, what it says to FILE.err.
sub start_relay
{
	my ($config, $file, @option) = @_;
	my $pid = fork // die "could not fork: $!";

	if ($pid == 0)
	{
		open(STDIN, '<', '/dev/null');
		open(STDOUT, '>>', $file) or POSIX::_exit(99);
		open(STDERR, '>>', "$file.err") or POSIX::_exit(99);
		exec('pg_outbox', 'relay', '--config', $config, @option) or POSIX::_exit(98);
	}
	$running{$pid} = 1;
	return $pid;
}

# Sends a signal, and returns the exit code, or "signal N"; "" after 60 s.
sub stop_relay
{
	my ($pid, $signal) = @_;
	my $until = time + 60;

	kill($signal, $pid) if defined $signal;
	while (time < $until)
	{
		if (waitpid($pid, POSIX::WNOHANG()) == $pid)
		{
			delete $running{$pid};
			return $? & 127 ? 'signal ' . ($? & 127) : $? >> 8;
		}
		sleep 0.02;
	}
	return '';
}

sub run_relay
{
	return stop_relay(start_relay(@_));
}

sub wait_for
{
	my ($condition) = @_;
	my $until = time + 60;

	while (time < $until)
	{
		return 1 if $condition->();
		sleep 0.05;
	}
	return 0;
}

# Status and body.
sub http_get
{
	my ($port, $path) = @_;
	my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port", Timeout => 5) or return (0, '');
	print $socket "GET $path HTTP/1.1\r\nHost: x\r\n\r\n";
	local $/;
	my $answer = <$socket> // '';
	my ($status) = $answer =~ m{^HTTP/1.1 (\d+)};
	return ($status // 0, $answer =~ s/.*?\r\n\r\n//sr);
}

# Positions in the order of arrival.
sub arrived
{
	my ($file) = @_;

	return read_file($file) =~ /"sequence":"0*(\d+)"/g;
}

END
{
	my $status = $?;

	kill('KILL', keys %running);
	waitpid($_, 0) for keys %running;
	$? = $status;
}

1;
