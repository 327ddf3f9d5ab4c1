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
