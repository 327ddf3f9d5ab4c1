# What the tests of the sink "kafka" share: the helper, a mock cluster, a real
# one, and what is in a topic.
package OutboxKafka;

use strict;
use warnings;

use Cwd qw(abs_path);
use Exporter 'import';
use FindBin;
use IO::Socket::INET;
use IPC::Open2 qw(open2);
use OutboxRelay qw(write_file read_file);
use POSIX ();
use Time::HiRes qw(sleep time);

our @EXPORT = qw(kafka_is_built build_peer start_mock command_mock start_kafka kafka_home peer topic_lines
  hold_transaction account);

my $peer;
my %running;

# Was there a librdkafka to build the sink with?
sub kafka_is_built
{
	my $modules = qx{pg_config --pkglibdir};
	chomp $modules;
	return -e "$modules/pg_outbox/kafka.so";
}

sub build_peer
{
	my ($dir) = @_;
	my $source = abs_path("$FindBin::RealBin/../sink/kafka_peer.c");

	$peer = "$dir/kafka_peer";
	system('gcc', '-Wall', '-o', $peer, $source, '-lrdkafka') == 0 or die 'could not build kafka_peer';
	return;
}

sub start_mock
{
	my ($commands) = @_;
	my ($from, $to);

	write_file($commands, '');
	my $pid = open2($from, $to, $peer, 'mock', $commands);
	$running{$pid} = $to;
	my $servers = <$from>;
	chomp $servers;
	return $servers;
}

sub command_mock
{
	my ($commands, @lines) = @_;

	open(my $out, '>>', $commands) or die $!;
	print $out "$_\n" for @lines;
	close($out);
	sleep 0.2;
	return;
}

# Where "tools/setup kafka" has put it; undef and why not.
sub kafka_home
{
	my $home = $ENV{PG_OUTBOX_KAFKA} // '/usr/local/share/pg_outbox/kafka';

	my ($jar) = glob("$home/kafka_2.13-*.jar");
	return (undef, "no Kafka in $home: tools/setup kafka installs it") if !$jar;
	return (undef, 'there is no java') if !grep { -x "$_/java" } split(/:/, $ENV{PATH});
	return ($home, undef);
}

# One node; returns its process.  Called again, it goes on with the same data.
sub start_kafka
{
	my ($dir, $port) = @_;
	my ($home) = kafka_home();
	my $controller = $port + 1;
	my @java = ('java', '-Xmx384m', '-Xms96m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-cp', "$home/*");

	if (!-e "$dir/kafka.properties")
	{
		write_file("$dir/kafka.properties", <<"END");
process.roles=broker,controller
node.id=1
controller.quorum.voters=1\@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=$dir/kafka
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
END
		system(@java, 'kafka.tools.StorageTool', 'format', '-t', 'AAAAAAAAAAAAAAAAAAAAAQ', '-c', "$dir/kafka.properties") == 0
		  or die 'could not format';
	}
	my $pid = fork // die $!;
	if ($pid == 0)
	{
		open(STDOUT, '>>', "$dir/kafka.log");
		open(STDERR, '>&', \*STDOUT);
		exec(@java, 'kafka.Kafka', "$dir/kafka.properties") or POSIX::_exit(1);
	}
	$running{$pid} = undef;
	for (1 .. 600)
	{
		return $pid if IO::Socket::INET->new("127.0.0.1:$port");
		die 'Kafka has ended: ' . read_file("$dir/kafka.log") if waitpid($pid, POSIX::WNOHANG()) == $pid;
		sleep 0.1;
	}
	die 'Kafka does not start';
}

sub peer
{
	return system($peer, @_);
}

sub hold_transaction
{
	my ($servers, $id, $topic) = @_;
	my ($from, $to);
	my $pid = open2($from, $to, $peer, 'hold', $servers, $id, $topic);

	$running{$pid} = $to;
	my $line = <$from>;
	return $to;
}

# What is in a topic: [partition, key, headers, value].
sub topic_lines
{
	my ($servers, $topic, @option) = @_;

	open(my $in, '-|', $peer, 'read', $servers, $topic, @option) or die $!;
	my @lines = map { chomp; [ split /\t/, $_, -1 ] } <$in>;
	close($in);
	return @lines;
}

# Of lines with a sequence: which positions of a list are missing, how many came
# again, and how many came for the first time behind a later one of their key.
sub account
{
	my ($expected, @lines) = @_;
	my (%seen, %newest);
	my ($repeated, $disorder) = (0, 0);

	foreach (@lines)
	{
		my (undef, $key, $headers) = @$_;
		my ($position) = $headers =~ /ce_sequence=0*(\d+)/ or next;

		$repeated++ if $seen{$position}++;
		next if $seen{$position} > 1;
		$disorder++ if $position < ($newest{$key} // 0);
		$newest{$key} = $position;
	}
	my @missing = grep { !$seen{$_} } @$expected;
	return scalar(@missing) . " missing, $repeated again, $disorder out of order";
}

END
{
	my $status = $?;

	close($_) for grep { defined } values %running;
	kill('KILL', keys %running);
	waitpid($_, 0) for keys %running;
	$? = $status;
}

1;
