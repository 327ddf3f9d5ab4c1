# A chain of causes is counted across processes: what one dispatcher emits,
# another one handles, and one that was started after a crash finds the depth
# in the log.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $node = new_server('causes');

# two owners, so two dispatchers, whose handlers feed each other
$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_outbox;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA outbox TO PUBLIC;
	CREATE FUNCTION ping(e outbox.event) RETURNS void LANGUAGE sql AS
		$$ SELECT outbox.publish('Ping', key => e.key) $$;
	CREATE FUNCTION pong(e outbox.event) RETURNS void LANGUAGE sql AS
		$$ SELECT outbox.publish('Pong', key => e.key) $$;
	CREATE ROLE one LOGIN;
	CREATE ROLE other LOGIN;
	SET ROLE one;
	SELECT outbox.subscribe('ping', '{Ping}', handler => 'pong');
	SET ROLE other;
	SELECT outbox.subscribe('pong', '{Pong}', handler => 'ping');
});

sub chain_ends
{
	my ($key, $depth, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until($node, 'postgres',
		"SELECT count(*) = 1 FROM outbox.dead_letter WHERE key = '$key'", "$name: it ends");
	is($node->safe_psql('postgres',
			"SELECT count(*), count(causation_id), count(DISTINCT correlation_id)
			FROM outbox.event WHERE key = '$key'"),
		join('|', $depth + 1, $depth, 1), "$name: at a depth of $depth");
	is($node->safe_psql('postgres',
			"SELECT d.attempts, x.sqlstate
			FROM outbox.dead_letter d JOIN outbox.delivery x USING (position) WHERE d.key = '$key'"),
		'1|OB003', "$name: without a retry");
	return;
}

$node->safe_psql('postgres', q{SELECT outbox.publish('Ping', key => 'a')});
chain_ends('a', 64, 'two dispatchers');

$node->safe_psql('postgres', 'ALTER SYSTEM SET outbox.max_depth = 500');
$node->reload;
$node->safe_psql('postgres', q{SELECT outbox.publish('Ping', key => 'b')});
wait_until($node, 'postgres', q{SELECT count(*) > 50 FROM outbox.event WHERE key = 'b'},
	'a longer chain is under way');
$node->stop('immediate');
$node->start;
chain_ends('b', 500, 'with a crash in between');

# what is remembered does not outlive the log that it is of
$node->safe_psql('postgres', q{
	DROP EXTENSION pg_outbox CASCADE;
	ALTER SYSTEM SET outbox.max_depth = 3});
$node->reload;
$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_outbox;
	CREATE FUNCTION again(e outbox.event) RETURNS void LANGUAGE sql AS
		$$ SELECT outbox.publish('Again', key => e.key) $$;
	SELECT outbox.subscribe('again', '{Again}', handler => 'again');
	SELECT outbox.publish('Other') FROM generate_series(1, 10);
	SELECT outbox.publish('Again', key => 'c')});
chain_ends('c', 3, 'in a new log with the ids of the old one');

$node->safe_psql('postgres', q{SELECT outbox.unsubscribe('again')});

# where an event is that nobody sees
{
	my $open = $node->background_psql('postgres');
	my $why = sub
	{
		my ($id) = @_;

		return $node->safe_psql('postgres', "SELECT outbox.why_not_delivered($id)");
	};
	my ($pid, $id) = split /\n/, $open->query_safe(q{
		SET application_name = 'the one';
		SELECT pg_backend_pid();
		BEGIN;
		SELECT outbox.publish('Hidden', key => 'open')});
	my $gone = $node->safe_psql('postgres', q{
		BEGIN;
		SELECT outbox.publish('Hidden', key => 'aborted');
		ROLLBACK;});
	my $prepared = $node->safe_psql('postgres', q{
		BEGIN;
		SELECT outbox.publish('Hidden', key => 'prepared');
		PREPARE TRANSACTION 'a "name"';});

	like($why->($id),
		qr/^Event $id is not committed.*\n  pid $pid \(\S+, the one\), idle in transaction in a transaction since \d/,
		'of an open transaction');
	like($why->($prepared), qr/  prepared transaction 'a "name"' of \S+, since \d/,
		'of a prepared one');

	$node->safe_psql('postgres', q{SELECT outbox.subscribe('late', channel => 'late')});
	$open->query_safe('COMMIT');
	$node->safe_psql('postgres', q{ROLLBACK PREPARED 'a "name"'});
	wait_until($node, 'postgres',
		"SELECT outbox.why_not_delivered($id) LIKE '%late: delivered at %'", 'and then delivered');
	like($why->($gone), qr/was rolled back/, 'one that was rolled back');

	# the sequencer is kept from its table
	$open->query_safe('BEGIN; LOCK TABLE outbox.segment IN SHARE MODE');
	$id = $node->safe_psql('postgres', q{SELECT outbox.publish('Hidden', key => 'held')});
	like($why->($id),
		qr/^Event $id is committed and has no position yet: the sequencer, pid \d+, is \w+ since/,
		'of a committed one without a position');
	$open->query_safe('COMMIT');
	wait_until($node, 'postgres',
		"SELECT outbox.why_not_delivered($id) LIKE '%late: delivered at %'", 'and then delivered, too');
	$open->quit;

	# what a tree says of handlers in other processes
	$node->safe_psql('postgres', q{
		CREATE FUNCTION bill(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			IF outbox.current_attempt() = 1 THEN RAISE 'not yet'; END IF;
			PERFORM outbox.publish('Billed', key => e.key);
		END $$;
		SELECT outbox.subscribe('bill', '{Ordered}', handler => 'bill', backoff => '10 ms');
		SET outbox.correlation_id = 'order';
		SELECT outbox.publish('Ordered', key => '1')});
	wait_until($node, 'postgres',
		q{SELECT count(handled_at) = 3 FROM outbox.trace('order')}, 'all is handled');
	is($node->safe_psql('postgres',
			q{SELECT depth, type, subscription, state, attempts FROM outbox.trace('order')}),
		"0|Ordered|late|delivered|1\n0|Ordered|bill|delivered|2\n1|Billed|late|delivered|1",
		'the tree');
	like($node->safe_psql('postgres', q{SELECT outbox.trace_text('order')}),
		qr/^Ordered 1 .*\n  > late: delivered, [\d.]+ m?s after commit\n  > bill: delivered at attempt 2, [\d.]+ m?s after commit\n    Billed 1 /,
		'the tree as a text');
}

# the trace context in a comment, by the extended protocol and with prepared statements
{
	my $script = $node->basedir . '/trace.sql';

	open(my $out, '>', $script) or die "could not write $script: $!";
	print $out qq{SELECT outbox.publish('Traced', key => 'none');
SELECT outbox.publish('Traced', key => 'one') /*traceparent='00-00000000000000000000000000000001-000000000000000a-01'*/;
SELECT outbox.publish('Traced', key => 'two') /*traceparent='00-00000000000000000000000000000002-000000000000000a-01'*/;
};
	close($out) or die;
	for my $protocol (qw(simple extended prepared))
	{
		$node->command_ok([
				'pgbench', '-n', '-M', $protocol, '-t', 50, '-f', $script, '-h', $node->host,
				'-p', $node->port, 'postgres'], "$protocol protocol");
	}
	is($node->safe_psql('postgres', q{
			SELECT key, count(*), count(headers->>'traceparent'), min(headers->>'traceparent')
			FROM outbox.event WHERE type = 'Traced' GROUP BY key ORDER BY key}),
		"none|150|0|\none|150|150|00-00000000000000000000000000000001-000000000000000a-01\n"
		. "two|150|150|00-00000000000000000000000000000002-000000000000000a-01",
		'each statement has its own trace context, whatever the protocol');
}

$node->stop;
done_testing();
