# A transaction that stays open keeps its locks, and no right is needed for a weak
# one.  Nothing but making and dropping partitions waits for it, and the server's
# log says who it is.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $db = 'postgres';
my $node = new_server('held',
	conf => [ "outbox.retention = '1s'", "outbox.partition_interval = '1s'", "outbox.idempotency_window = '1s'", 'log_min_messages = warning' ]);

$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	CREATE ROLE nobody LOGIN;
	CREATE FUNCTION handle(e outbox.event) RETURNS void LANGUAGE sql AS 'SELECT';
	SELECT outbox.subscribe('handled', handler => 'handle');
	SELECT outbox.publish('Before', idempotency_key => 'before')
});
wait_until($node, $db, q{SELECT delivered = 1 FROM outbox.status}, 'delivered before');
wait_until($node, $db, q{SELECT NOT EXISTS (SELECT FROM outbox.event)}, 'and dropped');

# all that a role without rights can lock, without a session
my @tables = split /\n/, $node->safe_psql($db, q{
	SELECT relname FROM pg_class WHERE relnamespace = 'outbox'::regnamespace AND relkind IN ('r', 'p', 'S')
		AND (NOT relispartition OR relname = 'event_default') ORDER BY relname});
my ($out, $err) = ('', '');
$node->psql($db,
	join('', 'BEGIN;', (map { "PREPARE p_$_ AS DELETE FROM outbox.$_;" } @tables), "PREPARE TRANSACTION 'held'"),
	stdout => \$out, stderr => \$err,
	extra_params => [ '-U', 'nobody', '-v', 'ON_ERROR_STOP=1' ]);
is($err, '', 'a role without rights holds locks on all tables');

# nothing of this waits
$node->safe_psql($db, q{
	SET lock_timeout = '10s';
	SELECT outbox.publish('During');
	SELECT outbox.subscribe('another', channel => 'c');
	SELECT outbox.pause('another');
	SELECT outbox.resume('another');
	SELECT outbox.alter_subscription('another', types => '{During}');
	SELECT outbox.unsubscribe('another');
	SELECT outbox.register_type('Registered', 'true');
	SELECT outbox.publish('During', idempotency_key => 'k');
	CREATE TABLE captured (id integer PRIMARY KEY);
	SELECT outbox.capture('captured');
	INSERT INTO captured VALUES (1)});
wait_until($node, $db, q{SELECT delivered = 4 FROM outbox.status}, 'events are delivered meanwhile');

# until there is no partition for now
wait_until($node, $db, q{
	WITH event AS (SELECT outbox.publish('Later') AS id)
	SELECT id > 0 AND EXISTS (SELECT FROM outbox.event_default) FROM event}, 'events go to the default partition');

sub wait_for_log
{
	my ($pattern, $name) = @_;

	for (1 .. 300)
	{
		return pass($name) if server_log($node) =~ $pattern;
		$node->safe_psql($db, 'SELECT pg_sleep(0.1)');
	}
	return fail($name);
}
wait_for_log(qr/no partition of the event log can be dropped while it is in use.*\n.*Locks are held by: a prepared transaction\./,
	'the log says why nothing is dropped');
wait_for_log(qr/no partition of the event log can be made while outbox.event_default is in use.*\n.*Locks are held by: a prepared transaction\./,
	'and why none is made');
wait_for_log(qr/no idempotency keys can be forgotten while their table is in use.*\n.*Locks are held by: a prepared transaction\./,
	'and why keys are kept');

$node->safe_psql($db, "ROLLBACK PREPARED 'held'");
wait_until($node, $db, q{SELECT NOT EXISTS (SELECT FROM outbox.event)}, 'when it has ended, all goes');
wait_until($node, $db, q{
	WITH event AS (SELECT outbox.publish('After') AS id)
	SELECT id > 0 AND EXISTS (SELECT FROM outbox.event e WHERE e.tableoid <> 'outbox.event_default'::regclass) FROM event},
	'and partitions are made');
is(() = server_log($node) =~ /can be dropped while it is in use/g, 1, 'it was said once');

$node->stop;
done_testing();
