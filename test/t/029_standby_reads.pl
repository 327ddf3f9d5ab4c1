# A standby can be read, and writes nothing; once promoted it goes on without
# loss or repetition, sessions that were connected before included.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $node = new_server('primary', standby => 1, conf => ["outbox.partition_interval = '1s'"]);

install_orders($node, 'postgres');
$node->safe_psql('postgres', q{
	SELECT outbox.subscribe('quick', '{orders.*}', 'quick_handler');
	SELECT outbox.subscribe('resting', channel => 'c');
	SELECT outbox.pause('resting')});
insert_orders($node, 'postgres', 20);
$node->safe_psql('postgres', "BEGIN; SELECT outbox.publish('Prepared'); PREPARE TRANSACTION 'held'");
wait_for_effects($node, 'postgres', 'quick', 20, 'the primary serves');
$node->backup('backup');
my $standby = new_node('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
insert_orders($node, 'postgres', 20);
wait_for_effects($node, 'postgres', 'quick', 40, 'the primary serves on');
wait_until($standby, 'postgres', 'SELECT outbox.head() = 40', 'the standby follows');

# what reads, reads
my $log = q{
	SELECT count(*), max("position"), md5(string_agg(r::text, E'\n' ORDER BY "position"))
	FROM outbox.read(max_events => 1000) r};
is($standby->safe_psql('postgres', $log), $node->safe_psql('postgres', $log), 'the same log');
is( $standby->safe_psql('postgres',
		'SELECT outbox.oldest(), outbox.head(), outbox.position_of(1), outbox.generation()'),
	'1|40|1|1', 'the same answers');
is( $standby->safe_psql('postgres', 'SELECT name, state, lag FROM outbox.status ORDER BY name'),
	"quick|active|0\nresting|paused|40", 'the status can be seen');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM outbox.dead_letter'), 0, 'and dead letters');
is($standby->safe_psql('postgres', 'SELECT name FROM outbox.capture_rule'), 'orders', 'and rules');
is($standby->safe_psql('postgres', "SELECT outbox.wait('quick')"), 't', 'one can wait for what has come');

# what writes, is refused by its name
foreach my $command (
	"SELECT outbox.publish('x')", "SELECT outbox.publish_many('[]')",
	"SELECT outbox.subscribe('x', channel => 'x')", "SELECT outbox.unsubscribe('quick')",
	"SELECT outbox.pause('quick')", "SELECT outbox.resume('resting')",
	"SELECT outbox.capture('nap')", "SELECT outbox.uncapture('orders')",
	'SELECT outbox.apply_retention()', 'CALL outbox.run()')
{
	my ($name) = $command =~ /(outbox\.\w+\()/;
	my ($code, $out, $err) = $standby->psql('postgres', $command);
	like($err, qr/cannot execute \Q$name\E\) in a read-only transaction/, "refused: $name)");
}

# a session that was connected when it was a standby
my $session = IPC::Run::start(
	[ 'psql', '-XAtq', '-d', $standby->connstr('postgres') ],
	'<', \my $stdin, '>', \my $stdout, '2>', \my $stderr);
$stdin = "SELECT outbox.head();\nSELECT outbox.wait('quick');\n";
IPC::Run::pump($session) until $stdout =~ /40\nt\n/;

# the primary dies in the middle of things
insert_orders($node, 'postgres', 5);
$node->wait_for_catchup($standby, 'replay');
$node->stop('immediate');
$standby->promote;
wait_for_worker($standby, 'postgres', 'sequencer', 'a sequencer after promotion');
$stdin = "INSERT INTO orders (amount) VALUES (1);\nSELECT 'inserted';\n";
IPC::Run::pump($session) until $stdout =~ /inserted/;
$stdin = "\\q\n";
IPC::Run::finish($session);
$standby->safe_psql('postgres', "COMMIT PREPARED 'held'");
insert_orders($standby, 'postgres', 5);
is($standby->safe_psql('postgres', "SELECT outbox.wait('quick')"), 't', 'the promoted one serves');
effects_are_exact($standby, 'postgres', 'quick', 'exactly once');
is( $standby->safe_psql('postgres', q{
		SELECT count(*) - (SELECT count(*) FROM outbox.event), max("position") - count(*), count(DISTINCT id) - count(*)
		FROM outbox.read(max_events => 1000)}),
	'0|0|0', 'every event has its one position, the prepared one too');
is($standby->safe_psql('postgres', "SELECT count(*) FROM outbox.read() WHERE type = 'Prepared'"),
	1, 'the prepared transaction is in the log');
is($standby->safe_psql('postgres', 'SELECT outbox.generation()'), 2, 'in the next generation');

$standby->stop;
done_testing();
