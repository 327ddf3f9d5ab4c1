# Without shared_preload_libraries everything works but the processes.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $node = new_server('unloaded', conf => ["shared_preload_libraries = ''"]);

install_orders($node, 'postgres');
$node->safe_psql('postgres', "SELECT outbox.subscribe('s', handler => 'quick_handler')");
insert_orders($node, 'postgres', 10);
is($node->safe_psql('postgres', 'SELECT count(*) FROM outbox.worker'), 0, 'no processes');
is($node->safe_psql('postgres', 'SELECT worker FROM outbox.status'),
	'no worker: the library is not preloaded', 'as outbox.status says');
$node->safe_psql('postgres', 'CALL outbox.run()');
effects_are_exact($node, 'postgres', 'quick', 'run() serves, exactly once');

# loaded at the start of sessions, which is too late for processes
$node->append_conf('postgresql.conf', "session_preload_libraries = 'pg_outbox'");
$node->restart;
insert_orders($node, 'postgres', 10);
$node->safe_psql('postgres', 'CALL outbox.run()');
effects_are_exact($node, 'postgres', 'quick', 'loaded late, exactly once');

# preloaded: what has piled up is served
insert_orders($node, 'postgres', 10);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_outbox'");
$node->restart;
wait_for_effects($node, 'postgres', 'quick', 30, 'served by processes once preloaded');
effects_are_exact($node, 'postgres', 'quick', 'exactly once');

$node->stop;
done_testing();
