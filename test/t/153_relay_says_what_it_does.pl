# A relay obeys the verdicts of its sink, tells what it does, refuses a wrong
# configuration, writes nothing while idle, and needs no session of its own.
use strict;
use warnings;

use Cwd qw(abs_path);
use FindBin;
use IO::Socket::UNIX;
use lib $FindBin::RealBin;
use OutboxRelay;
use OutboxServer;
use Test::More;
use Time::HiRes qw(sleep time);

my $db = 'postgres';
my $node = new_server('sinks');
my $dir = $node->basedir;
my $root = abs_path("$FindBin::RealBin/../..");
my $port = $node->port + 2;
$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	SELECT outbox.subscribe('out', start => 'beginning');
	SELECT outbox.subscribe('channel', channel => 'bell');
});

sub lag { return $node->safe_psql($db, q{SELECT lag FROM outbox.status WHERE name = 'out'}) }

# ---- wrong configurations ----

my $good = "dsn = 'host=${\ $node->host} port=${\ $node->port} dbname=$db'\nsubscription = out\nsink = stdout\n";
foreach (
	[ "colour = blue\n", qr/wrong\.conf, line 4: there is no setting "colour"/, 'an unknown name' ],
	[ "\n[stdout]\nx = 1\n", qr/line 6: there is no setting "x" in the section "stdout"/, 'one of a section' ],
	[ "batch = 0\n", qr/line 4: "batch" must be a number from 1 to 10000, not "0"/, 'a number' ],
	[ "lease = 30\n", qr/line 4: "lease" must be a time .* not "30"/, 'a time without a unit' ],
	[ "format = xml\n", qr/line 4: "format" cannot be "xml"/, 'a choice' ],
	[ "sink = stdout\n", qr/line 4: "sink" is set a second time, after line 3/, 'a name twice' ],
	[ "listen = 'x\n", qr/line 4: a quote is not closed/, 'a quote' ],
	[ "what is this\n", qr/line 4: there is no setting "what"/, 'a line' ],
	[ "= 3\n", qr/line 4: this is no "name = value"/, 'no name' ],
	[ "[half\n", qr/line 4: a section is a name in brackets/, 'a section' ],
	[ "channel = \@$dir/missing\n", qr/line 4: could not read ".*missing"/, 'a secret that is not there' ],
	[ "listen = 'nowhere'\n", qr/"nowhere" is no HOST:PORT/, 'where to listen' ])
{
	my ($line, $says, $name) = @$_;

	write_file("$dir/wrong.conf", $good . $line);
	unlink("$dir/wrong.err");
	is(run_relay("$dir/wrong.conf", "$dir/wrong"), 1, "$name: exit code");
	like(read_file("$dir/wrong.err"), $says, "$name: is told");
}
foreach (
	[ s => 'stdout', o => 'kafka_of_another_planet', qr/line 3: there is no sink "kafka_of_another_planet" here/ ],
	[ s => 'stdout', o => '../../evil', qr/line 3: there is no sink "..\/..\/evil"/ ],
	[ s => '= out', o => '= nobody', qr/subscription "nobody" does not exist/ ],
	[ s => '= out', o => '= channel', qr/has a handler or a channel/ ])
{
	my (undef, $from, undef, $to, $says) = @$_;

	write_file("$dir/wrong.conf", $good =~ s/\Q$from\E/$to/r);
	unlink("$dir/wrong.err");
	is(run_relay("$dir/wrong.conf", "$dir/wrong"), 1, "$to: exit code");
	like(read_file("$dir/wrong.err"), $says, "$to: is told");
}
is(run_relay("$dir/none.conf", "$dir/wrong"), 1, 'no file');
write_file("$dir/wrong.conf", $good =~ s/port=\d+/port=1/r);
is(run_relay("$dir/wrong.conf", "$dir/wrong", '--check'), 2, 'check: no database');
$node->safe_psql($db, 'CREATE ROLE nobody LOGIN');
write_file("$dir/wrong.conf", $good =~ s/dbname/user=nobody dbname/r);
unlink("$dir/wrong.err");
is(run_relay("$dir/wrong.conf", "$dir/wrong", '--check'), 1, 'check: no right');
like(read_file("$dir/wrong.err"), qr/permission denied/, 'is told');

