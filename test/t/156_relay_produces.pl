# A relay to Kafka, here librdkafka's mock cluster: every event arrives, in order
# for each key, as the configuration says; what can never arrive is a dead
# letter; and a cluster that is down is waited for.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxKafka;
use OutboxRelay;
use OutboxServer;
use Test::More;
use Time::HiRes qw(sleep time);

my $db = 'postgres';
plan skip_all => 'there was no librdkafka to build the sink with' if !kafka_is_built();

my $node = new_server('produces');
my $dir = $node->basedir;
my $port = $node->port + 3;
build_peer($dir);
my $servers = start_mock("$dir/commands");
command_mock("$dir/commands", 'topic pg_outbox.progress 1', map { "topic $_ 3" }
	qw(shop.Order once structured rows envelopes again killed rejected));
$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	SELECT outbox.subscribe(name, start => 'beginning')
	FROM unnest('{once,again,structured,rows,envelopes,killed,rejected,mood}'::text[]) name;
	SELECT outbox.subscribe('lanes', concurrency => 2, start => 'beginning');
	SELECT count(outbox.publish('Order', '{"amount": 99.50}', 'k' || i % 10)) FROM generate_series(1, 1000) i;
});
ok($node->poll_query_until($db, 'SELECT outbox.head() = 1000'), 'there are events');

sub configure_kafka
{
	my ($name, $kafka, %more) = @_;

	return configure($node, "$dir/$name.conf", subscription => $name, sink => 'kafka', topic => $name, batch => 300, %more,
		sections => "[kafka]\nbootstrap.servers = $servers\n$kafka");
}

sub status { my ($name, $what) = @_; return $node->safe_psql($db, "SELECT $what FROM outbox.status WHERE name = '$name'") }

# ---- wrong configurations ----

