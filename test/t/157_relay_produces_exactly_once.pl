# A relay to a real Kafka, exactly once: killed at any moment, frozen and fenced,
# two at a time, with a broker that goes and comes back, and with events that it
# cannot take.  Readers of what is committed see each event once, in order for
# each key.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxKafka;
use OutboxRelay;
use OutboxServer;
use Test::More;
use Time::HiRes qw(sleep);

my $db = 'postgres';
plan skip_all => 'there was no librdkafka to build the sink with' if !kafka_is_built();
my (undef, $why_not) = kafka_home();
plan skip_all => $why_not if $why_not;

my $node = new_server('exactly', standby => 1);
my $dir = $node->basedir;
my $port = $node->port + 4;
my $page = $node->port + 3;
my $servers = "127.0.0.1:$port";
my $kafka = start_kafka($dir, $port);
build_peer($dir);
is(peer('topic', $servers, $_, 3), 0, "topic $_") for qw(killed frozen both);
is(peer('topic', $servers, 'small', 1, 'max.message.bytes=20000'), 0, 'one that takes no large messages');
is(peer('topic', $servers, 'compact', 1, 'cleanup.policy=compact'), 0, 'a compacted one');
is(peer('topic', $servers, 'deleting', 1), 0, 'one that forgets');
$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	SELECT outbox.subscribe(name, start => 'beginning') FROM unnest('{killed,frozen,both,small,compact,least,wrong1,wrong2,wrong3}'::text[]) name;
});

my $head = 0;
sub publish
{
	my ($count) = @_;

	$node->safe_psql($db, "SELECT count(outbox.publish('Order', '{\"amount\": 99.50}', 'k' || i % 7)) FROM generate_series(1, $count) i");
	$head += $count;
	return;
}

sub all_is_acked { my ($name) = @_; return $node->poll_query_until($db, "SELECT outbox.head() = $head AND lag = 0 FROM outbox.status WHERE name = '$name'") }

sub configure_kafka
{
	my ($name, %more) = @_;
	my $section = delete $more{kafka} // '';

	return configure($node, "$dir/$name.conf", subscription => $name, sink => 'kafka', topic => $name, batch => 1000, lease => '3s', %more,
		sections => "[kafka]\nbootstrap.servers = $servers\n$section");
}

# ---- what progress needs ----

publish(500);
ok($node->poll_query_until($db, "SELECT outbox.head() = $head"), 'there are events');
my $config = configure_kafka('wrong1', progress_topic => 'deleting');
is(run_relay($config, "$dir/wrong", '--once'), 3, 'a topic that forgets');
like(read_file("$dir/wrong.err"), qr/topic "deleting" for the progress: its cleanup.policy must be "compact"/, 'cannot have the progress');
$config = configure_kafka('wrong2', progress_topic => 'frozen');
unlink("$dir/wrong.err");
is(run_relay($config, "$dir/wrong", '--once'), 3, 'nor one of several partitions');
like(read_file("$dir/wrong.err"), qr/topic "frozen" for the progress: it must have one partition, and has 3/, 'is told');
$config = configure_kafka('wrong3', topic => 'nowhere');
unlink("$dir/wrong.err");
is(run_relay($config, "$dir/wrong", '--once'), 3, 'a topic that is not there: refused');
like(read_file("$dir/wrong.err"), qr/nowhere: .*[Uu]nknown topic/, 'is told');
is($node->safe_psql($db, q{SELECT delivered FROM outbox.status WHERE name = 'wrong3'}), 0, 'and nothing is skipped');

# ---- killed at any moment ----

$config = configure_kafka('killed');
my $pid = start_relay($config, "$dir/killed");
ok(all_is_acked('killed'), 'it carries all');
foreach my $round (1 .. 6)
{
	publish(800);
	sleep 0.02 + rand(0.35);
	stop_relay($pid, 'KILL');
	$pid = start_relay($config, "$dir/killed");
}
ok(all_is_acked('killed'), 'killed: the next one goes on');
is(stop_relay($pid, 'TERM'), 0, 'is stopped');
is(account([ 1 .. $head ], topic_lines($servers, 'killed')), '0 missing, 0 again, 0 out of order', 'each event once, in order');
note((() = read_file("$dir/killed.err") =~ /sink is claimed/g) . ' claims');
my @known = read_file("$dir/killed.err") =~ /of which ([1-9]\d*) are not known/g;
note("events not known to be acked: @known");

