# Many subscriptions at one place read the log once: what one of them has read
# is there for the others, however little of it matches.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

# without workers, so that nobody else counts
my $node = new_server('shared', conf => ["shared_preload_libraries = ''"]);
my $db = 'postgres';
my $events = 20_000;

$node->safe_psql($db, qq{
	CREATE EXTENSION pg_outbox;
	CREATE TABLE effect (subscription text, position bigint);
	CREATE FUNCTION note(event outbox.event) RETURNS void LANGUAGE sql AS \$\$
		INSERT INTO effect VALUES (outbox.current_subscription(), outbox.current_position()) \$\$;
	CREATE FUNCTION ignore(events outbox.event[]) RETURNS void LANGUAGE sql AS \$\$ SELECT \$\$;
	SELECT count(outbox.publish('Type' || i % 1000, key => i::text)) FROM generate_series(1, $events) i;
});

# Rows of the log that sessions which have ended found by an index.
sub rows_read
{
	return $node->safe_psql($db, q{
		SELECT coalesce(sum(idx_tup_read), 0) FROM pg_stat_all_indexes
		WHERE schemaname = 'outbox' AND relname LIKE 'event%'});
}

# How often each event was read, in one call of run().
sub reads_per_event
{
	my $before = rows_read();

	$node->safe_psql($db, 'CALL outbox.run()');
	is($node->safe_psql($db, 'SELECT count(*) FROM outbox.status WHERE lag > 0'), 0, 'all is dealt with');

	# statistics may arrive a little after their session ended
	$node->poll_query_until($db, qq{
		SELECT sum(idx_tup_read) >= $before + $events FROM pg_stat_all_indexes
		WHERE schemaname = 'outbox' AND relname LIKE 'event%'});
	return (rows_read() - $before) / $events;
}

$node->safe_psql($db, 'CALL outbox.run()');
foreach my $case (
	[ 'one', q{1}, q{'{*}'}, q{'ignore'}, '' ],
	[ 'all match', q{10}, q{'{*}'}, q{'ignore'}, '' ],
	[ 'few match', q{10}, q{ARRAY['Type' || i]}, q{'note'}, '' ],
	[ 'none matches', q{10}, q{ARRAY['Other' || i]}, q{'note'}, '' ],
	[ 'lanes', q{3}, q{'{*}'}, q{'ignore'}, ', concurrency => 4' ],
	# a batch of those that match is filled sooner: they fall behind the others
	[ 'all and few', q{10}, q{CASE WHEN i % 2 = 0 THEN '{*}' ELSE ARRAY['Type' || i] END}, q{'ignore'}, '', 2 ])
{
	my ($name, $count, $types, $handler, $options, $times) = @$case;

	$node->safe_psql($db, qq{
		SELECT outbox.subscribe('s' || i, $types, handler => $handler, start => 'beginning' $options)
		FROM generate_series(1, $count) i});
	my $reads = reads_per_event();

	note(sprintf('%s: %.3f reads for each event', $name, $reads));
	$times //= 1;
	cmp_ok($reads, '<', 1.2 * $times, "$name: the log is read $times times");
	$node->safe_psql($db, 'SELECT outbox.unsubscribe(name) FROM outbox.status');
}
is($node->safe_psql($db, q{SELECT count(*), count(DISTINCT (subscription, position)) FROM effect}),
	join('|', 10 * $events / 1000, 10 * $events / 1000), 'what matched was handled once');

$node->stop;
done_testing();
