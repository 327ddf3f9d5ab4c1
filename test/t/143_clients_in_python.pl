# docs/clients.md in Python: psycopg and asyncpg; the program of README.md, and
# one with a lease, whose work is outside of the database.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IO::Socket::INET;
use OutboxClients;
use OutboxServer;
use POSIX ();
use Test::More;

test_clients(
	\&test_programs,
	map { $_ => sub { "postgresql://shop\@127.0.0.1:$_[0]/$_[1]" } } qw(psycopg asyncpg));

sub test_programs
{
	my ($node) = @_;

	return if defined missing('psycopg');
	shop_database('shop');
	test_readme($node);
	test_lease($node);
	return;
}

sub test_readme
{
	my ($node) = @_;

	$node->safe_psql('shop', q{
		SELECT count(outbox.publish('OrderPlaced', '{}', key => n::text)) FROM generate_series(1, 250) n});

	my $pull = sub {
		local @ENV{qw(PGHOST PGPORT PGUSER)} = ($node->host, $node->port, 'shop');
		return start('psycopg', '', 'pull');
	};
	my $program = $pull->();
	wait_until($node, 'shop', q{SELECT count(*) > 20 FROM shipment}, 'the program of README.md pulls');
	stop($program);
	$program = $pull->();
	wait_until($node, 'shop', q{SELECT lag = 0 FROM outbox.status WHERE name = 'shipping'}, 'to the end')
	  || diag($program->{output}->());
	stop($program);
	is($node->safe_psql('shop', q{SELECT count(*), count(DISTINCT order_id) FROM shipment}), '250|250',
		'each order once, though the program was killed');
	return;
}

sub test_lease
{
	my ($node) = @_;
	my $file = $node->basedir . '/posted';
	my $server = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1') or die "could not listen: $!";
	my $url = 'http://127.0.0.1:' . $server->sockport . '/';
	my $connection = 'postgresql://shop@127.0.0.1:' . $node->port . '/shop';

	my $service = fork // die "could not fork: $!";
	if ($service == 0)
	{
		serve($server, $file);
		POSIX::_exit(0);
	}
	close($server);
	$node->safe_psql('shop', q{
		SET ROLE shop;
		SELECT outbox.subscribe('posts', '{Post}', backoff => '100 ms', max_attempts => 2);
		SELECT count(outbox.publish('Post', jsonb_build_object('n', n), key => n::text)) FROM generate_series(1, 6) n});
	my $program = start('psycopg', $connection, 'lease', 'posts', $url);
	wait_until($node, 'shop', q{SELECT lag = 0 AND retrying = 0 FROM outbox.status WHERE name = 'posts'},
		'a program with a lease comes to the end') || diag($program->{output}->());
	stop($program);
	kill('KILL', $service);
	waitpid($service, 0);
	is($node->safe_psql('shop', q{
		SELECT key, attempts, error FROM outbox.dead_letter WHERE subscription = 'posts'}),
		'3|2|HTTP Error 500: no', 'what is refused becomes a dead letter');
	open(my $in, '<', $file) or die "could not read $file: $!";
	is(join(' ', sort map { s/\n//r } <$in>), '1 2 3 3 4 5 6', 'and all else is posted once');
	return;
}

# A web service that refuses one event.
sub serve
{
	my ($server, $file) = @_;

	open(my $out, '>>', $file) or return;
	$out->autoflush;
	while (my $client = $server->accept)
	{
		my ($length, $body) = (0, '');

		while (my $line = <$client>)
		{
			last if $line =~ /^\r?$/;
			$length = $1 if $line =~ /^Content-Length: (\d+)/i;
		}
		read($client, $body, $length);
		my ($n) = $body =~ /"n": (\d+)/;
		print $out "$n\n";
		print $client 'HTTP/1.1 ' . ($n == 3 ? '500 no' : '200 ok') . "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
		close($client);
	}
	return;
}
