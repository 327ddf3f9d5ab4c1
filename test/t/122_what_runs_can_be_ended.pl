# A handler that never returns: outbox.max_timeout bounds it, whatever its
# subscription says; and pausing or removing the subscription ends it.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $node = new_server('endless');

$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_outbox;
	CREATE TABLE effect (position bigint);
	CREATE ROLE owner LOGIN;
	GRANT ALL ON effect TO owner;
	GRANT ALL ON SCHEMA public TO owner;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA outbox TO owner;
	CREATE FUNCTION endless(event outbox.event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.effect VALUES (outbox.current_position());
		LOOP
			BEGIN
				PERFORM pg_sleep(600);
			EXCEPTION WHEN query_canceled THEN NULL;
			END;
		END LOOP;
	END $$;
	CREATE FUNCTION spinning(event outbox.event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		LOOP NULL; END LOOP;
	END $$;
	CREATE FUNCTION quick(event outbox.event) RETURNS void LANGUAGE sql AS
	$$ INSERT INTO public.effect VALUES (outbox.current_position()) $$;
	SET SESSION AUTHORIZATION owner;
	SELECT outbox.subscribe('s', handler => 'endless', timeout => '0');
	RESET SESSION AUTHORIZATION;
	SELECT outbox.publish('a')});

my $running = "SELECT count(*) = 1 FROM outbox.worker WHERE subscription = 's' AND state = 'busy'";
my $ended = "SELECT count(*) = 0 FROM outbox.worker WHERE role = 'dispatcher'
	AND (state = 'leaving' OR subscription = 's')";

wait_until($node, 'postgres', $running, 'a handler is running');
$node->safe_psql('postgres', "SET SESSION AUTHORIZATION owner; SELECT outbox.pause('s')");
wait_until($node, 'postgres', $ended, 'pausing ends it');
is($node->safe_psql('postgres', 'SELECT count(*) FROM effect'), 0, 'it never happened');
is($node->safe_psql('postgres', 'SELECT count(*) FROM outbox.delivery'), 0,
	'and is no attempt');
$node->safe_psql('postgres', "SET SESSION AUTHORIZATION owner;
	SELECT outbox.alter_subscription('s', handler => 'quick'); SELECT outbox.resume('s')");
wait_until($node, 'postgres', 'SELECT count(*) = 1 FROM effect', 'the event is delivered when it goes on');

$node->safe_psql('postgres', "SELECT outbox.alter_subscription('s', handler => 'spinning');
	SELECT outbox.publish('a')");
wait_until($node, 'postgres', $running, 'a handler is running again');
$node->safe_psql('postgres', "SELECT outbox.unsubscribe('s')");
wait_until($node, 'postgres', $ended, 'removing the subscription ends it');

# the administrator's bound
$node->safe_psql('postgres', "ALTER SYSTEM SET outbox.max_timeout = '500ms'; SELECT pg_reload_conf()");
wait_until($node, 'postgres', "SELECT current_setting('outbox.max_timeout') = '500ms'", 'the setting is known');
my ($out, $err);
$node->psql('postgres', "SELECT outbox.subscribe('s', handler => 'spinning', timeout => '0', max_attempts => 1)",
	stdout => \$out, stderr => \$err);
like($err, qr/NOTICE:  calls of subscription "s" end after 0.5 s/, 'who subscribes is told');
$node->safe_psql('postgres', "SELECT outbox.publish('a')");
wait_until($node, 'postgres',
	"SELECT count(*) = 1 FROM outbox.dead_letter WHERE error LIKE '%exceeded its timeout of 0.5 s'",
	'a call without a limit has that one');

# one that catches its cancel goes with its session
$node->safe_psql('postgres', "SELECT outbox.alter_subscription('s', handler => 'endless');
	SELECT outbox.publish('b')");
wait_until($node, 'postgres', "SELECT count(*) = 1 FROM outbox.dead_letter WHERE type = 'b'",
	'one that does not want to end is ended, and is a dead letter');

# lists and texts that every process would keep are bounded
for my $call (
	"outbox.subscribe('t', array_agg('type' || i)) FROM generate_series(1, 1001) i",
	"outbox.subscribe('t', ARRAY[repeat('x', 1001)])",
	"outbox.subscribe('t', filter => 'true' || repeat(' and true', 20000))",
	"outbox.alter_subscription('s', array_agg('type' || i)) FROM generate_series(1, 1000000) i",
	"outbox.aggregate('t', array_agg('type' || i), 'u', 'handle', 3) FROM generate_series(1, 1001) i")
{
	$node->psql('postgres', "\\set VERBOSITY verbose\nSELECT $call", stderr => \$err);
	like($err, qr/ERROR:  54000: .*too (many|long)/, "refused: SELECT $call");
}

$node->stop;
done_testing();
