# Databases are served without configuration, whenever and however they come.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $node = new_server('databases');

sub serves
{
	my ($database, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	insert_orders($node, $database, 3);
	wait_for_effects($node, $database, 'quick', 3, $name);
	return effects_are_exact($node, $database, 'quick', "$name, exactly once");
}

# a database that was there before the extension
install_orders($node, 'postgres');
$node->safe_psql('postgres', "SELECT outbox.subscribe('s', handler => 'quick_handler')");
serves('postgres', 'extension created later');

# one created later, and one that gets the extension in a transaction
$node->safe_psql('postgres', 'CREATE DATABASE later');
install_orders($node, 'later');
$node->safe_psql('later', "SELECT outbox.subscribe('s', handler => 'quick_handler')");
serves('later', 'database created later');

# an extension that was never committed is not served
$node->safe_psql('postgres', 'CREATE DATABASE never');
$node->safe_psql('never', 'BEGIN; CREATE EXTENSION pg_outbox; ROLLBACK');
wait_until($node, 'never',
	"SELECT count(*) = 0 FROM pg_stat_activity
	 WHERE backend_type LIKE 'pg_outbox%' AND datname = 'never'",
	'rolled back extension is not served');

# a template is not served, a database made from it is
$node->safe_psql('postgres', 'CREATE DATABASE pattern');
install_orders($node, 'pattern');
wait_for_worker($node, 'pattern', 'sequencer', 'pattern is served at first');
$node->safe_psql('postgres', 'ALTER DATABASE pattern IS_TEMPLATE true');
wait_until($node, 'postgres',
	"SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'pattern'",
	'workers leave a template');
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE pattern');
$node->safe_psql('copy', "SELECT outbox.subscribe('s', handler => 'quick_handler')");
serves('copy', 'database made from a template that has the extension');
# by us: autovacuum may look in
is( $node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity
		WHERE datname = 'pattern' AND backend_type LIKE 'pg_outbox%'"),
	0, 'the template stays alone');
$node->safe_psql('postgres', 'ALTER DATABASE pattern IS_TEMPLATE false');
wait_for_worker($node, 'pattern', 'sequencer', 'served again when no template any more');

# closed to connections
$node->safe_psql('postgres', 'ALTER DATABASE pattern ALLOW_CONNECTIONS false');
wait_until($node, 'postgres',
	"SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'pattern'",
	'workers leave a database that is closed');

# renamed
quick($node, 'postgres', 'ALTER DATABASE later RENAME TO renamed', 'rename');
serves_more('renamed', 'renamed database');

# dropped, created anew under the same name
quick($node, 'postgres', 'DROP DATABASE renamed', 'drop');
$node->safe_psql('postgres', 'CREATE DATABASE renamed');
install_orders($node, 'renamed');
$node->safe_psql('renamed', "SELECT outbox.subscribe('s', handler => 'quick_handler')");
serves('renamed', 'database of the same name');

# and all of them after a restart
$node->restart;
serves_more($_, "$_ after restart") for qw(postgres copy renamed);

# the extension dropped and created again
$node->safe_psql('copy', 'DROP TABLE orders, effect, nap; DROP EXTENSION pg_outbox CASCADE;
	DROP FUNCTION IF EXISTS quick_handler(jsonb), slow_handler(jsonb)');
wait_until($node, 'copy',
	"SELECT count(*) = 0 FROM pg_stat_activity
	 WHERE backend_type LIKE 'pg_outbox%' AND datname = 'copy'",
	'workers leave with the extension');
install_orders($node, 'copy');
$node->safe_psql('copy', "SELECT outbox.subscribe('s', handler => 'quick_handler')");
serves('copy', 'extension created anew');

sub serves_more
{
	my ($database, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	insert_orders($node, $database, 3);
	my $count = $node->safe_psql($database, 'SELECT count(*) FROM orders');
	wait_for_effects($node, $database, 'quick', $count, $name);
	return effects_are_exact($node, $database, 'quick', "$name, exactly once");
}

$node->stop;
done_testing();
