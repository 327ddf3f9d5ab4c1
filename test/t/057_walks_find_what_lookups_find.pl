# Who reads many transactions walks along the index; who reads one event looks
# it up.  Both must find the same, whatever lies in between: transactions of all
# sizes, in another order than they began, aborted ones, ones that are open.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $db = 'postgres';

# positions come when we say so, many transactions at a time
my $node = new_server('walks', conf => [
		"shared_preload_libraries = ''", 'max_prepared_transactions = 4', 'fsync = off',
		"outbox.partition_interval = '2s'"]);
$node->safe_psql($db, 'CREATE EXTENSION pg_outbox');

my %script = (
	single   => "SELECT outbox.publish('single');",
	rollback => "BEGIN; SELECT count(outbox.publish('rolled back')) FROM generate_series(1, :size); ROLLBACK;",
	many     => "SELECT count(outbox.publish('many')) FROM generate_series(1, :size);",
	undone   => q{DO $$ BEGIN PERFORM outbox.publish('before');
		BEGIN PERFORM outbox.publish('undone'); RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN END;
		PERFORM outbox.publish('after'); END $$;},
	# begins before and ends after others
	long => "BEGIN; SELECT outbox.publish('first'); SELECT pg_sleep(0.002 * :size);
		SAVEPOINT s; SELECT count(outbox.publish('undone')) FROM generate_series(1, :size); ROLLBACK TO s;
		SELECT outbox.publish('last'); COMMIT;");
my @files;
foreach my $name (sort keys %script)
{
	my $file = $node->basedir . "/$name.pgbench";

	open(my $out, '>', $file) or die "$file: $!";
	print $out "\\set size random(1, 40)\n", "$script{$name}\n";
	close($out);
	push @files, '-f', $file . ($name eq 'single' ? '@6' : '@1');
}

# Positions of what is there, and all of it by both ways.
sub compare
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->safe_psql($db, 'CALL outbox.run()');
	my $counts = $node->safe_psql($db, q{
		WITH walked AS (SELECT position, id, xid, type FROM outbox.read(0, 1000000)),
			looked_up AS (SELECT r.position, r.id, r.xid, r.type
				FROM generate_series(0, outbox.head() - 1) p, outbox.read(p, 1) r)
		SELECT count(*) = outbox.head(), count(w) = outbox.head(), count(l) = outbox.head(),
			count(*) FILTER (WHERE w IS DISTINCT FROM l),
			(SELECT count(*) FROM outbox.event) = outbox.head()
		FROM walked w FULL JOIN looked_up l USING (position)});
	is($counts, 't|t|t|0|t', "$name: the same events");
	return;
}

# One that stays open, with many events, and one that is prepared.
my $open = $node->background_psql($db, on_error_stop => 1);
$open->query_safe(q{BEGIN; SELECT count(outbox.publish('open')) FROM generate_series(1, 1000)});
$node->safe_psql($db, q{
	BEGIN; SELECT count(outbox.publish('prepared')) FROM generate_series(1, 3); PREPARE TRANSACTION 'p'});
foreach my $clients (8, 2, 1)
{
	$node->command_ok([ 'pgbench', '-n', '-c', $clients, '-t', 480 / $clients,
			"--random-seed=$clients", @files, $db ], "$clients clients");
	compare("$clients clients");
}
$open->query_safe(q{SELECT count(outbox.publish('open')) FROM generate_series(1, 10); COMMIT});
$open->quit;
$node->safe_psql($db, "COMMIT PREPARED 'p'");
compare('what was open');

# So far all of it is in the default partition: one that is open kept others
# from being made.  Once the first of those has begun, who walks one walks that too.
wait_until($node, $db, q{
	SELECT clock_timestamp() >= min(substring(bound FROM $$FROM \('([^']+)'\)$$)::timestamptz)
	FROM pg_class, pg_get_expr(relpartbound, oid) bound
	WHERE relispartition AND relnamespace = 'outbox'::regnamespace AND relkind = 'r' AND bound <> 'DEFAULT'},
	'a partition of its own has begun');
$node->command_ok([ 'pgbench', '-n', '-c', 4, '-t', 120, '--random-seed=4', @files, $db ], '4 clients');
compare('several partitions');
cmp_ok($node->safe_psql($db, q{SELECT count(*) FROM (SELECT DISTINCT tableoid FROM outbox.event) p}), '>', 1,
	'events are in several partitions');

my $disorder = $node->safe_psql($db, q{
	SELECT count(*) FROM (SELECT xid::text::bigint < lag(xid::text::bigint) OVER (ORDER BY position) AS falls
		FROM outbox.read(0, 1000000)) o WHERE falls});
cmp_ok($disorder, '>', 20, "their order is not that of the index: it falls $disorder times");

$node->stop;
done_testing();
