# A standby serves nothing, and everything once it is promoted.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $node = new_server('primary', standby => 1);

install_orders($node, 'postgres');
$node->safe_psql('postgres', "SELECT outbox.subscribe('s', handler => 'quick_handler')");
insert_orders($node, 'postgres', 10);
wait_for_effects($node, 'postgres', 'quick', 10, 'the primary serves');

$node->backup('backup');
my $standby = new_node('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
insert_orders($node, 'postgres', 10);
wait_for_effects($node, 'postgres', 'quick', 20, 'the primary serves on');
wait_until($standby, 'postgres',
	"SELECT count(DISTINCT id) = 20 FROM effect", 'the standby sees it');
is( $standby->safe_psql('postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_outbox%'"),
	0, 'no process on a standby');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM outbox.worker'), 0,
	'and outbox.worker says so');

$node->stop('fast');
$standby->promote;
wait_for_worker($standby, 'postgres', 'sequencer', 'a sequencer after promotion');
insert_orders($standby, 'postgres', 10);
wait_for_effects($standby, 'postgres', 'quick', 30, 'the promoted one serves');
effects_are_exact($standby, 'postgres', 'quick', 'exactly once');

$standby->stop;
done_testing();
