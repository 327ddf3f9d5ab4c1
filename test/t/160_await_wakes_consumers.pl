# outbox.await(): consumers sleep, and wake as soon as there is something for
# them; they hold nothing meanwhile, also through PgBouncer.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = new_server('await');
$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_outbox;
	SELECT outbox.subscribe('p', '{t}', backoff => '0');
	SELECT outbox.subscribe('f', '{t}', filter => $$ (data->>'n')::integer > 5 $$);
});

# a consumer in the background; its last line says how long it took, in ms
sub consumer
{
	my ($sql) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);

	$session->{stdin} .= "$sql\n\\echo it has ended\n";
	$session->{run}->pump_nb;
	return $session;
}

sub finish
{
	my ($session) = @_;
	my $end = time() + 60;

	while ($session->{stdout} !~ /it has ended/ && time() < $end)
	{
		$session->{run}->pump;
	}
	my $out = $session->{stdout};
	$session->quit;
	$out =~ s/\n?it has ended\n?//;
	return $out;
}

sub until_is
{
	my ($query, $expected) = @_;

	$node->poll_query_until('postgres', $query, $expected) or die "$query does not become $expected";
	return;
}

my $sleeping = q{
	SELECT count(*) FROM pg_stat_activity
	WHERE query LIKE 'CALL outbox.await%' AND wait_event_type = 'Extension'};

is($node->safe_psql('postgres', q{CALL outbox.await('p', '0')}), 'f', 'nothing is there, and no time is given');
is($node->safe_psql('postgres', q{CALL outbox.await('p', '50 ms')}), 'f', 'nothing came in that time');

my $waiting = consumer(q{CALL outbox.await('p', '1 minute');});
until_is($sleeping, '1');
is($node->safe_psql('postgres', q{
	SELECT backend_xid IS NULL AND backend_xmin IS NULL AND xact_start IS NULL
	       AND (SELECT count(*) FROM pg_locks l WHERE l.pid = a.pid AND locktype <> 'virtualxid') = 0
	FROM pg_stat_activity a WHERE query LIKE 'CALL outbox.await%'}),
	't', 'it holds no snapshot, no transaction id and no lock');
is($node->safe_psql('postgres', q{SELECT outbox.publish('x') > 0}), 't', 'what it is not subscribed to');
$node->safe_psql('postgres', q{SELECT outbox.publish('t')});
is(finish($waiting), 't', 'an event wakes it');
is($node->safe_psql('postgres', q{CALL outbox.await('p')}), 't', 'as long as nobody takes it, it is ready at once');

# another consumer has it; it acks, or its lease ends, or it gives it back
my $receipt = $node->safe_psql('postgres', q{SELECT receipt FROM outbox.receive('p', lease => '1 hour')});
is($node->safe_psql('postgres', q{CALL outbox.await('p', '50 ms')}), 'f', 'what another one has is not for us');
$waiting = consumer(q{CALL outbox.await('p', '1 minute');});
until_is($sleeping, '1');
$node->safe_psql('postgres', qq{SELECT outbox.release('p', $receipt)});
is(finish($waiting), 't', 'until it is given back');
$receipt = $node->safe_psql('postgres', q{SELECT receipt FROM outbox.receive('p', lease => '300 ms')});
is($node->safe_psql('postgres', q{CALL outbox.await('p', '1 minute')}), 't', 'or the lease runs out');
$receipt = $node->safe_psql('postgres', q{SELECT receipt FROM outbox.receive('p', lease => '1 hour')});
$node->safe_psql('postgres', qq{SELECT outbox.nack('p', $receipt, outbox.head(), delay => '300 ms'); SELECT outbox.ack('p', $receipt)});
is($node->safe_psql('postgres', q{CALL outbox.await('p', '1 minute')}), 't', 'or a retry is due');
$receipt = $node->safe_psql('postgres', q{SELECT receipt FROM outbox.receive('p', lease => '1 hour')});
$node->safe_psql('postgres', qq{SELECT outbox.ack('p', $receipt)});

# a filter: what it leaves out wakes nobody for long, and is not read again
$waiting = consumer(q{CALL outbox.await('f', '1 minute');});
until_is($sleeping, '1');
$node->safe_psql('postgres', q{SELECT count(outbox.publish('t', jsonb_build_object('n', n))) FROM generate_series(1, 5) n});
until_is(q{SELECT lag FROM outbox.status WHERE name = 'f'}, '0');
$node->safe_psql('postgres', q{SELECT outbox.publish('t', '{"n": 6}')});
is(finish($waiting), 't', 'only what passes the filter');

# it ends on a cancel, and with its subscription
$waiting = consumer(q{CALL outbox.await('nobody');});
like(finish($waiting), qr/^$/, 'a subscription that is not there');
$node->safe_psql('postgres', q{SELECT outbox.subscribe('gone', '{none}')});
$waiting = consumer(q{CALL outbox.await('gone', '10 minutes');});
until_is($sleeping, '1');
$node->safe_psql('postgres', q{SELECT outbox.unsubscribe('gone')});
finish($waiting);
$node->safe_psql('postgres', q{SELECT outbox.subscribe('quiet', '{none}')});
$waiting = consumer(q{CALL outbox.await('quiet', '10 minutes');});
until_is($sleeping, '1');
$node->safe_psql('postgres', q{
	SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CALL outbox.await%'});
finish($waiting);
is($node->safe_psql('postgres', $sleeping), '0', 'nobody waits any more');
my ($code, $out, $err) = $node->psql('postgres', q{BEGIN; CALL outbox.await('p');});
like($err, qr/cannot run inside a transaction block/, 'not in a transaction block');

# from the commit to the consumer
$node->safe_psql('postgres', q{
	SELECT outbox.subscribe('fast', '{fast}');
	CREATE TABLE woken (late interval);
	CREATE PROCEDURE consume(n integer) LANGUAGE plpgsql AS $$
	DECLARE
		ready boolean;
	BEGIN
		WHILE (SELECT count(*) < n FROM woken) LOOP
			CALL outbox.await('fast', '10 seconds', ready);
			INSERT INTO woken SELECT clock_timestamp() - (r.data->>'at')::timestamptz FROM outbox.receive('fast') r;
			PERFORM outbox.ack('fast', p.receipt) FROM (SELECT max(receipt) AS receipt FROM outbox.progress) p
			WHERE ready;
			COMMIT;
		END LOOP;
	END $$;
});
$waiting = consumer(q{CALL consume(100);});
for (1 .. 110)
{
	$node->safe_psql('postgres', q{SELECT outbox.publish('fast', jsonb_build_object('at', clock_timestamp()))});
}
finish($waiting);
my $median = $node->safe_psql('postgres',
	q{SELECT 1000 * extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY late)) FROM woken});
diag("half of the consumers had their event within $median ms");
cmp_ok($median, '<', 50, 'they wake at once');

$node->stop;
done_testing();
