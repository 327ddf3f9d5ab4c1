# The programs of test/clients, one for each driver: each publishes, pulls and
# listens as docs/clients.md shows it, directly and through a PgBouncer that
# gives each transaction another session.
package OutboxClients;

use strict;
use warnings;

use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename qw(dirname);
use IPC::Run ();
use OutboxServer;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(test_clients missing start stop shop_database);

my $root = abs_path(dirname(__FILE__) . '/../..');
my %started;    # pid => 1
my ($node, $bouncer_port);

END
{
	my $status = $?;
	kill('KILL', keys %started);
	$? = $status;
}

# test_clients([ALSO,] NAME => FORM...): FORM makes the connection string from a
# port and a database; ALSO gets the server afterwards.
sub test_clients
{
	my $also = ref $_[0] ? shift : sub { };
	my (%form) = @_;

	$node = new_server('clients', conf => [ "listen_addresses = '127.0.0.1'" ]);
	$node->safe_psql('postgres', 'CREATE ROLE shop LOGIN');
	$bouncer_port = start_pgbouncer($node);
	foreach my $client (sort keys %form)
	{
		my $why = missing($client);

	  SKIP:
		{
			skip "$client: $why", 1 if defined $why;
			subtest $client => sub { test_client($client, $form{$client}) };
		}
	}
	$also->($node);
	$node->stop;
	done_testing();
	return;
}

# Why there is no such client here.
sub missing
{
	my ($client) = @_;
	my $dir = $ENV{OUTBOX_CLIENTS};

	return 'make check brings the drivers' if !defined $dir;
	return if -x "$dir/$client";
	return 'was not asked for' if !-e "$dir/$client.missing";
	my $why = slurp("$dir/$client.missing");
	chomp $why;
	return $why;
}

sub test_client
{
	my ($client, $form) = @_;
	my $direct = $form->($node->port, $client);
	my $pooled = defined $bouncer_port ? $form->($bouncer_port, $client) : $direct;

	shop_database($client);

	# a program that crashes, and one that goes on, elsewhere
	publish($client, $direct, 1, 10);
	publish($client, $pooled, 2, -1);
	publish($client, $direct, 3, 30);
	my $consumer = start($client, $direct, 'shop', 'consume', 'shipping');
	wait_until($node, $client, q{SELECT count(*) = 2 FROM shipment}, 'what can be handled is handled')
	  || diag($consumer->{output}->());
	wait_until($node, $client, q{
		SELECT count(*) = 1 FROM outbox.dead_letter
		WHERE key = '2' AND attempts = 3 AND error ~ 'order 2 has no positive amount'},
		'what cannot be handled becomes a dead letter, with the reason')
	  || diag($consumer->{output}->());
	stop($consumer);
	$node->safe_psql($client, q{
		SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE query ~ '^CALL outbox.await' AND datname = current_database()});
	publish($client, $pooled, 4, 40);
	$consumer = start($client, $pooled, 'shop', 'consume', 'shipping');
	wait_until($node, $client, q{SELECT count(*) = 3 FROM shipment}, 'it goes on through the pool')
	  || diag($consumer->{output}->());
	wait_until($node, $client, q{
		SELECT count(*) > 0 FROM pg_stat_activity
		WHERE query ~ '^CALL outbox.await' AND wait_event_type = 'Extension' AND datname = current_database()},
		'and waits there for more');
	publish($client, $direct, 5, 50);
	wait_until($node, $client, q{SELECT count(*) = 4 FROM shipment}, 'which wakes it')
	  || diag($consumer->{output}->());
	wait_until($node, $client, q{SELECT lag = 0 AND retrying = 0 FROM outbox.status WHERE name = 'shipping'},
		'all is acked');
	stop($consumer);
	is($node->safe_psql($client, 'SELECT order_id, position FROM shipment ORDER BY number'),
		"1|1\n3|3\n4|4\n5|5", 'each once, in order');

	# notifications, and what came while nobody listened
	my $follower = start($client, $direct, 'shop', 'follow', 'shop_events', 3);
	says($follower, "4 OrderPlaced 4\n5 OrderPlaced 5\n", 'what is there is read');
	publish($client, $direct, 6, 60);
	says($follower, "4 OrderPlaced 4\n5 OrderPlaced 5\n6 OrderPlaced 6\n", 'a notification wakes it');
	$node->safe_psql($client, q{
		SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE query ~ 'FROM outbox.read|^LISTEN' AND datname = current_database() AND pid <> pg_backend_pid()});
	ok(ends($follower), 'a program whose session is gone ends');
	$follower = start($client, $direct, 'shop', 'follow', 'outbox_head', 5);
	says($follower, "6 OrderPlaced 6\n", 'it goes on from where it was');
	publish($client, $direct, 7, 70);
	says($follower, "6 OrderPlaced 6\n7 OrderPlaced 7\n", 'the notification that the log has grown wakes it');
	stop($follower);

	# the types
	my %documented = documented_types($client);
	$node->safe_psql($client, q{SET ROLE shop; SELECT outbox.subscribe('values', '{ValueAsked}')});
	my $out = start($client, $direct, 'values');
	ok(ends($out), 'the program that shows types ends');
	is($out->{output}->(), join('', map { "$_ $documented{$_}\n" } qw(bigint xid8 timestamptz jsonb bigint[])),
		'the types that docs/clients.md names');
	is($node->safe_psql($client, q{SELECT lag FROM outbox.status WHERE name = 'values'}), '0',
		'intervals and arrays as arguments');
	return;
}

