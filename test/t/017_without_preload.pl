# Without shared_preload_libraries everything works but the processes.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $node = new_server('unloaded', conf => ["shared_preload_libraries = ''"]);

# a warning with the line to add, where it is made and where it is used
sub warning
{
	my ($sql) = @_;
	my $err;
	$node->psql('postgres', $sql, stderr => \$err);
	return $err;
}
my $warning = qr/WARNING:  no worker will deliver events: pg_outbox is not preloaded/;
my $line = qr/HINT:  Set shared_preload_libraries = 'pg_outbox' in postgresql\.conf and restart/;
like(warning('CREATE EXTENSION pg_outbox'), qr/$warning\s.*$line/s, 'CREATE EXTENSION warns');
$node->safe_psql('postgres', 'DROP EXTENSION pg_outbox');
install_orders($node, 'postgres');
like(warning("SELECT outbox.subscribe('s', handler => 'quick_handler')"), qr/$warning\s.*$line/s,
	'subscribe warns');
like(warning(q{
		CREATE FUNCTION fold(state jsonb, e outbox.event) RETURNS jsonb LANGUAGE sql AS $$ SELECT state $$;
		SELECT outbox.aggregate('a', '{Nothing}', 'Folded', 'fold', max_events => 1000)}),
	qr/$warning/, 'aggregate warns');
is(warning("SELECT outbox.unsubscribe('a'); SET outbox.max_workers = 0; SELECT outbox.subscribe('q', '{Nothing}', handler => 'quick_handler')"),
	'', 'but not where no workers are wanted');
$node->safe_psql('postgres', "SELECT outbox.unsubscribe('q')");
insert_orders($node, 'postgres', 10);
is($node->safe_psql('postgres', 'SELECT count(*) FROM outbox.worker'), 0, 'no processes');
is($node->safe_psql('postgres', 'SELECT worker FROM outbox.status'),
	'no worker: the library is not preloaded', 'as outbox.status says');
$node->safe_psql('postgres', 'CALL outbox.run()');
effects_are_exact($node, 'postgres', 'quick', 'run() serves, exactly once');

# a session that never loads the library gives all to another role
$node->safe_psql('postgres', q{
	CREATE ROLE former LOGIN;
	CREATE ROLE latter LOGIN SUPERUSER;
	ALTER ROLE latter SET search_path = public;
	SELECT outbox.subscribe('given', '{given}', 'quick_handler');
	SELECT outbox.alter_subscription('given', owner => 'former')});
$node->safe_psql('postgres', 'REASSIGN OWNED BY former TO latter; DROP ROLE former');
is($node->safe_psql('postgres', "SET ROLE latter; CALL outbox.run(); SELECT owner::text || ' ' || search_path FROM outbox.subscription WHERE name = 'given'"),
	'latter public', 'run() knows whose a subscription is');
$node->safe_psql('postgres', "SELECT outbox.unsubscribe('given')");

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
