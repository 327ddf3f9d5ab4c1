# A relay to RabbitMQ: what the broker has confirmed is acked, and what it
# cannot route or will not take is a dead letter; whoever is killed, blocked or
# gone for a while, nothing is lost, nor comes out of order.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxRabbit;
use OutboxRelay;
use OutboxServer;
use Test::More;
use Time::HiRes qw(sleep time);

my $db = 'postgres';
my $root = "$FindBin::RealBin/../..";
my $sinks = qx{pg_config --pkglibdir};
chomp $sinks;
plan skip_all => 'there was no librabbitmq to build the sink with' if !-e "$sinks/pg_outbox/rabbitmq.so";
plan skip_all => rabbit_is_missing() if rabbit_is_missing();

my $node = new_server('rabbitmq');
my $dir = $node->basedir;

# ---- a broker, with TLS ----

sub run_quietly { return system("@_ >>$dir/openssl.log 2>&1") }
sub sign
{
	my ($name, $days) = @_;

	return run_quietly("openssl x509 -req -in $dir/server.csr -CA $dir/ca.pem -CAkey $dir/ca.key -CAcreateserial",
		"-days $days -extfile $dir/san -out $dir/$name.pem");
}
write_file("$dir/san", "subjectAltName=DNS:localhost\n");
run_quietly("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout $dir/ca.key -out $dir/ca.pem");
run_quietly("openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout $dir/server.key -out $dir/server.csr");
is(sign('good', 2) || sign('expired', 0), 0, 'there are certificates');
sub certificate { write_file("$dir/server.pem", read_file("$dir/$_[0].pem")); return }
certificate('good');

my @bindings = map { { source => 'events', vhost => 'shop', destination => $_->[0], destination_type => 'queue', routing_key => $_->[1], arguments => {} } }
  ([ 'orders', 'Order' ], [ 'orders', 'Big' ], [ 'orders', 'GB.*' ], [ 'full', 'Full' ]);
my $secure = free_port();
my $rabbit = rabbit_new("$dir/rabbit", {
		vhosts => [ { name => '/' }, { name => 'shop' } ],
		users => [ { name => 'courier', password => 'a se%cret', tags => '' } ],
		permissions => [ { user => 'courier', vhost => 'shop', configure => '', write => '^events$', read => '.*' } ],
		exchanges => [ map { { name => $_, vhost => 'shop', type => 'topic', durable => JSON::PP::true, auto_delete => JSON::PP::false, internal => JSON::PP::false, arguments => {} } } qw(events forbidden) ],
		queues => [
			{ name => 'orders', vhost => 'shop', durable => JSON::PP::true, auto_delete => JSON::PP::false, arguments => {} },
			{ name => 'full', vhost => 'shop', durable => JSON::PP::true, auto_delete => JSON::PP::false, arguments => { 'x-max-length' => 5, 'x-overflow' => 'reject-publish' } } ],
		bindings => \@bindings },
	plugins => 'rabbitmq_amqp1_0',
	conf => "max_message_size = 100000\nlisteners.ssl.1 = 127.0.0.1:$secure\nssl_options.cacertfile = $dir/ca.pem\n"
	  . "ssl_options.certfile = $dir/server.pem\nssl_options.keyfile = $dir/server.key\n");
my $url = "amqp://courier\@127.0.0.1:$rabbit->{port}/shop";

is(system("gcc -Wall -o $dir/drain $root/test/sink/rabbitmq_drain.c -lrabbitmq"), 0, 'a consumer is built');

# All messages of a queue, taken out of it.
sub drain
{
	my ($queue) = @_;
	my @names = qw(id correlation_id type time mode content_type exchange routing_key body);
	my @messages;

	foreach my $line (split /\n/, qx{$dir/drain amqp://courier:a%20se%25cret\@127.0.0.1:$rabbit->{port}/shop $queue})
	{
		my @fields = split /\t/, $line;
		my %message;

		@message{@names} = splice(@fields, 0, scalar @names);
		$message{headers} = { map { split /=/, $_, 2 } @fields };
		push @messages, \%message;
	}
	return @messages;
}

# ---- events ----

$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	SELECT outbox.subscribe('out');
});
sub publish
{
	my ($count, %option) = @_;
	my $type = $option{type} // 'Order';
	my $data = $option{data} // q{'{"amount": 99.50}'};

	$node->safe_psql($db, "SELECT count(outbox.publish('$type', $data, 'k' || i % 5)) FROM generate_series(1, $count) i");
	return;
}
sub head { return $node->safe_psql($db, 'SELECT outbox.head()') }
my $published = 0;
sub all_is_acked
{
	my ($more) = @_;

	$published += $more;
	return $node->poll_query_until($db, "SELECT outbox.head() = $published AND lag + retrying + parked = 0 FROM outbox.status WHERE name = 'out'");
}
sub lag { return $node->safe_psql($db, q{SELECT lag FROM outbox.status WHERE name = 'out'}) }