# the rights that docs/relay.md gives
my $docs = read_file("$root/docs/relay.md");
my @grants = $docs =~ /^(GRANT .* TO courier;)$/mg;
is(scalar(@grants), 3, 'the documentation has rights');
$node->safe_psql($db, q{CREATE ROLE shop; CREATE ROLE courier LOGIN; GRANT CREATE ON DATABASE postgres TO shop;
	GRANT EXECUTE ON FUNCTION outbox.subscribe TO shop; SET ROLE shop; SELECT outbox.subscribe('courier'); RESET ROLE;
	SELECT outbox.publish('First');} . "@grants");
ok($node->poll_query_until($db, q{SELECT outbox.head() = 1}), 'there is an event');
write_file("$dir/right.conf", $good =~ s/dbname/user=courier dbname/r =~ s/= out/= courier/r);
is(run_relay("$dir/right.conf", "$dir/right", '--once'), 0, 'they are enough') || diag(read_file("$dir/right.err"));
is(join(' ', arrived("$dir/right")), 1, 'it relays');
$node->safe_psql($db, q{SELECT outbox.unsubscribe('courier'), outbox.seek('out', to_position => 2)});

# ---- a sink that does what it is told ----

my $sinks = qx{pg_config --pkglibdir};
chomp $sinks;
$sinks .= '/pg_outbox';
my $client = qx{pg_config --includedir};
chomp $client;
is(system("gcc -Wall -fPIC -shared -D_GNU_SOURCE -I$root/src/bin -I$client -o $sinks/scripted.so $root/test/sink/scripted.c"),
	0, 'a sink is built beside the program');

my $out = "$dir/confirmed";
my $config = configure($node, "$dir/out.conf", subscription => 'out', sink => 'scripted', batch => 50,
	listen => "127.0.0.1:$port", sections => "[scripted]\nout = $out\nmood = '$dir/mood'\n");
sub mood { write_file("$dir/mood.new", $_[0]); rename("$dir/mood.new", "$dir/mood"); return }
sub positions { return read_file($out) =~ /^(\d+) /mg }
sub publish
{
	my ($count, $type) = @_;

	$node->safe_psql($db, "SELECT count(outbox.publish('$type', key => 'k' || i % 5)) FROM generate_series(1, $count) i");
	return;
}

