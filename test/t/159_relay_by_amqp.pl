# A relay by AMQP 1.0: what the peer has accepted is acked; what it rejects is a
# dead letter, and what it releases is sent again, in order for each key; no
# more is sent than it has given credit for, and nothing is lost.
use strict;
use warnings;

use FindBin;
use IO::Socket::INET;
use lib $FindBin::RealBin;
use OutboxRelay;
use OutboxServer;
use Test::More;
use Time::HiRes qw(sleep time);

my $db = 'postgres';
my $root = "$FindBin::RealBin/../..";
my $sinks = qx{pg_config --pkglibdir};
chomp $sinks;
plan skip_all => 'there was no qpid-proton to build the sink with' if !-e "$sinks/pg_outbox/amqp.so";

my $node = new_server('amqp');
my $dir = $node->basedir;
is(system("gcc -Wall -o $dir/peer $root/test/sink/amqp_peer.c -lqpid-proton"), 0, 'a peer is built');

# ---- the peer ----

my %peer;
sub free_port
{
	my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1:0', Listen => 1) or die "no port: $!";
	return $socket->sockport;
}
sub start_peer
{
	my ($port, @certificate) = @_;
	my $pid = fork // die $!;

	if ($pid == 0)
	{
		open(STDERR, '>>', "$dir/peer.err");
		exec("$dir/peer", "127.0.0.1:$port", "$dir/arrived", "$dir/mood", @certificate) or POSIX::_exit(98);
	}
	$peer{$pid} = 1;
	wait_for(sub { IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port", Timeout => 1) }) or die 'no peer';
	return $pid;
}
sub stop_peer
{
	my ($pid) = @_;

	kill('KILL', $pid);
	waitpid($pid, 0);
	delete $peer{$pid};
	return;
}
END { my $status = $?; kill('KILL', keys %peer); $? = $status; }

# How much credit there is, and after how many messages the connection is cut.
sub mood { write_file("$dir/mood.new", "@_"); rename("$dir/mood.new", "$dir/mood"); return }

sub arrivals
{
	my @names = qw(id group correlation_id subject content_type time durable body);
	my @messages;

	foreach my $line (split /\n/, read_file("$dir/arrived"))
	{
		my @fields = split /\t/, $line, -1;
		my %message;

		@message{@names} = splice(@fields, 0, scalar @names);
		$message{properties} = { map { split /=/, $_, 2 } grep { $_ ne '' } @fields };
		push @messages, \%message;
	}
	return @messages;
}
sub ids { return map { $_->{id} =~ s/^1-//r } arrivals() }

my $port = free_port();
mood(100, 0);
my $peer = start_peer($port);

# ---- events ----

$node->safe_psql($db, q{CREATE EXTENSION pg_outbox; SELECT outbox.subscribe('out')});
my $published = 0;
sub publish
{
	my ($count, %option) = @_;
	my $type = $option{type} // 'Order';
	my $data = $option{data} // q{'{"amount": 99.50}'};

	$node->safe_psql($db, "SELECT count(outbox.publish('$type', $data, 'k' || (i + $published) % 5)) FROM generate_series(1, $count) i");
	$published += $count;
	return;
}
sub all_is_acked { return $node->poll_query_until($db, "SELECT outbox.head() = $published AND lag + retrying + parked = 0 FROM outbox.status WHERE name = 'out'") }
sub lag { return $node->safe_psql($db, q{SELECT lag FROM outbox.status WHERE name = 'out'}) }
sub dead { return $node->safe_psql($db, "SELECT string_agg(position || ' ' || error, E'\\n' ORDER BY position) FROM outbox.dead_letter WHERE position > $_[0]") }

sub configure_amqp
{
	my ($settings, %more) = @_;

	$settings = "url = 'amqp://127.0.0.1:$port'\n$settings" if $settings !~ /^url/m;
	$settings = "address = events\n$settings" if $settings !~ /^address/m;
	return configure($node, "$dir/out.conf", subscription => 'out', sink => 'amqp', batch => 100, lease => '3s', %more,
		sections => "[amqp]\n$settings");
}

# Of the positions: missing, come again, and come for the first time behind a
# later one of their key.
sub account
{
	my ($first, $last) = @_;
	my @positions = grep { $_ >= $first && $_ <= $last } ids();
	my (%seen, %newest);
	my $disorder = 0;

	foreach my $position (@positions)
	{
		next if $seen{$position}++;
		$disorder++ if $position < ($newest{ $position % 5 } // 0);
		$newest{ $position % 5 } = $position;
	}
	return (scalar(grep { !$seen{$_} } $first .. $last), @positions - keys %seen, $disorder);
}

# ---- what arrives ----

publish(500);
my $config = configure_amqp('');
is(run_relay($config, "$dir/out", '--check'), 0, 'a check') || diag(read_file("$dir/out.err"));
is(run_relay($config, "$dir/out", '--once'), 0, 'once') || diag(read_file("$dir/out.err"));
ok(all_is_acked(), 'all is acked');
is(join(' ', account(1, 500)), '0 0 0', 'all of it arrives once, in order for each key');
my ($message) = grep { $_->{id} eq '1-17' } arrivals();
is($message->{body}, '{"amount": 99.50}', 'numbers as they were written');
is("$message->{group} $message->{correlation_id} $message->{subject} $message->{content_type} $message->{durable}",
	'k2 17 Order application/json 1', 'with properties: the group is the key');
cmp_ok(abs($message->{time} / 1000 - time), '<', 300, 'a creation time');
is($message->{properties}{"cloudEvents:$_->[0]"}, $_->[1], "attribute $_->[0]")
  for ([ specversion => '1.0' ], [ id => '1-17' ], [ type => 'Order' ], [ subject => 'k2' ], [ sequence => '0000000000000000017' ]);

$node->safe_psql($db, q{SELECT outbox.publish('Order', '[1.0]', headers => '{"country": "GB"}')});
$published++;
is(run_relay(configure_amqp("subject = '{header.country}.{type}'\ngroup = '{source}'\n", format => 'cloudevents-json'), "$dir/out", '--once'), 0, 'structured');
ok(all_is_acked(), 'is acked');
$message = (arrivals())[-1];
is($message->{content_type}, 'application/cloudevents+json; charset=utf-8', 'the body is a CloudEvent');
like($message->{body}, qr/^\{"specversion":"1\.0","id":"1-501",.*"data":\[1\.0\]\}$/, 'as JSON');
is($message->{subject}, 'GB.Order', 'a template is filled in');
is(scalar(%{ $message->{properties} }), 0, 'without properties');

# ---- outcomes ----

my $before = $published;
foreach my $type (qw(Reject Busy Release Modify Undeliverable))
{
	publish(20);
	publish(1, type => $type);
	publish(20);
}
publish(1, data => q{to_json(repeat('x', 150000))::jsonb});
publish(3);
$config = configure_amqp('', listen => '127.0.0.1:' . (my $listen = free_port()));
my $relay = start_relay($config, "$dir/outcomes");
ok(all_is_acked(), 'whatever the peer says, it goes on');
my %why = map { split / /, $_, 2 } split /\n/, dead($before);
is(join(' ', sort keys %why), join(' ', map { $before + $_ } 21, 185, 206), 'what is rejected is a dead letter');
is($why{ $before + 21 }, 'the peer has rejected it: test:odd: it is odd', 'with the reason');
like($why{ $before + 185 }, qr/the peer has modified it/, 'what is not to be delivered here, too');
like($why{ $before + 206 }, qr/its message has \d+ bytes, and the peer takes 100000/, 'and what is too large');
my ($missing, $repeated, $disorder) = account($before + 1, $published);
is("$missing $disorder", '3 0', 'the others arrive, in order for each key');
like(read_file("$dir/outcomes.err"), $_, "$_ is told") for (qr/server-busy/, qr/released it/, qr/modified it/);

# ---- credit ----

$before = $published;
mood(2, 0);
publish(200);
ok(all_is_acked(), 'little credit');
is(join(' ', account($before + 1, $published)), '0 0 0', 'is enough');
mood(0, 0);
$before = $published;
publish(50);
ok(wait_for(sub { read_file("$dir/outcomes.err") =~ /the peer takes nothing for now: it gives no credit/ }), 'no credit is told');
like((http_get($listen, '/ready'))[1], qr/it gives no credit/, 'it is not ready');
my $expires = $node->safe_psql($db, q{SELECT lease_until FROM outbox.status WHERE name = 'out'});
ok($node->poll_query_until($db, "SELECT lease_until > '$expires'::timestamptz + interval '2 s' FROM outbox.status WHERE name = 'out'"), 'and keeps what it has');
mood(100, 0);
ok(all_is_acked(), 'with credit it goes on');
is(join(' ', account($before + 1, $published)), '0 0 0', 'and nothing comes again');

# ---- whoever goes ----

$before = $published;
mood(100, 30);
publish(300);
ok(all_is_acked(), 'a connection that is cut again and again');
mood(100, 0);
stop_peer($peer);
publish(100);
ok(wait_for(sub { read_file("$dir/outcomes.err") =~ /could not connect to 127\.0\.0\.1:\d+: Connection refused/ }), 'no peer is told');
$peer = start_peer($port);
ok(all_is_acked(), 'and waited for');
is(stop_relay($relay, 'TERM'), 0, 'it is stopped');
$relay = start_relay(configure_amqp("heartbeat = 1s\n"), "$dir/frozen");
ok(wait_for(sub { read_file("$dir/frozen.err") =~ /sink amqp is ready/ }), 'with a short heartbeat');
kill('STOP', $peer);
publish(100);
ok(wait_for(sub { read_file("$dir/frozen.err") =~ /the connection is lost: amqp:resource-limit-exceeded: local-idle-timeout/ }), 'a peer that is frozen is told');
kill('CONT', $peer);
ok(all_is_acked(), 'when it thaws, the relay goes on');
is(stop_relay($relay, 'TERM'), 0, 'it is stopped');
foreach my $round (1 .. 6)
{
	$relay = start_relay($config, "$dir/kill");
	publish(300);
	sleep rand(0.3);
	is(stop_relay($relay, 'KILL'), 'signal 9', "round $round: the relay is killed");
}
$relay = start_relay($config, "$dir/kill");
ok(all_is_acked(), 'the next one goes on');
is(stop_relay($relay, 'TERM'), 0, 'it is stopped');
($missing, $repeated, $disorder) = account($before + 1, $published);
is("$missing $disorder", '0 0', 'nothing was lost, nothing is out of order');
note("$repeated events came again");
$before = $published;
foreach my $round (1 .. 3)
{
	my $said = -s "$dir/stop.err" // 0;
	$relay = start_relay($config, "$dir/stop");
	publish(300);
	# before, it does not catch signals yet
	wait_for(sub { (-s "$dir/stop.err" // 0) > $said });
	sleep rand(0.3);
	is(stop_relay($relay, 'TERM'), 0, "round $round: the relay is stopped");
}
is(run_relay(configure_amqp("one_per_group = off\n"), "$dir/stop", '--once'), 0, 'several of a key at once');
ok(all_is_acked(), 'all is acked');
is(join(' ', account($before + 1, $published)), '0 0 0', 'who is stopped repeats nothing and loses nothing');

# ---- what Azure Service Bus documents ----

$before = $published;
$node->safe_psql($db, q{
	SELECT outbox.publish('Order', '1', repeat('ä', 128)), outbox.publish('Order', '2', repeat('ä', 129)),
		   outbox.publish('Order', '3', headers => jsonb_build_object('traceparent', repeat('x', 33000)))});
$published += 3;
is(run_relay(configure_amqp("service_bus = on\n"), "$dir/limits", '--once'), 0, 'limits of Service Bus');
ok(all_is_acked(), 'are obeyed');
%why = map { split / /, $_, 2 } split /\n/, dead($before);
is(join(' ', sort keys %why), join(' ', $before + 2, $before + 3), 'by dead letters');
like($why{ $before + 2 }, qr/group-id has 129 characters, and a session id of Service Bus at most 128/, 'of a key that is too long');
like($why{ $before + 3 }, qr/a property of it has 33000 bytes/, 'of a property that is');
is((ids())[-1], $before + 1, 'what is within them arrives');

# ---- what a person must repair ----

publish(1);
is(run_relay(configure_amqp("address = nowhere\n"), "$dir/nowhere", '--check'), 3, 'no such address: exit code');
like(read_file("$dir/nowhere.err"), qr/amqp:not-found: there is no such address/, 'is told');
is(run_relay(configure_amqp("url = 'amqp://courier:se%63ret\@127.0.0.1:$port'\n"), "$dir/login", '--check'), 3, 'a wrong login: exit code');
unlike(read_file("$dir/login.err"), qr/secret|se%63ret/, 'is told without the password');
is(lag(), 1, 'nothing is skipped');
foreach ([ "unsettled = 0\n", qr/"unsettled" must be/ ], [ "subject = '{colour}'\n", qr/in braces/ ],
	[ "url = 'http://x'\n", qr/"url" must be/ ], [ "url = 'amqp://x\@y'\n", qr/a user and a password need each other/ ],
	[ "colour = red\n", qr/there is no setting "colour" in the section "amqp"/ ], [ "ca_file = $dir/ca.pem\n", qr/amqps/ ])
{
	unlink("$dir/wrong.err");
	is(run_relay(configure_amqp($_->[0]), "$dir/wrong"), 1, 'a wrong configuration');
	like(read_file("$dir/wrong.err"), $_->[1], 'is told');
}

# ---- TLS ----

sub run_quietly { return system("@_ >>$dir/openssl.log 2>&1") }
write_file("$dir/san", "subjectAltName=DNS:localhost\n");
run_quietly("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout $dir/ca.key -out $dir/ca.pem");
run_quietly("openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout $dir/server.key -out $dir/server.csr");
my %secure;
foreach my $name (qw(good expired))
{
	is(run_quietly("openssl x509 -req -in $dir/server.csr -CA $dir/ca.pem -CAkey $dir/ca.key -CAcreateserial",
		'-days', $name eq 'good' ? 2 : 0, "-extfile $dir/san -out $dir/$name.pem"), 0, "a certificate: $name");
	start_peer($secure{$name} = free_port(), "$dir/$name.pem", "$dir/server.key");
}
my $safe = "url = 'amqps://localhost:$secure{good}'\nca_file = $dir/ca.pem\n";
is(run_relay(configure_amqp($safe), "$dir/tls", '--once'), 0, 'TLS') || diag(read_file("$dir/tls.err"));
ok(all_is_acked(), 'is used');
is(run_relay(configure_amqp($safe =~ s/localhost/127.0.0.1/r), "$dir/host", '--check'), 3, 'a certificate of another host');
is(run_relay(configure_amqp($safe =~ s/^ca_file.*\n//mr), "$dir/ca", '--check'), 3, 'one that nobody known has signed');
like(read_file("$dir/ca.err"), qr/certificate verify failed/, 'is told');
is(run_relay(configure_amqp($safe =~ s/$secure{good}/$secure{expired}/r), "$dir/expired", '--check'), 3, 'an expired one');

$node->stop;
done_testing();