# ---- killed between the commit and the ack ----

# the database is gone when Kafka has committed
$pid = start_relay($config, "$dir/killed");
ok(wait_for(sub { read_file("$dir/killed.err") =~ /sink kafka is ready[^\0]*\z/ }), 'another one');
publish(100);
ok(all_is_acked('killed'), 'is active');
publish(5000);
ok(wait_for(sub { topic_lines($servers, 'killed') > $head - 4000 }), 'sends');
$node->stop('immediate');
sleep 0.5;
stop_relay($pid, 'KILL');
$node->start;
$pid = start_relay($config, "$dir/killed");
ok(all_is_acked('killed'), 'the database crashes, the relay is killed: it goes on');
is(account([ 1 .. $head ], topic_lines($servers, 'killed')), '0 missing, 0 again, 0 out of order', 'each event once, in order');

# ---- the broker goes and comes back ----

publish(2000);
kill('KILL', $kafka);
waitpid($kafka, 0);
publish(2000);
ok(wait_for(sub { read_file("$dir/killed.err") =~ /sink kafka: .*\n[^\0]*\z/ && read_file("$dir/killed.err") =~ /(refused|Disconnected|down|failed)/ }), 'the broker is killed');
my $memory = (split ' ', (grep { /VmRSS/ } split /\n/, read_file("/proc/$pid/status"))[0])[1];
cmp_ok($memory, '<', 200 * 1024, 'memory is bounded');
$kafka = start_kafka($dir, $port);
ok(all_is_acked('killed'), 'it goes on when the broker is back');
is(stop_relay($pid, 'TERM'), 0, 'is stopped');
is(account([ 1 .. $head ], topic_lines($servers, 'killed')), '0 missing, 0 again, 0 out of order', 'each event once, in order');

# ---- frozen, and fenced ----

$config = configure_kafka('frozen', listen => "127.0.0.1:$page");
my $zombie = start_relay($config, "$dir/zombie");
ok(all_is_acked('frozen'), 'one relay');
publish(8000);
ok(wait_for(sub { $node->safe_psql($db, q{SELECT delivered > 8000 FROM outbox.status WHERE name = 'frozen'}) eq 't' }), 'is at work');
kill('STOP', $zombie);
my $heir = start_relay(configure_kafka('frozen'), "$dir/heir");
ok(all_is_acked('frozen'), 'frozen: another one takes over');
publish(1000);
kill('CONT', $zombie);
ok(all_is_acked('frozen'), 'thawed: both go on');
publish(1000);
ok(all_is_acked('frozen'), 'and on');
sleep 1;
my $claims = () = read_file("$dir/zombie.err") . read_file("$dir/heir.err") =~ /sink is claimed/g;
cmp_ok($claims, '<=', 4, 'without a war of fencing');
is(stop_relay($_, 'TERM'), 0, 'stopped') for $zombie, $heir;
is(account([ 1 .. $head ], topic_lines($servers, 'frozen')), '0 missing, 0 again, 0 out of order', 'each event once, in order');

# ---- two relays, of which one is killed ----

$config = configure_kafka('both');
my %relay = map { $_ => start_relay($config, "$dir/$_") } qw(one two);
ok(all_is_acked('both'), 'two relays');
foreach my $victim (qw(one two one))
{
	publish(1000);
	sleep 0.1;
	stop_relay($relay{$victim}, 'KILL');
	ok(all_is_acked('both'), 'the other goes on');
	$relay{$victim} = start_relay($config, "$dir/$victim");
}
# somebody else with our name
publish(10);
ok(all_is_acked('both'), 'one is active');
my ($log) = map { $_->[1] =~ m{^(.*)/both$} } topic_lines($servers, 'pg_outbox.progress');
is(peer('fence', $servers, "pg_outbox.$log.both"), 0, 'another producer of that transactional.id');
publish(1000);
ok(all_is_acked('both'), 'is fenced in turn');
like(read_file("$dir/one.err") . read_file("$dir/two.err"), qr/[Ff]enced|newer instance|epoch/, 'which is told');
stop_relay($_, 'TERM') for values %relay;
is(account([ 1 .. $head ], topic_lines($servers, 'both')), '0 missing, 0 again, 0 out of order', 'each event once, in order');