mood('ok');
my $notified = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => "$dir/notify") or die $!;
my $relay = do { local $ENV{NOTIFY_SOCKET} = "$dir/notify"; start_relay($config, "$dir/out") };
$notified->recv(my $state, 100);
is($state, 'READY=1', 'systemd is told');
publish(120, 'Good');
ok($node->poll_query_until($db, q{SELECT outbox.head() = 121 AND lag = 0 FROM outbox.status WHERE name = 'out'}), 'it relays');
is_deeply([ http_get($port, '/ready') ], [ 200, "active\n" ], 'ready');
is((http_get($port, '/metrics'))[1] =~ /\A# TYPE .*\n\z/s, 1, "metrics $_") for 1 .. 3;
is_deeply([ http_get($port, '/live') ], [ 200, "live\n" ], 'live');
is((http_get($port, '/etc/passwd'))[0], 404, 'nothing else');
my $labels = qr/\{relay="out",subscription="out",sink="scripted"\}/;
like((http_get($port, '/metrics'))[1], qr/^pg_outbox_relay_events_confirmed_total$labels 120$/m, 'metrics');

# Rejected events are dead letters, and the others go on.
$node->safe_psql($db, q{
	SELECT outbox.publish('Good', key => 'a'), outbox.publish('Never', key => 'a'), outbox.publish('Good', key => 'a'),
		   outbox.publish('Never', key => 'b'), outbox.publish('Never'), outbox.publish('Good', key => 'c')});
ok($node->poll_query_until($db, q{SELECT outbox.head() = 127 AND lag = 0 FROM outbox.status WHERE name = 'out'}), 'it goes on behind rejected events');
is($node->safe_psql($db, q{SELECT position, error FROM outbox.dead_letter ORDER BY 1}), "123|never\n125|never\n126|never", 'which are dead letters');
my %seen;
$seen{$_}++ for positions();
is(join(' ', sort { $a <=> $b } keys %seen), join(' ', 2 .. 122, 124, 127), 'all others arrive');
like((http_get($port, '/metrics'))[1], qr/^pg_outbox_relay_events_rejected_total$labels 3$/m, 'and are counted');

# Several of one key: the first one takes the others back, which come again.
$node->safe_psql($db, q{
	SELECT outbox.publish('Never', key => 'a'), outbox.publish('Good', key => 'b'), outbox.publish('Never', key => 'a'),
		   outbox.publish('Good', key => 'a'), outbox.publish('Never', key => 'a')});
ok($node->poll_query_until($db, q{SELECT outbox.head() = 132 AND lag + retrying + parked = 0 FROM outbox.status WHERE name = 'out'}), 'several rejected events of one key');
is($node->safe_psql($db, q{SELECT string_agg(position::text, ' ' ORDER BY position) FROM outbox.dead_letter WHERE position > 127}), '128 130 132', 'are dead letters');
unlike(read_file("$dir/out.err"), qr/could not be told/, 'without a word more');
%seen = ();
$seen{$_}++ for positions();
is($seen{129}, 1, 'the others do not come again');

# A sink that is down.
mood('down');
publish(200, 'Good');
ok(wait_for(sub { (http_get($port, '/ready'))[0] == 503 }), 'down: not ready');
like((http_get($port, '/ready'))[1], qr/^sink: it is said so$/m, 'and says why');
sleep 6;
cmp_ok(lag(), '>', 0, 'nothing is acked, also when the lease has run out');
mood('ok');
ok($node->poll_query_until($db, q{SELECT outbox.head() = 332 AND lag = 0 FROM outbox.status WHERE name = 'out'}), 'it goes on when the sink is back');
%seen = ();
$seen{$_}++ for positions();
is(scalar(grep { !$seen{$_} } 133 .. 332), 0, 'nothing was lost');

# A sink that is slow: the lease goes on, and nothing comes again.
mood('hold');
publish(10, 'Good');
sleep 8;
cmp_ok(lag(), '>', 0, 'held: nothing is acked');
mood('ok');
ok($node->poll_query_until($db, q{SELECT outbox.head() = 342 AND lag = 0 FROM outbox.status WHERE name = 'out'}), 'it is, once it is confirmed');
is(scalar(grep { $_ > 332 } positions()), 10, 'and nothing comes again');

# Who is stopped gives back what was not sent, and others have it at once.
mood('hold');
publish(400, 'Good');
ok(wait_for(sub { (http_get($port, '/metrics'))[1] =~ /^pg_outbox_relay_events_sent_total\S+ (\d+)$/m && $1 >= 100 + 342 }), 'held again');
kill('TERM', $relay);
sleep 0.5;
mood('ok');
is(stop_relay($relay), 0, 'stopped within much');
cmp_ok(lag(), '>', 0, 'not all was sent');
is(run_relay($config, "$dir/out", '--once'), 0, 'another one');
ok($node->poll_query_until($db, q{SELECT outbox.head() = 742 AND lag = 0 FROM outbox.status WHERE name = 'out'}), 'has the rest at once');
is(join(' ', grep { $_ > 342 } positions()), join(' ', 343 .. 742), 'in order, and nothing comes again');
$relay = start_relay($config, "$dir/out");
ok(wait_for(sub { (http_get($port, '/ready'))[0] == 200 }), 'ready');

# A new configuration, and a wrong one.
write_file("$dir/out.conf", read_file("$dir/out.conf") . "wrong = 1\n");
kill('HUP', $relay);
ok(wait_for(sub { read_file("$dir/out.err") =~ /the configuration stays as it was: .*"wrong" in the section "scripted"/ }), 'a wrong configuration changes nothing');
configure($node, "$dir/out.conf", subscription => 'out', sink => 'scripted', on_reject => 'block',
	listen => "127.0.0.1:$port", sections => "[scripted]\nout = $out\nmood = '$dir/mood'\n");
kill('HUP', $relay);
ok(wait_for(sub { read_file("$dir/out.err") =~ /reading the configuration again.*sink scripted is ready/s }), 'a new one is read');
ok(wait_for(sub { (http_get($port, '/ready'))[0] == 200 }), 'and ready');
$node->safe_psql($db, q{SELECT outbox.publish('Never'), outbox.publish('Good')});
ok(wait_for(sub { (http_get($port, '/ready'))[1] =~ /^sink: never$/m }), 'on_reject = block: waits');
cmp_ok(lag(), '>', 0, 'and loses nothing');
is(stop_relay($relay, 'TERM'), 0, 'is stopped');

# A refusal ends what is to be done once.
mood('refuse');
is(run_relay($config, "$dir/once", '--once'), 3, 'once: refused');
mood('ok');

# ---- the subscription goes ----

configure($node, "$dir/out.conf", subscription => 'out');
$relay = start_relay($config, "$dir/gone");
ok($node->poll_query_until($db, q{SELECT lag = 0 FROM outbox.status WHERE name = 'out'}), 'another sink');
$node->safe_psql($db, q{SELECT outbox.pause('out'); SELECT outbox.publish('Good')});
ok(wait_for(sub { read_file("$dir/gone.err") =~ /the subscription is paused/ }), 'a pause is told');
$node->safe_psql($db, q{SELECT outbox.resume('out')});
ok($node->poll_query_until($db, q{SELECT lag = 0 FROM outbox.status WHERE name = 'out'}), 'and ends');

# ---- idle ----

# what went before may still be written out by others
my $wal = -1;
my $cpu;
for (1 .. 10)
{
	my $lsn = $node->safe_psql($db, 'SELECT pg_current_wal_insert_lsn()');

	$cpu = -(split ' ', read_file("/proc/$relay/stat"))[13];
	sleep 4;
	$cpu += (split ' ', read_file("/proc/$relay/stat"))[13];
	$wal = $node->safe_psql($db, "SELECT pg_current_wal_insert_lsn() - '$lsn'");
	last if $wal == 0;
}
is($wal, 0, 'an idle relay writes no WAL');
cmp_ok($cpu, '<', 20, 'and needs next to no CPU');

$node->safe_psql($db, q{SELECT outbox.unsubscribe('out')});
is(stop_relay($relay), 2, 'without its subscription, a relay ends');
like(read_file("$dir/gone.err"), qr/subscription "out" does not exist/, 'and says why');

# ---- through PgBouncer ----

SKIP:
{
	my $pgbouncer = (grep { -x $_ } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin')[0];
	skip 'there is no pgbouncer', 2 if !$pgbouncer;
	my $user = $node->safe_psql($db, 'SELECT current_user');
	my $socket = $node->host;
	my $pool = $node->port + 1;

	$node->safe_psql($db, q{SELECT outbox.subscribe('pooled')});
	write_file("$dir/pgbouncer.ini", <<"END");
[databases]
postgres = host=$socket port=${\ $node->port} user=$user
[pgbouncer]
listen_addr =
listen_port = $pool
unix_socket_dir = $socket
auth_type = any
pool_mode = transaction
default_pool_size = 2
logfile = $dir/pgbouncer.log
END
	my $bouncer = fork // die $!;
	if ($bouncer == 0)
	{
		open(STDOUT, '>', "$dir/pgbouncer.out");
		open(STDERR, '>&', \*STDOUT);
		exec($pgbouncer, "$dir/pgbouncer.ini") or POSIX::_exit(1);
	}
	my $config = configure($node, "$dir/pooled.conf", subscription => 'pooled', batch => 7,
		dsn => "host=$socket port=$pool dbname=$db user=$user");
	my @pids = map { start_relay($config, "$dir/pooled$_") } 1, 2;
	publish(300, 'Good');
	ok($node->poll_query_until($db, q{SELECT lag = 0 AND delivered = 300 FROM outbox.status WHERE name = 'pooled'}), 'pooled: all is acked');
	stop_relay($_, 'TERM') for @pids;
	my @all = (arrived("$dir/pooled1"), arrived("$dir/pooled2"));
	is(scalar(@all), 300, 'each event once');
	kill('TERM', $bouncer);
	waitpid($bouncer, 0);
}

$node->stop;
done_testing();
