# A relay carries every event, in order, whoever is killed when: an event is
# acked after its line was written.  A stopped relay repeats nothing.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IPC::Run qw(run);
use OutboxRelay;
use OutboxServer;
use Test::More;
use Time::HiRes qw(sleep time);

my $db = 'postgres';
my $node = new_server('relay', conf => ["timezone = 'Asia/Kolkata'", "datestyle = 'German'"]);
my $dir = $node->basedir;
$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	SELECT outbox.subscribe('out');
	SELECT outbox.subscribe('forms');
	SELECT outbox.subscribe('many', concurrency => 4);
});

sub publish
{
	my ($count) = @_;

	$node->safe_psql($db, "SELECT count(outbox.publish('Order', '{\"amount\": 99.50}', 'k' || i % 10)) FROM generate_series(1, $count) i");
	return;
}

sub head { return $node->safe_psql($db, 'SELECT outbox.head()') }

# Waits until all that was published has a position, and the subscription all.
sub all_is_acked
{
	my ($subscription, $count) = @_;

	return $node->poll_query_until($db,
		"SELECT outbox.head() = $count AND lag = 0 FROM outbox.status WHERE name = '$subscription'");
}

# Which positions up to one are missing, how many came again, and how many came
# for the first time behind a later one of their key.
sub account
{
	my ($last, @positions) = @_;
	my (%seen, %newest);
	my ($repeated, $disorder) = (0, 0);

	foreach my $position (@positions)
	{
		my $key = $position % 10;

		$repeated++ if $seen{$position}++;
		next if $seen{$position} > 1;
		$disorder++ if $position < ($newest{$key} // 0);
		$newest{$key} = $position;
	}
	my @missing = grep { !$seen{$_} } 1 .. $last;
	return (scalar(@missing), $repeated, $disorder);
}

# ---- to the end, and no more ----

my $config = configure($node, "$dir/out.conf", subscription => 'out', batch => 100);
publish(1000);
ok($node->poll_query_until($db, 'SELECT outbox.head() = 1000'), 'there are events');
is(run_relay($config, "$dir/check", '--check'), 0, 'a check');
is(read_file("$dir/check"), '', 'carries nothing');
like(read_file("$dir/check.err"), qr/subscription "out" is active, 1000 events behind; sink stdout is ready/, 'and says what is there');
is($node->safe_psql($db, q{SELECT delivered FROM outbox.status WHERE name = 'out'}), 0, 'and changes nothing');
is(run_relay($config, "$dir/out", '--once'), 0, 'once');
is(join(' ', arrived("$dir/out")), join(' ', 1 .. 1000), 'carries all, in order, once');
is($node->safe_psql($db, q{SELECT lag, delivered FROM outbox.status WHERE name = 'out'}), '0|1000', 'and acks all');

# ---- killed at any moment ----

my $expected = 1000;
foreach my $round (1 .. 12)
{
	my $pid = start_relay($config, "$dir/out");

	publish(300);
	$expected += 300;
	sleep rand(0.25) + ($round < 4 ? 0.1 : 0);
	is(stop_relay($pid, 'KILL'), 'signal 9', "round $round: killed");
}
my $relay = start_relay($config, "$dir/out");
ok(all_is_acked('out', $expected), 'the next one goes on, once leases have run out');
is(stop_relay($relay, 'TERM'), 0, 'and is stopped');
my ($missing, $repeated, $disorder) = account($expected, arrived("$dir/out"));
is($missing, 0, 'nothing was lost');
is($disorder, 0, 'nothing came out of order');
cmp_ok($repeated, '<=', 12 * 100, 'at most the last hand-out came again');
note("$repeated events came again");
my ($begun) = read_file("$dir/out") =~ /^(.*\{"specversion".*\{"specversion".*)$/m;
is($begun, undef, 'no line runs into another');

# ---- stopped at any moment ----

my $before = () = arrived("$dir/out");
foreach my $round (1 .. 6)
{
	my $pid = start_relay($config, "$dir/out");

	publish(300);
	$expected += 300;
	sleep rand(0.4);
	is(stop_relay($pid, $round % 2 ? 'TERM' : 'INT'), 0, "round $round: stopped");
}
is(run_relay($config, "$dir/out", '--once'), 0, 'once more');
ok(all_is_acked('out', $expected), 'all is acked');
is((() = arrived("$dir/out")) - $before, 1800, 'who is stopped repeats nothing and loses nothing');

# ---- the database goes and comes back ----

$relay = start_relay($config, "$dir/out");
foreach my $mode (qw(fast immediate))
{
	publish(500);
	$expected += 500;
	$node->stop($mode);
	sleep 0.3;
	$node->start;
	publish(500);
	$expected += 500;
	ok(all_is_acked('out', $expected), "$mode: goes on when the database is back");
}
is(stop_relay($relay, 'TERM'), 0, 'is stopped');
($missing, $repeated, $disorder) = account($expected, arrived("$dir/out"));
is("$missing $disorder", '0 0', 'nothing is missing, nothing out of order');
like(read_file("$dir/out.err"), qr/no connection to the database, which is tried again/, 'it says what it misses');

# ---- two relays ----

my %relay = map { $_ => start_relay($config, "$dir/$_") } qw(one two);
publish(100);
$expected += 100;
ok(all_is_acked('out', $expected), 'two relays of one subscription');
my $active = read_file("$dir/one.err") =~ /active:/ ? 'one' : 'two';
my $standby = $active eq 'one' ? 'two' : 'one';
publish(100);
$expected += 100;
ok(all_is_acked('out', $expected), 'go on');
my $took = time;
stop_relay($relay{$active}, 'KILL');
publish(100);
$expected += 100;
ok(wait_for(sub { (sort { $a <=> $b } arrived("$dir/$standby"))[-1] // 0 == $expected }), 'one takes over');
ok(all_is_acked('out', $expected), 'all of it');
cmp_ok(time - $took, '<', 5 + 10, 'when the lease has run out');
is(stop_relay($relay{$standby}, 'TERM'), 0, 'it is stopped');
my @all = (arrived("$dir/out"), arrived("$dir/one"), arrived("$dir/two"));
is((account($expected, @all))[0], 0, 'nothing is missing');

# ---- lanes ----

my $many = configure($node, "$dir/many.conf", subscription => 'many', batch => 50, window => 5000);
is(run_relay($many, "$dir/many", '--once'), 0, 'several lanes');
($missing, $repeated, $disorder) = account($expected, arrived("$dir/many"));
is("$missing $repeated $disorder", '0 0 0', 'each event once, in order for each key');

# ---- a reader that is slow, and one that goes ----

$node->safe_psql($db, q{SELECT outbox.seek('out', to_position => 1)});
pipe(my $reader, my $writer) or die $!;
$relay = fork // die $!;
if ($relay == 0)
{
	close($reader);
	open(STDOUT, '>&', $writer);
	open(STDERR, '>', "$dir/pipe.err");
	exec('pg_outbox', 'relay', '--config', $config);
}
close($writer);
my $first = <$reader>;
like($first, qr/^\{"specversion":"1\.0","id":"1-1",.*\}$/, 'a pipe');
close($reader);
is(stop_relay($relay), 3, 'a reader that goes ends the relay');
like(read_file("$dir/pipe.err"), qr/could not write to standard output: Broken pipe/, 'which says why');
cmp_ok($node->safe_psql($db, q{SELECT lag FROM outbox.status WHERE name = 'out'}), '>', 0, 'and acks nothing that was not read');

# ---- forms ----

$node->safe_psql($db, q{
	CREATE TABLE item (id integer PRIMARY KEY, price numeric, note text);
	SELECT outbox.capture('item');
	INSERT INTO item VALUES (1, 99.50, E'a"b\\\\c\n');
	UPDATE item SET price = 100.10;
	DELETE FROM item;
	SELECT outbox.publish(E'T\x01\u00e9\ufdd0', '{"n": 1.10}', E'k\t"', source => 'a b:c//d', headers => '{"x": {"traceparent": "no"}, "traceparent": "00-\u00e9\t"}');
	SELECT outbox.publish('T', '[]', '', source => 'https://shop.example/x?y#z');
	SELECT outbox.publish('T', '"text"', source => '//a:b/c'), outbox.publish('T', source => '');
});
ok($node->poll_query_until($db, "SELECT outbox.head() = $expected + 7"), 'more events');
$node->safe_psql($db, "SELECT outbox.seek('forms', to_position => $expected + 1)");
foreach my $form (qw(cloudevents json data debezium))
{
	my $forms = configure($node, "$dir/$form.conf", subscription => 'forms', format => $form);

	is(run_relay($forms, "$dir/$form", '--once'), 0, "form $form");
	$node->safe_psql($db, "SELECT outbox.seek('forms', to_position => $expected + 1)");
}

# Each line as jsonb, so that members may come in any order.
sub lines_are
{
	my ($form, $query, $name) = @_;
	my @got = split /\n/, read_file("$dir/$form");
	my $sql = join ' UNION ALL ', map { my $n = $_; my $line = $got[$n] =~ s/'/''/gr; "SELECT $n AS n, E'" . ($line =~ s/\\/\\\\/gr) . "'::jsonb AS j" } 0 .. $#got;

	is($node->safe_psql($db, "SET timezone = 'UTC'; SELECT j FROM ($sql) s ORDER BY n"),
		$node->safe_psql($db, "SET timezone = 'UTC'; SET datestyle = 'ISO'; $query"), $name);
	return;
}
my $from = "FROM outbox.read(after => $expected, max_events => 100) r JOIN outbox.event e USING (id) ORDER BY r.position";
lines_are('cloudevents', "SELECT outbox.to_cloudevent(e) $from", 'CloudEvents are those of to_cloudevent');
lines_are('data', "SELECT r.data $from", 'data');
lines_are('json', "SELECT to_jsonb(r) - 'xid' $from", 'the row');
my @changes = split /\n/, read_file("$dir/debezium");
like($changes[0], qr/^\{"before":null,"after":\{"id": 1, "note": "a\\"b\\\\c\\n", "price": 99\.50\},"source":\{.*"schema":"public","table":"item",.*\},"op":"c","ts_ms":\d{13}\}$/, 'Debezium: an insert');
like($changes[1], qr/^\{"before":\{[^}]*"price": 99\.50\},"after":\{[^}]*"price": 100\.10\},.*"op":"u"/, 'an update');
like($changes[2], qr/^\{"before":\{[^}]*"price": 100\.10\},"after":null,.*"op":"d"/, 'a delete');
like($changes[4], qr/^\{"id":"1-\d+","aggregatetype":"https:\/\/shop\.example\/x\?y#z","aggregateid":"","type":"T","timestamp":\d{13},"payload":\[\]\}$/, 'a published event');

$node->stop;
done_testing();
