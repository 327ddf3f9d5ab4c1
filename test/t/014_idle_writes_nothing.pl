# A server with nothing to do writes no WAL and takes no transaction ids; and
# settings of databases and roles do not hurt the workers.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

# without WAL of PostgreSQL's own, so that all of it is ours
my $node = new_server('idle',
	conf => [
		'wal_level = minimal', 'max_wal_senders = 0', 'autovacuum = off',
		'checkpoint_timeout = 1d', "outbox.poll_interval = '200ms'"
	]);

install_orders($node, 'postgres');
$node->safe_psql('postgres', "SELECT outbox.subscribe('s', handler => 'quick_handler')");
insert_orders($node, 'postgres', 100);
wait_for_effects($node, 'postgres', 'quick', 100, 'something was done before');

# settled: the same WAL position and transaction id over 20 polls
my $state = 'SELECT pg_current_wal_insert_lsn(), pg_snapshot_xmax(pg_current_snapshot())';
my $last  = '';
my $quiet = 0;
for (1 .. 30)
{
	my $now = $node->safe_psql('postgres', $state);
	$quiet = $now eq $last;
	last if $quiet;
	$last = $now;
	$node->safe_psql('postgres', 'SELECT pg_sleep(4)');
}
ok($quiet, 'no WAL and no transaction id in 20 polls');

# settings that would break a worker that relied on its own
$node->safe_psql('postgres', q{
	ALTER DATABASE postgres SET default_transaction_read_only = on;
	ALTER DATABASE postgres SET default_transaction_isolation = 'serializable';
	ALTER DATABASE postgres SET session_replication_role = 'replica';
	ALTER DATABASE postgres SET search_path = 'nowhere';
	ALTER DATABASE postgres SET statement_timeout = '1ms';
	ALTER DATABASE postgres SET lock_timeout = '1ms';
	ALTER DATABASE postgres SET idle_in_transaction_session_timeout = '1ms';
	ALTER DATABASE postgres SET synchronous_commit = off;
	ALTER DATABASE postgres SET row_security = off;});
$node->restart;
$node->safe_psql('template1', 'CREATE DATABASE other');
# they are for the workers: a millisecond may pass before a session of ours has
# reset its timeouts
{
	local $ENV{PGOPTIONS} = join(' ', map { "-c $_" } qw(
		statement_timeout=0 lock_timeout=0 idle_in_transaction_session_timeout=0
		default_transaction_read_only=off session_replication_role=origin search_path=public));

	insert_orders($node, 'postgres', 10);
	wait_until($node, 'postgres',
		"SELECT count(*) = 110 FROM effect WHERE handler = 'quick'",
		'served under hostile settings of the database');
}
$node->safe_psql('other', 'ALTER DATABASE postgres RESET ALL');

# settings of ours, changed at run time for one database
$node->safe_psql('postgres', 'ALTER DATABASE postgres SET outbox.max_workers = 0');
wait_until($node, 'postgres',
	"SELECT count(*) = 0 FROM outbox.worker WHERE role = 'dispatcher'", 'no dispatchers allowed');
insert_orders($node, 'postgres', 10);
wait_until($node, 'postgres', 'SELECT outbox.head() >= 120', 'sequenced all the same');
is($node->safe_psql('postgres', "SELECT count(*) FROM effect"), 110, 'and not dispatched');
$node->safe_psql('postgres', 'ALTER DATABASE postgres RESET outbox.max_workers');
wait_for_effects($node, 'postgres', 'quick', 120, 'dispatched when allowed again');
effects_are_exact($node, 'postgres', 'quick', 'exactly once');

# and by reload
$node->append_conf('postgresql.conf', 'outbox.max_workers = 0');
$node->reload;
wait_until($node, 'postgres',
	"SELECT count(*) = 0 FROM outbox.worker WHERE role = 'dispatcher'", 'none after a reload');

$node->stop;
done_testing();