sub shop_database
{
	my ($name) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $name");
	$node->safe_psql($name, 'CREATE EXTENSION pg_outbox');
	$node->safe_psql($name, slurp("$root/test/clients/shop.sql"));
	return;
}

sub publish
{
	my ($client, $url, $order, $amount) = @_;
	my $program = start($client, $url, 'shop', 'publish', $order, $amount);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(ends($program) && $program->{code} == 0, "order $order is published") || diag($program->{output}->());
	return;
}

# A program in the background: {pid, output => what it has said so far}.
sub start
{
	my ($client, $url, @words) = @_;
	my $file = $node->basedir . "/$client.out" . keys(%started);
	my $pid = fork // die "could not fork: $!";

	if ($pid == 0)
	{
		$ENV{DATABASE_URL} = $url;
		open(STDIN, '<', '/dev/null');
		open(STDOUT, '>', $file);
		open(STDERR, '>&', \*STDOUT);
		exec("$ENV{OUTBOX_CLIENTS}/$client", @words) or POSIX::_exit(127);
	}
	$started{$pid} = 1;
	return { pid => $pid, output => sub { slurp($file) } };
}

sub stop
{
	my ($program) = @_;

	kill('KILL', $program->{pid});
	waitpid($program->{pid}, 0);
	delete $started{ $program->{pid} };
	return;
}

# Waits for its end, for a minute.
sub ends
{
	my ($program) = @_;

	for (1 .. 6000)
	{
		if (waitpid($program->{pid}, POSIX::WNOHANG) == $program->{pid})
		{
			$program->{code} = $?;
			delete $started{ $program->{pid} };
			return 1;
		}
		sleep 0.01;
	}
	return 0;
}

sub says
{
	my ($program, $expected, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	for (1 .. 6000)
	{
		last if $program->{output}->() eq $expected;
		sleep 0.01;
	}
	is($program->{output}->(), $expected, $name);
	return;
}

# The row of a client in the table of types of docs/clients.md.
sub documented_types
{
	my ($client) = @_;
	my ($head, @rows) = grep { /^\| / } split /\n/,
	  (slurp("$root/docs/clients.md") =~ /^## Types\n(.*?)^## /ms)[0];
	my @names = cells($head);

	foreach my $row (@rows)
	{
		my @cells = cells($row);
		return map { $names[$_] => $cells[$_] } 1 .. $#names if $cells[0] eq $client;
	}
	die "docs/clients.md has no types of $client";
}

sub cells
{
	my ($row) = @_;

	return map { s/ \(cast\)//r =~ s/[` ]*$//r =~ s/^[` ]*//r } split(/\|/, $row =~ s/^\|//r);
}

sub slurp
{
	my $path = shift;

	open(my $in, '<', $path) or die "could not read $path: $!\n";
	local $/;
	return <$in> // '';
}

sub free_port
{
	return PostgreSQL::Test::Cluster->can('get_free_port')
	  ? PostgreSQL::Test::Cluster::get_free_port()
	  : PostgresNode::get_free_port();
}

# A PgBouncer in transaction mode before all databases of the server, with two
# sessions for each; its port.
sub start_pgbouncer
{
	my ($server) = @_;
	my $pgbouncer = (grep { -x $_ } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin')[0];
	my $dir = $server->basedir;
	my $port;

	return if !defined $pgbouncer;
	$port = free_port();
	open(my $ini, '>', "$dir/pgbouncer.ini") or die $!;
	print $ini <<"END";
[databases]
* = host=127.0.0.1 port=${\ $server->port} user=shop
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $port
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
ignore_startup_parameters = extra_float_digits
logfile = $dir/pgbouncer.log
END
	close($ini);
	my $pid = fork // die "could not fork: $!";
	if ($pid == 0)
	{
		open(STDOUT, '>', "$dir/pgbouncer.out");
		open(STDERR, '>&', \*STDOUT);
		exec($pgbouncer, "$dir/pgbouncer.ini") or POSIX::_exit(1);
	}
	$started{$pid} = 1;
	for (1 .. 300)
	{
		return $port
		  if system("psql -X -q -c 'SELECT 1' -d 'host=127.0.0.1 port=$port dbname=postgres user=shop' >/dev/null 2>&1") == 0;
		sleep 0.1;
	}
	die 'pgbouncer does not answer';
}

1;