foreach (
	[ "colour = blue\n", {}, qr/line 9: "colour": No such configuration property/, 'an unknown option' ],
	[ "sasl.password = \@$dir/missing\n", {}, qr/line 9: could not read/, 'a secret that is not there' ],
	[ "linger.ms = quick\n", {}, qr/line 9: "linger.ms": Invalid value/, 'a wrong value' ],
	[ "transactional.id = mine\n", {}, qr/line 9: "transactional.id" is the relay's to set/, 'an option of ours' ],
	[ '', { topic => 'shop.{colour}' }, qr/line \d+: "topic" cannot be "shop.\{colour\}": what can stand in braces/, 'a wrong template' ],
	[ '', { key => '{key' }, qr/"key" cannot be "\{key"/, 'an open brace' ],
	[ '', { delivery => 'at-most-once' }, qr/"delivery" cannot be "at-most-once": it is one of exactly-once\|at-least-once/, 'a wrong promise' ],
	[ '', { tombstones => 'on' }, qr/"tombstones" cannot be/, 'wrong tombstones' ],
	[ '', { window => 500000 }, qr/"window" must be at most 100000 here/, 'a window that is too large' ])
{
	my ($kafka, $settings, $says, $name) = @$_;

	unlink("$dir/wrong.err");
	is(run_relay(configure_kafka('once', $kafka, %$settings), "$dir/wrong"), 1, "$name: exit code");
	like(read_file("$dir/wrong.err"), $says, "$name: is told");
}
is(run_relay(configure_kafka('lanes', ''), "$dir/lanes", '--once'), 1, 'several lanes: exit code');
like(read_file("$dir/lanes.err"), qr/its concurrency must be 1/, 'is told');

# ---- exactly once ----

my $config = configure_kafka('once', '');
is(run_relay($config, "$dir/check", '--check'), 0, 'a check') || diag(read_file("$dir/check.err"));
is(scalar(topic_lines($servers, 'pg_outbox.progress')), 0, 'claims nothing');
is(run_relay($config, "$dir/once", '--once'), 0, 'exactly once') || diag(read_file("$dir/once.err"));
my @lines = topic_lines($servers, 'once');
is(account([ 1 .. 1000 ], @lines), '0 missing, 0 again, 0 out of order', 'carries each event once, in order');
is(status('once', 'lag, delivered'), '0|1000', 'and acks all');
my ($line) = grep { $_->[2] =~ /ce_id=1-1;/ } @lines;
is($line->[1], 'k1', 'under its key');
is($line->[3], '{"amount": 99.50}', 'with the data alone');
like($line->[2], qr/^ce_specversion=1\.0;ce_id=1-1;ce_source=[^;]+;ce_type=Order;ce_time=[^;]+;ce_subject=k1;ce_partitionkey=k1;ce_sequence=0000000000000000001;.*content-type=application\/json$/, 'attributes are headers');
my %partition;
$partition{ $_->[1] }{ $_->[0] } = 1 for @lines;
is((grep { keys %$_ > 1 } values %partition), 0, 'each key in one partition');
my @records = map { $_->[3] } grep { $_->[1] =~ m{^[0-9]+-[0-9]+/once$} } topic_lines($servers, 'pg_outbox.progress');
like($records[-1], qr/^\{"generation":1,"subscription":\d+,"seeks":0,"position":1000,"delivered":1000,"sent":"\S+"\}$/, 'and the progress is beside them');
is(run_relay($config, "$dir/once", '--once'), 0, 'again');
is(scalar(topic_lines($servers, 'once')), 1000, 'carries nothing');

# what the database says is compared with what is in Kafka
$node->safe_psql($db, q{SELECT outbox.publish('Order', key => 'k1'); SELECT outbox.seek('once', 1)});
is(run_relay($config, "$dir/once", '--once'), 0, 'after a seek') || diag(read_file("$dir/once.err"));
is(scalar(topic_lines($servers, 'once')), 2001, 'all come again');
$node->safe_psql($db, q{SELECT outbox.publish('Order', key => 'k1'); SELECT outbox.publish('Order', key => 'k1')});
ok($node->poll_query_until($db, 'SELECT outbox.head() = 1003'), 'two more');
$node->safe_psql($db, q{SELECT outbox.ack('once', r.receipt) FROM outbox.receive('once', 1, '1 min') r});
unlink("$dir/once.err");
is(run_relay($config, "$dir/once", '--once'), 4, 'events that others have acked: a contradiction');
like(read_file("$dir/once.err"), qr/the database counts 1002 events as delivered, and the sink knows of 1001: .*"pg_outbox seek" says where to go on, at position 1003 or before/, 'is told');
$node->safe_psql($db, q{SELECT outbox.seek('once', 1003)});
is(run_relay($config, "$dir/once", '--once'), 0, 'a seek says that this is meant');
is(scalar(topic_lines($servers, 'once')), 2002, 'and it goes on');

# ---- forms ----

$node->safe_psql($db, q{
	CREATE TABLE item (id integer PRIMARY KEY, price numeric);
	SELECT outbox.capture('item');
	INSERT INTO item VALUES (1, 99.50);
	UPDATE item SET price = 100.10;
	DELETE FROM item;
	SELECT outbox.publish('Odd', '[1.0]', headers => '{"tenant": "north", "n": 7}');
});
ok($node->poll_query_until($db, 'SELECT outbox.head() = 1007'), 'rows');
$node->safe_psql($db, qq{SELECT outbox.seek('$_', 1004)}) for qw(structured rows envelopes);
is(run_relay(configure_kafka('structured', '', format => 'cloudevents-json', delivery => 'at-least-once'), "$dir/forms", '--once'), 0, 'structured');
@lines = topic_lines($servers, 'structured');
is(scalar(@lines), 4, 'all');
is($lines[-1][2], 'content-type=application/cloudevents+json; charset=UTF-8', 'of the right type') for 1;
like((grep { $_->[3] =~ /"type":"Odd"/ } @lines)[0][3], qr/^\{"specversion":"1\.0","id":"1-1007",.*"data":\[1\.0\]\}$/, 'the event is the value');
is(run_relay(configure_kafka('rows', '', format => 'data', tombstones => 'deletes', delivery => 'at-least-once', key => '{source}/{key}'), "$dir/forms", '--once'), 0, 'data, with tombstones');
@lines = topic_lines($servers, 'rows');
is(join("\n", map { "$_->[1] $_->[2] $_->[3]" } grep { $_->[1] ne '' } @lines), <<'END' =~ s/\n\z//r, 'a delete has a tombstone behind it');
public.item/1 id=1-1004;content-type=application/json {"id": 1, "price": 99.50}
public.item/1 id=1-1005;content-type=application/json {"id": 1, "price": 100.10}
public.item/1 id=1-1006;content-type=application/json {"id": 1, "price": 100.10}
public.item/1 id=1-1006;content-type=application/json (null)
END
is(run_relay(configure_kafka('envelopes', '', format => 'debezium'), "$dir/forms", '--once'), 0, 'envelopes') || diag(read_file("$dir/forms.err"));
like((grep { $_->[3] =~ /"op":"u"/ } topic_lines($servers, 'envelopes'))[0][3], qr/^\{"before":.*"after":\{[^}]*"price": 100\.10\},"source":\{.*"table":"item"/, "Debezium's");

# ---- at least once ----

is(run_relay(configure_kafka('again', '', delivery => 'at-least-once'), "$dir/again", '--once'), 0, 'at least once');
is(account([ 1 .. 1007 ], topic_lines($servers, 'again')), '0 missing, 0 again, 0 out of order', 'each event, in order');
is(status('again', 'lag, delivered'), '0|1007', 'all are acked');

# ---- killed ----

# the mock does not undo what was not committed, so that some come again
$config = configure_kafka('killed', '', lease => '2s');
foreach my $round (1 .. 4)
{
	$node->safe_psql($db, q{SELECT count(outbox.publish('Order', key => 'k' || i % 5)) FROM generate_series(1, 500) i});
	my $pid = start_relay($config, "$dir/killed");
	sleep 0.3 + rand(0.5);
	stop_relay($pid, 'KILL');
}
my $relay = start_relay($config, "$dir/killed");
ok($node->poll_query_until($db, q{SELECT lag = 0 AND outbox.head() = 3007 FROM outbox.status WHERE name = 'killed'}), 'killed: it goes on');
is(stop_relay($relay, 'TERM'), 0, 'is stopped');
like(account([ 1 .. 3007 ], topic_lines($servers, 'killed')), qr/^0 missing, \d+ again, 0 out of order$/, 'nothing is lost');

# ---- what can never arrive ----

$node->safe_psql($db, q{
	SELECT outbox.seek('rejected', 3008);
	SELECT outbox.publish('rejected', key => 'a', headers => '{"tenant": "rejected"}');
	SELECT outbox.publish('Large', jsonb_build_object('x', repeat('x', 20000)), 'a', headers => '{"tenant": "rejected"}');
	SELECT outbox.publish('Next', key => 'a', headers => '{"tenant": "rejected"}');
	SELECT outbox.publish('None', key => 'b');
	SELECT outbox.publish('Odd', key => 'b', headers => '{"tenant": "no/topic"}');
	SELECT outbox.publish('Next', key => 'b', headers => '{"tenant": "rejected"}');
});
ok($node->poll_query_until($db, 'SELECT outbox.head() = 3013'), 'odd ones');
$config = configure_kafka('rejected', "message.max.bytes = 10000\n", topic => '{header.tenant}');
is(run_relay($config, "$dir/rejected", '--once'), 0, 'too large, without a topic, with one that cannot be') || diag(read_file("$dir/rejected.err"));
is($node->safe_psql($db, q{SELECT position, error FROM outbox.dead_letter WHERE subscription = 'rejected' ORDER BY 1}), <<'END' =~ s/\n\z//r, 'are dead letters');
3009|rejected: Broker: Message size too large
3011|the topic needs what the event does not have: tenant
3012|this is no name of a topic: no/topic
END
is(account([ 3008, 3010, 3013 ], topic_lines($servers, 'rejected')), '0 missing, 0 again, 0 out of order', 'all others arrive once');
is(status('rejected', 'lag'), 0, 'and are acked');
$node->safe_psql($db, q{SELECT outbox.redrive('rejected')});
$config = configure_kafka('rejected', '', topic => 'rejected');
is(run_relay($config, "$dir/rejected", '--once'), 0, 'redriven, where there is room');
is(account([ 3008 .. 3013 ], topic_lines($servers, 'rejected')), '0 missing, 0 again, 2 out of order', 'they arrive, too, behind others of their keys');

# what the broker rejects of many is found
command_mock("$dir/commands", 'topic mood 1', 'fail 4 10');
$node->safe_psql($db, q{SELECT outbox.seek('mood', 1)});
$config = configure_kafka('mood', '', listen => "127.0.0.1:$port");
$relay = start_relay($config, "$dir/mood");
ok($node->poll_query_until($db, q{SELECT lag = 0 FROM outbox.status WHERE name = 'mood'}), 'less is sent at once when the broker finds it too large');
like(read_file("$dir/mood.err"), qr/Message size too large/, 'which is told');
is(account([ 1 .. 3013 ], topic_lines($servers, 'mood')), '0 missing, 0 again, 0 out of order', 'each event once');

# ---- down ----

is_deeply([ http_get($port, '/ready') ], [ 200, "active\n" ], 'ready');
command_mock("$dir/commands", 'down');
$node->safe_psql($db, q{SELECT count(outbox.publish('Order', key => 'k' || i % 5)) FROM generate_series(1, 500) i});
ok(wait_for(sub { (http_get($port, '/ready'))[0] == 503 }), 'down: not ready');
sleep 6;
cmp_ok(status('mood', 'lag'), '>', 0, 'nothing is acked');
command_mock("$dir/commands", 'up');
ok($node->poll_query_until($db, q{SELECT lag = 0 FROM outbox.status WHERE name = 'mood'}), 'it goes on');
like(account([ 1 .. 3513 ], topic_lines($servers, 'mood')), qr/^0 missing, \d+ again, 0 out of order$/, 'nothing is lost');
like((http_get($port, '/metrics'))[1], qr/^pg_outbox_relay_kafka_transactions_total\{relay="mood",subscription="mood",sink="kafka"\} \d+$/m, 'transactions are counted');
is(stop_relay($relay, 'TERM'), 0, 'is stopped');

$node->stop;
done_testing();
