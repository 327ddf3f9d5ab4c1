# Where a cluster's transaction counter was set back, no event is passed over
# without a word, although a subscription begins later than the last event.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $node = new_server('main');

sub set_counter
{
	my ($xid) = @_;

	$node->stop;
	is(system('pg_resetwal', '-f', '-x', $xid, $node->data_dir), 0, 'the counter is set');
	$node->start;
	return;
}

install_orders($node, 'postgres');
insert_orders($node, 'postgres', 1);
$node->safe_psql('postgres', 'SELECT outbox.wait()');
my $last = $node->safe_psql('postgres', 'SELECT max(xid::text::bigint) FROM outbox.event');
$node->safe_psql('postgres', q{
	DO $$ BEGIN
		FOR i IN 1..3000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP;
	END $$});
$node->safe_psql('postgres', "SELECT outbox.subscribe('quick', '{orders.*}', 'quick_handler', start => 'now')");

# what is there stays visible
$node->safe_psql('postgres', 'VACUUM FREEZE');
set_counter($last + 1000);
insert_orders($node, 'postgres', 1);
my ($out, $err);
isnt($node->psql('postgres', 'CALL outbox.run()', stdout => \$out, stderr => \$err), 0, 'run() fails');
like($err, qr/ERROR:  the log of pg_outbox comes from the future of this server/, 'and says why');
like($err, qr/HINT:  Was pg_resetwal run\?/, 'and asks what was done');
is($node->safe_psql('postgres', "SELECT outbox.wait('quick', '0 s')"), 'f', 'the event counts as handled by nobody');

set_counter($last + 10_000);
insert_orders($node, 'postgres', 1);
is($node->safe_psql('postgres', "SELECT outbox.wait('quick', '30 s')"), 't', 'with the counter ahead again it goes on');

$node->stop;
done_testing();
