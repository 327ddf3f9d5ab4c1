# What waits behind a failing event costs no more for being many: draining it
# looks at each of its rows a few times, however many batches it takes.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;
use Time::HiRes qw(time);

# without workers, so that nobody else counts
my $node = new_server('parked', conf => ["shared_preload_libraries = ''"]);
my $db = 'postgres';
my $parked = $ENV{OUTBOX_PARKED} // 3000;
my $batches = 150;

$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	CREATE TABLE gate (is_open boolean);
	INSERT INTO gate VALUES (false);
	CREATE TABLE effect (n bigint GENERATED ALWAYS AS IDENTITY, position bigint, key text);
	CREATE FUNCTION handler(event outbox.event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF NOT (SELECT is_open FROM gate) THEN
			RAISE 'not yet';
		END IF;
		INSERT INTO effect (position, key) VALUES (outbox.current_position(), event.key);
	END $$;
});

# Rows of outbox.delivery that sessions which have ended found by an index.
sub rows_read
{
	return $node->safe_psql($db,
		"SELECT sum(idx_tup_read) FROM pg_stat_all_indexes WHERE relid = 'outbox.delivery'::regclass");
}

# Parks that many events of a subscription and lets them go, in batches.
sub drain
{
	my ($name, $ordering, $key) = @_;

	$node->safe_psql($db, q{UPDATE gate SET is_open = false; TRUNCATE effect;});
	$node->safe_psql($db, qq{
		SELECT outbox.subscribe('$name', '{$name}', handler => 'handler', ordering => '$ordering',
			batch_size => } . $parked / $batches . qq{, backoff => '1 hour', max_attempts => 1000)});
	$node->safe_psql($db, qq{
		SELECT count(outbox.publish('$name', key => $key)) FROM generate_series(1, $parked) i});
	$node->safe_psql($db, 'CALL outbox.run()');
	is($node->safe_psql($db, "SELECT retrying + parked FROM outbox.status WHERE name = '$name'"),
		$parked, "$name: all wait");
	$node->safe_psql($db, q{
		UPDATE gate SET is_open = true;
		UPDATE outbox.delivery SET next_at = now() WHERE state = 'retry'});

	my $before = rows_read();
	my $began = time;

	$node->safe_psql($db, 'CALL outbox.run()');

	my $took = time - $began;

	is($node->safe_psql($db, 'SELECT count(*), count(DISTINCT position) FROM effect'),
		"$parked|$parked", "$name: each is handled once");
	is($node->safe_psql($db, q{
		SELECT count(*) FROM (SELECT position < lag(position) OVER (PARTITION BY key ORDER BY n) AS late
							  FROM effect) o WHERE late}),
		'0', "$name: in order") if $ordering eq 'key';

	# statistics may arrive a little after their session ended
	$node->poll_query_until($db, qq{
		SELECT sum(idx_tup_read) >= $before + 2 * $parked FROM pg_stat_all_indexes
		WHERE relid = 'outbox.delivery'::regclass});
	my $rows = rows_read() - $before;

	cmp_ok($rows, '<', 12 * $parked, "$name: a few looks at each");
	note(sprintf("%s: %d waited, %.1f rows looked at for each, %.0f events/s",
			$name, $parked, $rows / $parked, $parked / $took));
	$node->safe_psql($db, "SELECT outbox.unsubscribe('$name')");
	return;
}

drain('one_key', 'key', "'k'");
drain('many_keys', 'key', '(i % 100)::text');
drain('no_order', 'none', "'k'");

$node->stop;
done_testing();
