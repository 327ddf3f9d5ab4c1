# Commands that need a database, or the extension, for themselves are not kept
# waiting by handlers, however long these take.
use strict;
use warnings;

use File::Path qw(make_path);
use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $node = new_server('ddl');

sub busy_database
{
	my ($database) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	install_orders($node, $database);
	$node->safe_psql($database, "UPDATE nap SET seconds = 600;
		SELECT outbox.subscribe('s', handler => 'slow_handler', timeout => '0')");
	insert_orders($node, $database, 1);
	return is_busy($database);
}

# until a handler sleeps in it
sub is_busy
{
	my ($database) = @_;

	return $node->poll_query_until('postgres',
		"SELECT count(*) > 0 FROM pg_stat_activity
		 WHERE datname = '$database' AND backend_type = 'pg_outbox dispatcher'
		   AND wait_event = 'PgSleep'");
}

# lets the handler finish, and it has its effect once
sub finishes
{
	my ($database, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->safe_psql($database, "UPDATE nap SET seconds = 0;
		SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND backend_type = 'pg_outbox dispatcher'");
	wait_for_effects($node, $database, 'slow', 1, $name);
	return effects_are_exact($node, $database, 'slow', "$name, exactly once");
}

make_path($node->basedir . '/space');
$node->safe_psql('postgres',
	"CREATE TABLESPACE space LOCATION '" . $node->basedir . "/space'");

ok(busy_database('db'), 'a handler sleeps for minutes');
quick($node, 'postgres', 'CREATE DATABASE db_copy TEMPLATE db', 'use as a template');
is($node->safe_psql('db', 'SELECT count(*) FROM effect'), 0, 'the handler left no effect');
ok(is_busy('db'), 'and the source is served again');
quick($node, 'postgres', 'ALTER DATABASE db RENAME TO db_renamed', 'rename');
ok(is_busy('db_renamed'), 'served after the rename');
quick($node, 'postgres', 'ALTER DATABASE db_renamed SET TABLESPACE space', 'move');
ok(is_busy('db_renamed'), 'served after the move');
finishes('db_renamed', 'served to the end');
quick($node, 'postgres', 'DROP DATABASE db_renamed', 'drop');
quick($node, 'postgres', 'DROP DATABASE db_copy', 'drop of the copy');

# WITH (FORCE) is not undone by a worker that comes back
ok(busy_database('forced'), 'a handler sleeps');
quick($node, 'postgres', 'DROP DATABASE forced WITH (FORCE)', 'drop with force');

# a drop that fails leaves the database served; one that may not be run, too
ok(busy_database('kept'), 'a handler sleeps');
my $session = $node->background_psql('kept');
$session->query_safe('SELECT 1') if $session->can('query_safe');
$node->psql('postgres', 'DROP DATABASE kept');
ok(is_busy('kept'), 'served after a drop that failed');
if ($session->can('quit')) { $session->quit } else { $session->finish }
$node->safe_psql('postgres', 'CREATE ROLE nobody LOGIN');
my $before = worker_pid($node, 'kept', 'dispatcher');
$node->psql('postgres', 'SET ROLE nobody; DROP DATABASE kept');
is(worker_pid($node, 'kept', 'dispatcher'), $before,
	'who may not drop the database does not disturb its workers');

# DROP EXTENSION, rolled back and not
quick($node, 'kept', 'BEGIN; DROP EXTENSION pg_outbox CASCADE; ROLLBACK',
	'drop of the extension, rolled back');
ok(is_busy('kept'), 'served after that');
quick($node, 'kept', 'BEGIN; DROP SCHEMA outbox CASCADE; ROLLBACK',
	'drop of the schema, rolled back');
ok(is_busy('kept'), 'served after that');
quick($node, 'kept', 'BEGIN; DROP OWNED BY CURRENT_USER; ROLLBACK', 'drop owned, rolled back')
  if $node->safe_psql('kept', "SELECT oid <> 10 FROM pg_roles WHERE rolname = current_user") eq 't';

# ALTER EXTENSION UPDATE
my $sharedir = `pg_config --sharedir`;
chomp $sharedir;
my $version = $node->safe_psql('kept',
	"SELECT extversion FROM pg_extension WHERE extname = 'pg_outbox'");
my $script = "$sharedir/extension/pg_outbox--$version--$version.test.sql";
SKIP:
{
	skip 'the installation cannot be written to', 6 unless -w "$sharedir/extension";
	open(my $file, '>', $script) or die "could not write $script: $!";
	print $file "COMMENT ON SCHEMA outbox IS 'updated';\n";
	close($file);
	quick($node, 'kept', "ALTER EXTENSION pg_outbox UPDATE TO '$version.test'", 'update');
	unlink($script);

	# its tables may not be those that the library knows
	wait_until($node, 'kept', q{SELECT count(*) = 0 FROM outbox.worker WHERE role = 'dispatcher'},
		'nobody is served while library and extension are of two versions');
	# by the sequencer, which may have to come back first
	my $says = qr/pg_outbox pauses in database "kept": its extension has version \Q$version\E\.test, the library \Q$version\E\n/;
	for (1 .. 1800)
	{
		last if server_log($node) =~ $says;
		select(undef, undef, undef, 0.1);
	}
	like(server_log($node), $says, 'which the log says');
	my ($status, undef, $error) = $node->psql('kept', 'CALL outbox.run()');
	like($error, qr/extension pg_outbox has version \Q$version\E\.test, the library \Q$version\E\n/, 'nor by run()');
	$node->safe_psql('kept', q{SELECT outbox.publish('Meanwhile')});
	$node->safe_psql('kept', "UPDATE pg_extension SET extversion = '$version' WHERE extname = 'pg_outbox'");
	ok(is_busy('kept'), 'served when they are of one');
}

# a role that has subscriptions
$node->safe_psql('kept', 'CREATE ROLE clerk LOGIN; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA outbox TO clerk;
	SET ROLE clerk');
$node->safe_psql('kept', "SET SESSION AUTHORIZATION clerk;
	SELECT outbox.subscribe('of_clerk', handler => 'slow_handler', start => 'beginning', timeout => '0')");
ok($node->poll_query_until('kept',
		"SELECT count(*) > 0 FROM pg_stat_activity
		 WHERE usename = 'clerk' AND backend_type = 'pg_outbox dispatcher' AND wait_event = 'PgSleep'"),
	'a handler of another role sleeps');
quick($node, 'kept', 'DROP OWNED BY clerk', 'what the role owns is dropped');
quick($node, 'kept', 'DROP ROLE clerk', 'the role is dropped');

# a handler that would have the extension for itself fails like any other
$node->safe_psql('kept', q{
	CREATE FUNCTION drop_it(event jsonb) RETURNS void LANGUAGE plpgsql AS
		$$ BEGIN DROP EXTENSION pg_outbox CASCADE; END $$;
	SELECT outbox.subscribe('dropper', '{Drop}', handler => 'drop_it', max_attempts => 1);
	SELECT outbox.publish('Drop')});
wait_until($node, 'kept',
	q{SELECT error = 'extension "pg_outbox" cannot be altered or dropped in a handler'
	  FROM outbox.dead_letter WHERE subscription = 'dropper'},
	'a handler that drops the extension has a dead letter');

quick($node, 'kept', 'DROP EXTENSION pg_outbox CASCADE', 'drop of the extension');
wait_until($node, 'kept',
	"SELECT count(*) = 0 FROM pg_stat_activity
	 WHERE backend_type LIKE 'pg_outbox%' AND datname = 'kept'",
	'no worker stays without the extension');
is($node->safe_psql('kept', 'SELECT count(*) FROM effect'), 0, 'no half-done handler left an effect');

$node->stop;
done_testing();
