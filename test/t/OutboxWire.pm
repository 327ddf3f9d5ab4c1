# A connection that speaks PostgreSQL's protocol itself, since psql shows a
# notification only after the next command: for tests that measure how soon one
# comes, and for many short calls.

package OutboxWire;

use strict;
use warnings;

use IO::Select;
use IO::Socket::UNIX;
use Time::HiRes qw(time);

# new OutboxWire($node, $database): as the superuser, through the node's socket
sub new
{
	my ($class, $node, $database) = @_;
	my $socket = IO::Socket::UNIX->new(Peer => $node->host . '/.s.PGSQL.' . $node->port)
	  or die "cannot connect: $!";
	my $user = $ENV{PGUSER} // getpwuid($>);
	my $self = bless { socket => $socket, buffer => '', notifications => [] }, $class;
	my $startup = pack('N', 196608) . "user\0$user\0database\0$database\0\0";

	$self->{select} = IO::Select->new($socket);
	$socket->syswrite(pack('N', length($startup) + 4) . $startup);
	$self->_answer;
	return $self;
}

# the rows of all commands, each a list of texts; dies of an error
sub query
{
	my ($self, $sql) = @_;

	$self->{socket}->syswrite('Q' . pack('N', length($sql) + 5) . "$sql\0");
	return $self->_answer;
}

sub value
{
	my ($self, $sql) = @_;
	my @rows = $self->query($sql);

	return @rows ? $rows[0][0] : undef;
}

# the next notification, { channel, payload, at }, or undef after so many seconds
sub notification
{
	my ($self, $timeout) = @_;
	my $end = time() + $timeout;

	while (!@{ $self->{notifications} })
	{
		my $left = $end - time();

		return if $left <= 0;
		$self->_message if $self->{select}->can_read($left);
	}
	return shift @{ $self->{notifications} };
}

sub close
{
	my ($self) = @_;

	$self->{socket}->syswrite('X' . pack('N', 4));
	$self->{socket}->close;
	return;
}

sub _fill
{
	my ($self, $bytes) = @_;

	while (length($self->{buffer}) < $bytes)
	{
		my $read = $self->{socket}->sysread($self->{buffer}, 65536, length $self->{buffer});

		die 'the server has closed the connection' if !$read;
	}
	return;
}

sub _message
{
	my ($self) = @_;

	$self->_fill(5);
	my ($type, $length) = unpack('a N', $self->{buffer});
	$self->_fill($length + 1);
	my $body = substr($self->{buffer}, 5, $length - 4);
	substr($self->{buffer}, 0, $length + 1) = '';
	if ($type eq 'A')
	{
		my (undef, $channel, $payload) = unpack('N Z* Z*', $body);

		push @{ $self->{notifications} }, { channel => $channel, payload => $payload, at => time() };
	}
	return ($type, $body);
}

sub _answer
{
	my ($self) = @_;
	my @rows;
	my $error;

	while (1)
	{
		my ($type, $body) = $self->_message;

		if ($type eq 'D')
		{
			my $count = unpack('n', $body);
			my @row;
			my $at = 2;

			for (1 .. $count)
			{
				my $length = unpack('l>', substr($body, $at, 4));

				push @row, $length < 0 ? undef : substr($body, $at + 4, $length);
				$at += 4 + ($length < 0 ? 0 : $length);
			}
			push @rows, \@row;
		}
		($error) = $body =~ /M([^\0]*)\0/ if $type eq 'E';
		last if $type eq 'Z' || ($type eq 'E' && $body =~ /^SFATAL/);
	}
	die "$error\n" if defined $error;
	return @rows;
}

1;
