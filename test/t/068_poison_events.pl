# An event whose handler ends its session, or the server, uses up its attempts
# like one that fails, and nothing else does: the others are handled once, in
# order, and in batches.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;
use Time::HiRes qw(sleep);

my $node = new_server('poison');
my $db = 'postgres';
my $events = 300;
my $poisoned = 200;

$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	CREATE TABLE effect (n bigint GENERATED ALWAYS AS IDENTITY, subscription text, id bigint);
	CREATE TABLE poison (what text);
	CREATE FUNCTION handler(event outbox.event) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		poison text;
	BEGIN
		IF event.key = 'poison' THEN
			SELECT what INTO poison FROM poison;
			IF poison = 'session' THEN
				PERFORM pg_terminate_backend(pg_backend_pid());
				PERFORM pg_sleep(60);
			ELSIF poison = 'backend' THEN
				COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID; sleep 60';
			ELSIF poison = 'server' THEN
				COPY (SELECT 1) TO PROGRAM 'kill -9 $(head -n 1 postmaster.pid) $PPID; sleep 60';
			END IF;
		END IF;
		INSERT INTO effect (subscription, id) VALUES (outbox.current_subscription(), event.id);
	END $$;
	CREATE FUNCTION batch_handler(events outbox.event[]) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1..cardinality(events) LOOP
			PERFORM handler(events[i]);
		END LOOP;
	END $$;
});

sub log_length
{
	return -s $node->logfile;
}

# How often the log says so since then.
sub times_logged
{
	my ($pattern, $since) = @_;

	return scalar(() = server_log($node, $since) =~ /$pattern/g);
}

# The answer once the server gives one, started again if it is not there.
sub ask
{
	my ($sql) = @_;
	my $starts = 0;

	for (1 .. 600)
	{
		my ($out, $err) = ('', '');
		my $status = eval { $node->psql($db, $sql, stdout => \$out, stderr => \$err) } // 2;

		return ($out, $starts) if $status == 0;
		sleep 0.1;
		next if $err =~ /starting up|recovery mode|shutting down/;
		if (!-e $node->data_dir . '/postmaster.pid' || !kill(0, $node->{_pid}))
		{
			$starts++;
			$node->{_pid} = undef;
			sleep 0.1 until $node->start(fail_ok => 1);
		}
	}
	die "no answer to $sql";
}

# Handles events of which one is poison; returns how many batches it took, and
# how often the server was started.
sub handle
{
	my ($name, $what, $handler, $options) = @_;
	my $starts = 0;

	$node->safe_psql($db, qq{
		TRUNCATE poison;
		INSERT INTO poison VALUES ('$what');
		SELECT outbox.subscribe('$name', '{$name}', handler => '$handler', batch_size => $events,
			backoff => '10 milliseconds', $options)});
	# the server may be gone before the answer has come
	eval { $node->psql($db, qq{
		SELECT count(outbox.publish('$name', key => CASE WHEN i = $poisoned THEN 'poison' ELSE 'k' END))
		FROM generate_series(1, $events) i}) };
	for (1 .. 1000)
	{
		my ($left, $restarts) = ask("SELECT lag + retrying + parked FROM outbox.status WHERE name = '$name'");

		$starts += $restarts;
		last if $left == 0;
		sleep 0.1;
	}
	is((ask(qq{SELECT count(*), count(DISTINCT id), count(*) FILTER (WHERE late)
			   FROM (SELECT id, id < lag(id) OVER (ORDER BY n) AS late FROM effect
					 WHERE subscription = '$name') e}))[0],
		join('|', $events - 1, $events - 1, 0), "$name: all others are handled once, in order");
	return (
		(ask("SELECT max(version) FROM outbox.progress p JOIN outbox.subscription s ON s.id = p.subscription WHERE s.name = '$name'"))[0],
		$starts);
}

sub attempts_of
{
	return (ask("SELECT key, attempts, error FROM outbox.dead_letter WHERE subscription = '$_[0]'"))[0];
}

my $ended = 'the session ended while the event was being handled';
my $since = log_length();
my ($batches, $starts) = handle('session', 'session', 'handler', 'max_attempts => 3');

is(attempts_of('session'), "poison|3|$ended", 'one that ends its session is a dead letter after its attempts');
# the second is said before 14
is(times_logged('FATAL:  terminating (?:background worker "pg_outbox dispatcher"|connection) due to administrator', $since), 4,
	'one end before it was known, and then one for each attempt');
cmp_ok($batches, '<', 30, 'the others came in batches') || diag("$batches batches");

$since = log_length();
($batches) = handle('together', 'session', 'batch_handler', 'max_attempts => 1');
is(attempts_of('together'), "poison|1|$ended", 'so is one that ends its session in a call for many');
cmp_ok($batches, '<', 60, 'it is found among them by and by') || diag("$batches batches");

$since = log_length();
($batches) = handle('backend', 'backend', 'handler', 'max_attempts => 1');
is(attempts_of('backend'), "poison|1|$ended", 'so is one that makes the server restart');
is(times_logged('was terminated by signal 9', $since), 2, 'which it does once more, to have its attempt counted');
cmp_ok($batches, '<', 30, 'the others came in batches') || diag("$batches batches");

$poisoned = 20;
($batches, $starts) = handle('server', 'server', 'handler', 'max_attempts => 1');
is(attempts_of('server'), "poison|1|$ended", 'and one that takes the whole server down');
cmp_ok($starts, '<=', 6, 'which is found among them by and by') || diag("$starts starts");
cmp_ok($batches, '<', 60, 'the others came in batches') || diag("$batches batches");

$node->stop;
done_testing();
