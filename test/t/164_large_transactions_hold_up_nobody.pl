# Giving positions to a transaction costs the same whatever its size: also where
# it is aborted, rolled back in part, prepared, or goes on.  The positions are
# those that its events would be counted for.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

# without workers, so that nobody else counts
my $node = new_server('large',
	conf => [ "shared_preload_libraries = ''", 'fsync = off', 'autovacuum = off', 'outbox.retention = -1' ]);
my $db = 'postgres';
my $n = 20_000;

$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	CREATE TABLE item (i integer PRIMARY KEY);
	SELECT outbox.capture('item');
	CALL outbox.run();
	-- events that are committed, in the order of their transactions
	CREATE VIEW wrong AS
	SELECT p.position FROM (
		SELECT r.position, r.id, row_number() OVER (ORDER BY t.n, r.id) AS n
		FROM outbox.read(0, 1000000) r
		JOIN (SELECT xid, row_number() OVER (ORDER BY min(position)) AS n FROM outbox.read(0, 1000000) GROUP BY xid) t USING (xid)) p
	WHERE p.position <> p.n});

# The rows of the log that sessions fetched or stepped over, while they ran a
# statement and ended.
sub looked_at
{
	my ($statement) = @_;
	my $query = q{
		SELECT sum(idx_tup_read) FROM pg_stat_all_indexes
		WHERE schemaname = 'outbox' AND relname ~ '^event_(p|default)' OR indexrelname = 'tally_xid_idx'};
	my $before = $node->safe_psql($db, $query);

	$node->safe_psql($db, "$statement; SELECT outbox.publish('After')");
	$node->safe_psql($db, 'CALL outbox.run()');
	$node->poll_query_until($db, "SELECT ($query) > $before");
	return $node->safe_psql($db, $query) - $before;
}

sub head
{
	return $node->safe_psql($db, 'SELECT outbox.head()');
}

sub costs_little
{
	my ($name, $events, $statement) = @_;
	my $before = head();

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	cmp_ok(looked_at($statement), '<', 1500, "$name: no event is looked at");
	is(head() - $before, $events + 1, "$name: each has a position");
	is($node->safe_psql($db, 'SELECT count(*) FROM wrong'), 0, "$name: in order");
	return;
}

my $insert = "INSERT INTO item SELECT (SELECT coalesce(max(i), 0) FROM item) + s FROM generate_series(1, $n) s";

costs_little('committed', $n, $insert);
costs_little('by single events', 3000, q{
	DO $$ BEGIN FOR i IN 1..3000 LOOP PERFORM outbox.publish('Single'); END LOOP; END $$});
costs_little('aborted', 0, "BEGIN; $insert; ROLLBACK");
costs_little('rolled back to a savepoint', 7, qq{
	BEGIN;
	SELECT outbox.publish('Kept') FROM generate_series(1, 3);
	SAVEPOINT one;
	$insert;
	ROLLBACK TO one;
	SELECT outbox.publish('Kept') FROM generate_series(1, 4);
	COMMIT});
costs_little('rolled back altogether', 0, qq{
	BEGIN;
	SAVEPOINT one;
	$insert;
	ROLLBACK TO one;
	COMMIT});
costs_little('in nested savepoints', 2 * $n + 5, qq{
	BEGIN;
	SAVEPOINT one;
	$insert;
	SAVEPOINT two;
	SELECT outbox.publish('Lost');
	SAVEPOINT three;
	$insert;
	ROLLBACK TO two;
	SELECT outbox.publish('Kept') FROM generate_series(1, 2);
	SAVEPOINT four;
	$insert;
	RELEASE four;
	RELEASE one;
	SELECT outbox.publish('Kept') FROM generate_series(1, 3);
	COMMIT});
costs_little('prepared', $n, "BEGIN; $insert; PREPARE TRANSACTION 'large'; COMMIT PREPARED 'large'");
costs_little('prepared and rolled back', 0, "BEGIN; $insert; PREPARE TRANSACTION 'large'; ROLLBACK PREPARED 'large'");

# across partitions
$node->append_conf('postgresql.conf', "outbox.partition_interval = '1s'");
$node->reload;
$node->safe_psql($db, 'CALL outbox.run()');
costs_little('across partitions', 6000, q{
	DO $$
	BEGIN
		FOR i IN 1..3 LOOP
			INSERT INTO item SELECT (SELECT max(item.i) FROM item) + s FROM generate_series(1, 2000) s;
			PERFORM pg_sleep(1);
		END LOOP;
	END $$});

# one that goes on while others get positions, and commits in the end
my $open = $node->can('background_psql') ? $node->background_psql($db) : undef;
SKIP:
{
	skip 'needs a background session', 6 unless defined $open;
	costs_little('meanwhile', 0, 'SELECT 1');
	$open->query_safe("BEGIN; $insert");
	costs_little('while one goes on', 0, 'SELECT 1');
	$open->query_safe('COMMIT');
	costs_little('when it has ended', $n, 'SELECT 1');
	$open->quit;
}

is($node->safe_psql($db, 'SELECT count(*) FROM outbox.tally'), 0, 'nothing is left of the counts');

# what is known of a transaction goes where it goes
$node->safe_psql($db, "BEGIN; $insert; PREPARE TRANSACTION 'crash'");
$node->stop('immediate');
$node->start;
costs_little('after a crash', $n, "COMMIT PREPARED 'crash'");

my ($code, $out, $err) = $node->psql($db, "INSERT INTO outbox.tally VALUES ('1', 1, 1, 1, now(), now())");
like($err, qr/cannot load rows into "outbox.tally"/, 'nobody can write counts');

$node->stop;
done_testing();
