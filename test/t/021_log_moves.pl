# A log that finds itself in another cluster, or in a copy of its database,
# goes on without loss, repetition or reuse of ids.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $node = new_server('origin');
install_orders($node, 'postgres');
$node->safe_psql('postgres', "SELECT outbox.subscribe('s', handler => 'quick_handler')");
insert_orders($node, 'postgres', 5);
wait_for_effects($node, 'postgres', 'quick', 5, 'the origin serves');
is($node->safe_psql('postgres', 'SELECT outbox.generation()'), 1, 'its first generation');

# transactions whose ids another cluster will not have reached, and an event
# that commits late
$node->safe_psql('postgres',
	"BEGIN; SELECT outbox.publish('late', key => 'late'); PREPARE TRANSACTION 'late'");
$node->safe_psql('postgres', q{
	DO $$ BEGIN FOR i IN 1 .. 3000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$});
insert_orders($node, 'postgres', 3);
$node->safe_psql('postgres', "COMMIT PREPARED 'late'");
wait_until($node, 'postgres', 'SELECT outbox.head() = 9', 'every event has a position');
wait_for_effects($node, 'postgres', 'quick', 8, 'all is handled');

# a copy within the cluster
$node->safe_psql('template1', 'CREATE DATABASE copy TEMPLATE postgres');
wait_for_worker($node, 'copy', 'sequencer', 'the copy is served');
wait_until($node, 'copy', 'SELECT outbox.generation() = 2', 'the copy is a generation of its own');
is($node->safe_psql('copy', "SELECT state, paused_by, paused_at IS NOT NULL FROM outbox.status"),
	'paused|pg_outbox: the database is a copy|t', 'and its subscriptions are paused');
insert_orders($node, 'copy', 1);
is($node->safe_psql('copy', "SELECT outbox.wait()"), 't', 'the copy gives positions');
is( $node->safe_psql('copy', q{
	SELECT count(*) = 10 AND max(position) = 10 AND min(position) = 1
	FROM outbox.read(0, 1000)}),
	't', 'its positions are dense');
is( $node->safe_psql('copy', "SELECT count(*) FROM effect WHERE handler = 'quick'"),
	$node->safe_psql('postgres', "SELECT count(*) FROM effect WHERE handler = 'quick'"),
	'its handlers have not run');

# a dump into another cluster
my $other = new_server('other');
my $dump = $node->basedir . '/log.dump';
$node->safe_psql('postgres', "SELECT outbox.pause('s')");
insert_orders($node, 'postgres', 2);
wait_until($node, 'postgres', "SELECT lag = 2 FROM outbox.status", 'two events wait');
$node->safe_psql('postgres', "UPDATE outbox.subscription SET paused = false");
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $node->connstr('postgres') ],
	'dump');
$other->command_ok(
	[ 'pg_restore', '--single-transaction', '-d', $other->connstr('postgres'), $dump ],
	'restore');
my $before = $node->safe_psql('postgres',
	'SELECT position, id, xid, type, key FROM outbox.read(0, 1000) LIMIT 9');
wait_for_effects($other, 'postgres', 'quick', 10, 'what waited is handled there');
is($other->safe_psql('postgres', 'SELECT outbox.generation()'), 2, 'the second generation');
is( $other->safe_psql('postgres',
		'SELECT position, id, xid, type, key FROM outbox.read(0, 1000) LIMIT 9'),
	$before, 'positions name the same events');

insert_orders($other, 'postgres', 5);
wait_for_effects($other, 'postgres', 'quick', 15, 'new events are handled');
is( $other->safe_psql('postgres', q{
	SELECT count(*) = max(position) AND min(position) = 1 AND count(DISTINCT id) = count(*)
	       AND count(*) = 16
	FROM outbox.read(0, 1000)}),
	't', 'positions are dense and ids unique');
is( $other->safe_psql('postgres', q{
	SELECT min(xid::text::bigint) FILTER (WHERE position > 11) >
	       max(xid::text::bigint) FILTER (WHERE position <= 11)
	FROM outbox.read(0, 1000)}),
	't', 'ids of transactions stay above those from before');

# where a producer is the first to write, its event is of the new generation;
# those from before stay of the old one
my $quiet = new_server('quiet', conf => ["shared_preload_libraries = ''"]);
$quiet->command_ok(
	[ 'pg_restore', '--single-transaction', '-d', $quiet->connstr('postgres'), $dump ],
	'restore without workers');
$quiet->safe_psql('postgres', q{
	SELECT outbox.publish('First');
	SELECT outbox.publish('Second');
	CALL outbox.run()});
is( $quiet->safe_psql('postgres', q{
	SELECT left(outbox.to_cloudevent(e)->>'id', 2) AS generation, count(*), min(type)
	FROM outbox.event e GROUP BY 1 ORDER BY 1}),
	"1-|11|late\n2-|2|First", 'events keep the generation that they were emitted in');

$node->stop;
$other->stop;
$quiet->stop;
done_testing();
