# The idempotency key of a scheduled event is taken for as long as it waits,
# however often the tables of keys are changed and emptied meanwhile, through a
# crash, a dump, and transactions that are prepared.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $node = new_server('kept', conf => ["outbox.idempotency_window = '1s'"]);

$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_outbox;
	SELECT outbox.publish('Later', idempotency_key => 'k' || n, deliver_at => '2999-12-31')
	FROM generate_series(1, 3) n});

# Says what becomes of it.
sub try_publish
{
	my ($key, $database) = @_;

	return $node->safe_psql($database // 'postgres',
		"SELECT outcome FROM outbox.try_publish('Now', idempotency_key => '$key')");
}

# Runs it in the background until it waits for a transaction; then what ends
# that is done.  Returns what it says.
sub try_behind
{
	my ($key, $then) = @_;
	my ($out, $err) = ('', '');
	my $session = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $node->connstr('postgres') . ' application_name=behind', '-c',
			"SELECT outcome FROM outbox.try_publish('Now', idempotency_key => '$key')" ],
		'<', \undef, '>', \$out, '2>', \$err);

	wait_until($node, 'postgres',
		"SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'behind' AND wait_event = 'transactionid')",
		"it waits until: $then");
	$node->safe_psql('postgres', $then);
	$session->finish;
	chomp $out;
	return $out . $err;
}

# each table is used and emptied
my $turn = 0;
for (1 .. 600)
{
	$node->safe_psql('postgres', q{
		SELECT outbox.publish('Other', idempotency_key => 'other ' || clock_timestamp());
		CALL outbox.run()});
	$turn = $node->safe_psql('postgres', 'SELECT coalesce(max(turn), 0) FROM outbox.seen_turn');
	last if $turn >= 4;
	select(undef, undef, undef, 0.1);
}
cmp_ok($turn, '>=', 4, 'the tables of keys were changed and emptied');
is(try_publish('k1'), 'duplicate', 'taken past the window, whatever was emptied');
$node->stop('immediate');
$node->start;
is(try_publish('k1'), 'duplicate', 'taken after a crash');

# prepared transactions are waited for like others
my $id = $node->safe_psql('postgres', "SELECT id FROM outbox.scheduled WHERE idempotency_key = 'k2'");
my $cancel = "BEGIN; SELECT outbox.cancel_scheduled($id); PREPARE TRANSACTION 'p'";
$node->safe_psql('postgres', $cancel);
is(try_behind('k2', "ROLLBACK PREPARED 'p'"), 'duplicate', 'a cancellation that was rolled back');
$node->safe_psql('postgres', $cancel);
is(try_behind('k2', "COMMIT PREPARED 'p'"), 'emitted', 'one that was committed frees the key');

my $schedule = q{BEGIN; SELECT outbox.publish('Later', idempotency_key => 'k4', deliver_at => '2999-12-31');
	PREPARE TRANSACTION 'p'};
$node->safe_psql('postgres', $schedule);
is(try_behind('k4', "ROLLBACK PREPARED 'p'"), 'emitted', 'the key of one that was not scheduled after all');
$schedule =~ s/k4/k5/;
$node->safe_psql('postgres', $schedule);
is(try_behind('k5', "COMMIT PREPARED 'p'"), 'duplicate', 'of one that was');

# elsewhere
my $dump = $node->basedir . '/dump';
$node->command_ok([ 'pg_dump', '-f', $dump, '-d', $node->connstr('postgres') ], 'dumped');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('copy'), '-f', $dump ], 'restored');
is(try_publish('k3', 'copy'), 'duplicate', 'taken after a restore');
$node->safe_psql('copy', "SELECT outbox.cancel_scheduled(id) FROM outbox.scheduled WHERE idempotency_key = 'k3'");
is(try_publish('k3', 'copy'), 'emitted', 'and freed there');
is(try_publish('k3'), 'duplicate', 'but not here');

$node->stop;
done_testing();