sub configure_rabbit
{
	my ($settings, %more) = @_;

	$settings = "exchange = events\n$settings" if $settings !~ /^exchange/m;
	$settings = "url = '$url'\n$settings" if $settings !~ /^url/m;
	return configure($node, "$dir/out.conf", subscription => 'out', sink => 'rabbitmq', batch => 100, lease => '3s', %more,
		sections => "[rabbitmq]\n$settings" . ($settings =~ /^password/m ? '' : "password = \@$dir/password\n"));
}
write_file("$dir/password", "a se%cret\n");

# What was lost of the positions, came again, or came behind a later one of its key.
sub account
{
	my ($first, $last, @ids) = @_;
	my (%seen, %newest);
	my $disorder = 0;

	foreach my $id (map { s/^1-//r } @ids)
	{
		next if $seen{$id}++;
		$disorder++ if $id < ($newest{ $id % 5 } // 0);
		$newest{ $id % 5 } = $id;
	}
	return (scalar(grep { !$seen{$_} } $first .. $last), @ids - keys %seen, $disorder);
}

# ---- what arrives ----

my $config = configure_rabbit('');
is(run_relay($config, "$dir/check", '--check'), 0, 'a check') || diag(read_file("$dir/check.err"));
publish(500);
is(run_relay($config, "$dir/out", '--once'), 0, 'once') || diag(read_file("$dir/out.err"));
ok(all_is_acked(500), 'all is acked');
my @got = drain('orders');
is(join(' ', map { $_->{id} } @got), join(' ', map { "1-$_" } 1 .. 500), 'all of it arrives, in order, once');
my %message = %{ $got[16] };
is($message{body}, '{"amount": 99.50}', 'numbers as they were written');
is("$message{type} $message{correlation_id} $message{mode} $message{content_type} $message{exchange} $message{routing_key}",
	'Order 17 2 application/json events Order', 'with properties');
cmp_ok(abs($message{time} - time), '<', 300, 'a timestamp');
is($message{headers}{"cloudEvents:$_->[0]"}, $_->[1], "attribute $_->[0]")
  for ([ specversion => '1.0' ], [ id => '1-17' ], [ type => 'Order' ], [ subject => 'k2' ], [ sequence => '0000000000000000017' ]);

$node->safe_psql($db, q{SELECT outbox.publish('Order', '[1.0]', headers => '{"country": "GB"}')});
is(run_relay(configure_rabbit("routing_key = '{header.country}.{type}'\n", format => 'cloudevents-json'), "$dir/out", '--once'), 0, 'structured');
ok(all_is_acked(1), 'is acked');
@got = drain('orders');
is($got[0]{content_type}, 'application/cloudevents+json; charset=utf-8', 'the body is a CloudEvent');
like($got[0]{body}, qr/^\{"specversion":"1\.0","id":"1-501",.*"data":\[1\.0\]\}$/, 'as JSON');
is($got[0]{routing_key}, 'GB.Order', 'a template is filled in');
is(scalar(%{ $got[0]{headers} }), 0, 'without headers');

# ---- what cannot arrive ----

publish(3);
publish(2, type => 'Unknown');
publish(1, type => 'Big', data => q{to_json(repeat('x', 150000))::jsonb});
publish(3);
publish(1, type => 'Big', data => q{to_json(repeat('x', 150000))::jsonb});
publish(3);
$config = configure_rabbit('');
is(run_relay($config, "$dir/out", '--once'), 0, 'some cannot arrive');
ok(all_is_acked(13), 'others go on');
my %seen;
is(join(' ', grep { !$seen{$_}++ } map { $_->{id} } drain('orders')), join(' ', map { "1-$_" } 502 .. 504, 508 .. 510, 512 .. 514), 'and arrive, in order');
my %why = map { split /\|/, $_, 2 } split /\n/, $node->safe_psql($db, 'SELECT position, error FROM outbox.dead_letter');
is(join(' ', sort keys %why), '505 506 507 511', 'they are dead letters');
like($why{505}, qr/the broker returned it: NO_ROUTE, exchange "events", routing key "Unknown"/, 'unroutable');
like($why{$_}, qr/larger than configured max size 100000|and the broker takes 100000/, 'too large') for 507, 511;
$node->safe_psql($db, q{
	SELECT outbox.publish('Order', headers => '{"route": "Order"}'), outbox.publish('Order'),
		   outbox.publish('Order', headers => jsonb_build_object('route', repeat('x', 256))),
		   outbox.publish('Order', headers => '{"route": "GB.1"}')});
is(run_relay(configure_rabbit("routing_key = '{header.route}'\n"), "$dir/out", '--once'), 0, 'by a header');
ok(all_is_acked(4), 'is routed');
is(join(' ', map { $_->{id} } drain('orders')), '1-515 1-518', 'what has one');
%why = map { split /\|/, $_, 2 } split /\n/, $node->safe_psql($db, 'SELECT position, error FROM outbox.dead_letter WHERE position > 514');
like($why{516}, qr/it has no "route", which is to be in its exchange or routing key/, 'one that has not');
like($why{517}, qr/routing key is longer than 255 bytes/, 'one that is too long');
$node->safe_psql($db, q{SELECT outbox.discard('out')});

# With on_reject = block, what is behind does not arrive again with each attempt.
$config = configure_rabbit('', on_reject => 'block');
publish(2);
publish(1, type => 'Later');
publish(300);
my $relay = start_relay($config, "$dir/block");
ok(wait_for(sub { read_file("$dir/block.err") =~ /NO_ROUTE/ }), 'block: says so');
is(stop_relay($relay, 'TERM'), 0, 'and waits');
rabbit_define($rabbit, { bindings => [ { source => 'events', vhost => 'shop', destination => 'orders', destination_type => 'queue', routing_key => 'Later', arguments => {} } ] });
is(run_relay($config, "$dir/block", '--once'), 0, 'until it can be routed');
ok(all_is_acked(303), 'and goes on');
my ($missing, $repeated, $disorder) = account(519, 821, map { $_->{id} } drain('orders'));
is($missing, 0, 'nothing was lost');
cmp_ok($repeated, '<=', 300, 'little came again');

# ---- what a person must repair ----

my %refused = (
	'password' => [ "password = wrong-secret\n", qr/ACCESS_REFUSED/ ],
	'virtual host' => [ "url = '" . ($url =~ s/shop$/other/r) . "'\n", qr/NOT_ALLOWED|vhost/ ],
	'exchange' => [ "exchange = nowhere\n", qr/NOT_FOUND - no exchange 'nowhere'/ ]);
foreach my $what (sort keys %refused)
{
	my ($settings, $says) = @{ $refused{$what} };

	is(run_relay(configure_rabbit($settings), "$dir/$what", '--check'), 3, "a wrong $what: exit code");
	like(read_file("$dir/$what.err"), $says, 'is told');
	unlike(read_file("$dir/$what.err"), qr/secret|se%cret/, 'without the password');
}
publish(1);
is(run_relay(configure_rabbit("exchange = forbidden\n"), "$dir/forbidden", '--once'), 3, 'no right: exit code');
like(read_file("$dir/forbidden.err"), qr/ACCESS_REFUSED/, 'is told');
is(lag(), 1, 'nothing is skipped');
is($node->safe_psql($db, q{SELECT lanes_held FROM outbox.status WHERE name = 'out'}), 0, 'and what it had is given back at once');
foreach ([ "unconfirmed = 0\n", qr/"unconfirmed" must be/ ], [ "routing_key = '{colour}'\n", qr/in braces/ ],
	[ "url = 'http://x'\n", qr/"url" must be/ ], [ "colour = red\n", qr/there is no setting "colour" in the section "rabbitmq"/ ],
	[ "ca_file = $dir/ca.pem\n", qr/amqps/ ])
{
	unlink("$dir/wrong.err");
	is(run_relay(configure_rabbit($_->[0]), "$dir/wrong"), 1, 'a wrong configuration');
	like(read_file("$dir/wrong.err"), $_->[1], 'is told');
}

# ---- TLS ----

my $safe = "url = 'amqps://courier\@localhost:$secure/shop'\nca_file = $dir/ca.pem\n";
$relay = start_relay(configure_rabbit($safe), "$dir/tls");
ok(all_is_acked(1), 'TLS') || diag(read_file("$dir/tls.err"));
is(stop_relay($relay, 'TERM'), 0, 'it is stopped');
is(run_relay(configure_rabbit($safe =~ s/localhost/127.0.0.1/r), "$dir/host", '--check'), 3, 'a certificate of another host');
is(run_relay(configure_rabbit($safe =~ s/^ca_file.*\n//mr), "$dir/ca", '--check'), 3, 'one that nobody known has signed');
like(read_file("$dir/ca.err"), qr/the certificate of localhost:\d+: /, 'is told');
certificate('expired');
rabbit_eval($rabbit, 'ssl:clear_pem_cache()');
is(run_relay(configure_rabbit($safe), "$dir/expired", '--check'), 3, 'an expired one');
like(read_file("$dir/expired.err"), qr/certificate has expired/, 'is told');
drain('orders');

# ---- a queue that is full ----

$config = configure_rabbit('');
$relay = start_relay($config, "$dir/full");
publish(20, type => 'Full');
ok(wait_for(sub { read_file("$dir/full.err") =~ /a queue is full/ }), 'a full queue is told');
my @full;
ok(wait_for(sub { push @full, map { $_->{id} } drain('full'); lag() == 0 }), 'and waited for');
ok(all_is_acked(20), 'all is acked');
push @full, map { $_->{id} } drain('full');
($missing, $repeated, $disorder) = account($published - 19, $published, @full);
is($missing, 0, 'nothing was lost');

# ---- a broker without memory ----

sub memory { return rabbit_eval($rabbit, "vm_memory_monitor:set_vm_memory_high_watermark($_[0])") }
my $port = free_port();
is(stop_relay($relay, 'TERM'), 0, 'it is stopped');
$config = configure_rabbit('', listen => "127.0.0.1:$port");
$relay = start_relay($config, "$dir/alarm");
ok(wait_for(sub { (http_get($port, '/ready'))[0] == 200 }), 'a relay is ready');
memory('0.0');
publish(400, data => q{to_json(repeat('x', 50000))::jsonb});
ok(wait_for(sub { read_file("$dir/alarm.err") =~ /the broker takes nothing for now: / }), 'an alarm is told');
is((http_get($port, '/ready'))[1] =~ s/now: .*/now/sr, "sink: the broker takes nothing for now", 'it is not ready');
is((http_get($port, '/live'))[0], 200, 'and alive');
my $expires = $node->safe_psql($db, q{SELECT lease_until FROM outbox.status WHERE name = 'out'});
ok($node->poll_query_until($db, "SELECT lease_until > '$expires'::timestamptz + interval '4 s' FROM outbox.status WHERE name = 'out'"), 'what it sent stays its own');
my $stopped = time;
is(stop_relay($relay, 'TERM'), 0, 'it can be stopped');
cmp_ok(time - $stopped, '<', 10, 'soon');
$relay = start_relay($config, "$dir/alarm");
ok(wait_for(sub { read_file("$dir/alarm.err") =~ /(?:the broker takes nothing.*){2}/s }), 'another one waits, too');
memory('0.4');
ok(all_is_acked(400), 'with memory it goes on');
like(read_file("$dir/alarm.err"), qr/sink rabbitmq takes events again/, 'and says so');
is_deeply([ http_get($port, '/ready') ], [ 200, "active\n" ], 'it is ready');
is(stop_relay($relay, 'TERM'), 0, 'it is stopped');
($missing, $repeated, $disorder) = account($published - 399, $published, map { $_->{id} } drain('orders'));
is("$missing $disorder", '0 0', 'nothing was lost, nothing is out of order');

# ---- AMQP 1.0, by the broker's plugin ----

SKIP:
{
	skip 'there was no qpid-proton to build the sink with', 9 if !-e "$sinks/pg_outbox/amqp.so";
	my $amqp = sub {
		my ($password, $address, $hostname) = @_;

		return configure($node, "$dir/amqp.conf", subscription => 'out', sink => 'amqp', lease => '3s',
			sections => "[amqp]\nurl = 'amqp://courier\@127.0.0.1:$rabbit->{port}'\npassword = '$password'\n"
			  . "address = $address\nhostname = vhost:$hostname\n");
	};
	publish(300);
	is(run_relay($amqp->('a se%cret', '/exchange/events', 'shop'), "$dir/amqp", '--once'), 0, 'by AMQP 1.0')
	  || diag(read_file("$dir/amqp.err"));
	ok(all_is_acked(300), 'all is acked');
	is(join(' ', account($published - 299, $published, map { $_->{id} } drain('orders'))), '0 0 0', 'and arrives, in order for each key');
	is(run_relay($amqp->('wrong', '/exchange/events', 'shop'), "$dir/amqp", '--check'), 3, 'a wrong password');
	like(read_file("$dir/amqp.err"), qr/amqp:unauthorized-access/, 'is told');
	is(run_relay($amqp->('a se%cret', '/exchange/nowhere', 'shop'), "$dir/amqp", '--check'), 3, 'no such exchange');
	like(read_file("$dir/amqp.err"), qr/no exchange 'nowhere'/, 'is told');
	is(run_relay($amqp->('a se%cret', '/exchange/events', 'other'), "$dir/amqp", '--check'), 3, 'no such virtual host');
	unlike(read_file("$dir/amqp.err"), qr/se%cret/, 'without the password');
}

# ---- whoever is killed ----

$config = configure_rabbit('');
my $first = $published + 1;
foreach my $round (1 .. 10)
{
	$relay = start_relay($config, "$dir/kill");
	publish(300);
	$published += 300;
	sleep rand(0.3);
	is(stop_relay($relay, 'KILL'), 'signal 9', "round $round: the relay is killed");
}
$relay = start_relay($config, "$dir/kill");
ok(all_is_acked(0), 'the next one goes on');
foreach my $how (qw(killed stopped))
{
	publish(200);
	$how eq 'killed' ? rabbit_stop($rabbit, 'KILL') : rabbit_eval($rabbit, 'rabbit:stop()');
	publish(200);
	$how eq 'killed' ? rabbit_start($rabbit) : rabbit_eval($rabbit, 'rabbit:start()');
	publish(200);
	ok(all_is_acked(600), "the broker is $how, and comes back");
}
is(stop_relay($relay, 'TERM'), 0, 'it is stopped');
$relay = start_relay(configure_rabbit("heartbeat = 1s\ntimeout = 2s\n"), "$dir/frozen");
ok(wait_for(sub { read_file("$dir/frozen.err") =~ /sink rabbitmq is ready/ }), 'with a short heartbeat');
kill('STOP', read_file("$rabbit->{dir}/pid"));
publish(200);
ok(wait_for(sub { read_file("$dir/frozen.err") =~ /the connection is lost: .*heartbeat/ }), 'a broker that is frozen is told');
kill('CONT', read_file("$rabbit->{dir}/pid"));
ok(all_is_acked(200), 'when it thaws, the relay goes on');
is(stop_relay($relay, 'TERM'), 0, 'it is stopped');
like(read_file("$dir/kill.err"), qr/could not connect to 127\.0\.0\.1:\d+|the connection is lost|CONNECTION_FORCED/, 'it said what it missed');
($missing, $repeated, $disorder) = account($first, $published, map { $_->{id} } drain('orders'));
is("$missing $disorder", '0 0', 'nothing was lost, nothing is out of order');
note("$repeated events came again");
cmp_ok($repeated, '<=', 10 * 1000, 'and no more came again than was under way');

# ---- stopped at any moment ----

foreach my $round (1 .. 4)
{
	my $said = -s "$dir/stop.err" // 0;
	$relay = start_relay($config, "$dir/stop");
	publish(300);
	# before, it does not catch signals yet
	wait_for(sub { (-s "$dir/stop.err" // 0) > $said });
	$published += 300;
	sleep rand(0.3);
	is(stop_relay($relay, 'TERM'), 0, "round $round: the relay is stopped");
}
is(run_relay($config, "$dir/stop", '--once'), 0, 'once more');
ok(all_is_acked(0), 'all is acked');
is(scalar(drain('orders')), 1200, 'who is stopped repeats nothing and loses nothing');

rabbit_stop($rabbit, 'TERM');
$node->stop;
done_testing();
