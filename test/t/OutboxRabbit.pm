# A RabbitMQ of a test's own: run by whoever runs the test, in the test's
# directory, on free ports of the loopback interface, with its own epmd.
package OutboxRabbit;

use strict;
use warnings;

use Exporter 'import';
use IO::Socket::INET;
use IPC::Run;
use JSON::PP;
use OutboxRelay;
use POSIX ();
use Time::HiRes qw(sleep);

our @EXPORT = qw(rabbit_is_missing rabbit_new rabbit_start rabbit_stop rabbit_eval
  rabbit_define free_port);

my $server = '/usr/lib/rabbitmq/bin/rabbitmq-server';
my %running;

# Why there can be none; '' if there can.
sub rabbit_is_missing
{
	return -x $server && -x '/usr/bin/epmd' && -x '/usr/bin/erl_call' ? '' : 'there is no rabbitmq-server here';
}

sub free_port
{
	my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1:0', Listen => 1) or die "no port: $!";
	return $socket->sockport;
}

# The definitions are JSON: users, virtual hosts, queues ...
sub rabbit_new
{
	my ($dir, $definitions, %option) = @_;
	my $rabbit = bless {
		dir => $dir, port => free_port(), dist => free_port(), epmd => free_port(), name => "outbox$$\@localhost",
		plugins => $option{plugins} // ''
	}, 'OutboxRabbit';

	mkdir($dir) or die "could not make $dir: $!";
	write_file("$dir/definitions.json", encode_json($definitions));
	write_file("$dir/rabbit.conf", "listeners.tcp.1 = 127.0.0.1:$rabbit->{port}\nload_definitions = $dir/definitions.json\n"
		  . ($option{conf} // ''));
	write_file("$dir/plugins", "[$rabbit->{plugins}].");
	rabbit_start($rabbit);
	return $rabbit;
}

sub spawn
{
	my ($rabbit, @command) = @_;
	my $dir = $rabbit->{dir};
	my $pid = fork // die "could not fork: $!";

	if ($pid == 0)
	{
		%ENV = (
			PATH => $ENV{PATH}, HOME => $dir, ERL_EPMD_PORT => $rabbit->{epmd}, ERL_EPMD_ADDRESS => '127.0.0.1',
			RABBITMQ_CONF_ENV_FILE => "$dir/none", RABBITMQ_NODENAME => $rabbit->{name},
			RABBITMQ_CONFIG_FILE => "$dir/rabbit.conf", RABBITMQ_ENABLED_PLUGINS_FILE => "$dir/plugins",
			RABBITMQ_MNESIA_BASE => "$dir/mnesia", RABBITMQ_LOG_BASE => "$dir/log", RABBITMQ_DIST_PORT => $rabbit->{dist},
			RABBITMQ_PID_FILE => "$dir/pid",
			RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS => '-kernel inet_dist_use_interface {127,0,0,1}');
		open(STDIN, '<', '/dev/null');
		open(STDOUT, '>>', "$dir/out") or POSIX::_exit(99);
		open(STDERR, '>&', \*STDOUT);
		chdir($dir);
		# the server's script has a child, and that has some, too
		setpgrp(0, 0);
		exec(@command) or POSIX::_exit(98);
	}
	$running{$pid} = 1;
	return $pid;
}

sub listens
{
	my ($port) = @_;

	return defined IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port", Timeout => 1);
}

# It starts within seconds on a machine that has nothing else to do.
sub rabbit_start
{
	my ($rabbit) = @_;
	my $ended = 0;

	$rabbit->{epmd_pid} //= spawn($rabbit, 'epmd', '-port', $rabbit->{epmd}, '-address', '127.0.0.1');
	wait_for(sub { listens($rabbit->{epmd}) }) or die 'epmd does not start';
	$rabbit->{pid} = spawn($rabbit, $server);
	for (1 .. 4)
	{
		return if wait_for(sub { listens($rabbit->{port}) || ($ended = waitpid($rabbit->{pid}, POSIX::WNOHANG())) }) && !$ended;
		last if $ended;
	}
	die "RabbitMQ does not start: see $rabbit->{dir}/out";
}

# By a signal: TERM lets it end in good order.
sub rabbit_stop
{
	my ($rabbit, $signal) = @_;

	kill($signal, $signal eq 'KILL' ? -$rabbit->{pid} : read_file("$rabbit->{dir}/pid"));
	waitpid($rabbit->{pid}, 0);
	delete $running{ $rabbit->{pid} };
	return;
}

# What an Erlang expression is, within the broker.
sub rabbit_eval
{
	my ($rabbit, $code) = @_;
	my $out = '';

	# erl_call does without epmd, and without a virtual machine of its own
	IPC::Run::run([ 'erl_call', '-c', read_file("$rabbit->{dir}/.erlang.cookie"), '-address',
			"127.0.0.1:$rabbit->{dist}", '-e' ], '<', \"$code.\n", '>&', \$out);
	return $out;
}

# More definitions, at once.
sub rabbit_define
{
	my ($rabbit, $definitions) = @_;
	my $json = encode_json($definitions) =~ s/(["\\])/\\$1/gr;

	return rabbit_eval($rabbit, qq{rabbit_definitions:import_raw(<<"$json">>)});
}

END
{
	my $status = $?;

	# epmd last, or a broker starts another one; it has the least number
	kill('KILL', -$_) foreach sort { $b <=> $a } keys %running;
	waitpid($_, 0) for keys %running;
	$? = $status;
}

1;