# ---- what the broker cannot take ----

$node->safe_psql($db, qq{
	SELECT outbox.seek('small', $head + 1), outbox.seek('compact', $head + 1);
	SELECT count(outbox.publish(CASE i % 130 WHEN 0 THEN 'Large' ELSE 'Order' END,
		jsonb_build_object('x', CASE i % 130 WHEN 0 THEN (SELECT string_agg(md5(j::text), '') FROM generate_series(1, 1000) j) ELSE '' END), 'k' || i % 7))
	FROM generate_series(1, 300) i});
my $first = $head + 1;
$head += 300;
ok($node->poll_query_until($db, "SELECT outbox.head() = $head"), 'events, of which some are large');
is(run_relay(configure_kafka('small'), "$dir/small", '--once'), 0, 'too large for the topic');
is($node->safe_psql($db, qq{SELECT string_agg((position - $first + 1)::text, ' ' ORDER BY position), bool_and(error ~ 'too large') FROM outbox.dead_letter WHERE subscription = 'small'}), '130 260|t', 'are dead letters');
is(account([ grep { ($_ - $first + 1) % 130 } $first .. $head ], topic_lines($servers, 'small')), '0 missing, 0 again, 0 out of order', 'all others arrive once, in order');
$node->safe_psql($db, q{SELECT outbox.publish('None'), outbox.publish('Order', key => 'k')});
$head += 2;
ok($node->poll_query_until($db, "SELECT outbox.head() = $head"), 'one without a key');
is(run_relay(configure_kafka('compact', delivery => 'at-least-once'), "$dir/compact", '--once'), 0, 'to a compacted topic');
is($node->safe_psql($db, qq{SELECT count(*), min(position) FROM outbox.dead_letter WHERE subscription = 'compact'}), '1|' . ($head - 1), 'it is a dead letter');

# ---- at least once ----

$node->safe_psql($db, qq{SELECT outbox.seek('least', $head + 1)});
is(peer('topic', $servers, 'least', 3), 0, 'a topic');
$first = $head + 1;
$config = configure_kafka('least', delivery => 'at-least-once');
foreach my $round (1 .. 3)
{
	$pid = start_relay($config, "$dir/least");
	publish(2000);
	sleep 0.3 + rand(0.3);
	stop_relay($pid, 'KILL');
}
is(run_relay($config, "$dir/least", '--once'), 0, 'at least once, killed');
sleep 3.5;
is(run_relay($config, "$dir/least", '--once'), 0, 'and again');
like(account([ $first .. $head ], topic_lines($servers, 'least')), qr/^0 missing, \d+ again, 0 out of order$/, 'loses nothing');

# ---- where the log has gone on elsewhere ----

$node->backup('b');
my $heiress = PostgreSQL::Test::Cluster->new('heiress');
$heiress->init_from_backup($node, 'b', has_streaming => 1);
$heiress->start;
$node->wait_for_catchup($heiress);
publish(50);
ok($node->poll_query_until($db, "SELECT outbox.head() = $head"), 'events that the standby may not have');
$heiress->promote;
$heiress->safe_psql($db, q{SELECT outbox.publish('Order', key => 'k')});
my $promoted = configure($heiress, "$dir/promoted.conf", subscription => 'both', sink => 'kafka', topic => 'both',
	sections => "[kafka]\nbootstrap.servers = $servers\n");
is(run_relay($promoted, "$dir/promoted", '--once'), 0, 'a promoted standby') || diag(read_file("$dir/promoted.err"));
my ($record) = map { $_->[3] } reverse grep { $_->[1] eq "$log/both" } topic_lines($servers, 'pg_outbox.progress');
like($record, qr/^\{"generation":2,/, 'goes on as the next generation');
unlink("$dir/both.err");
is(run_relay(configure_kafka('both'), "$dir/both", '--once'), 4, 'and the old primary');
like(read_file("$dir/both.err"), qr/the sink has events of generation 2 of the log, and this server is at 1: it is not the newest primary/, 'sends nothing more');
$heiress->stop;

$node->stop;
kill('KILL', $kafka);
waitpid($kafka, 0);
done_testing();
