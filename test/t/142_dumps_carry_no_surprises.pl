# What roles wrote into their names, settings and ids is data in a dump: a
# superuser who restores it runs nothing of theirs, and the log has room to go on.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $node = new_server('dumped');
my $dir = $node->basedir;
my $trap = "ran";
chdir($dir) or die;

# Restores a database as a superuser does, by plain psql.
sub restore
{
	my ($from, $to, $encoding, @options) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $to TEMPLATE template0 ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C'");
	$node->command_ok([ 'pg_dump', @options, '-f', "$dir/$to.sql", $node->connstr($from) ], "$to: is dumped");
	$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/$to.sql", $node->connstr($to) ], "$to: is restored");
}

$node->safe_psql('postgres', "CREATE DATABASE source TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'");
$node->safe_psql('source', qq{
	CREATE EXTENSION pg_outbox;
	CREATE ROLE mallory LOGIN;
	GRANT EXECUTE ON ALL ROUTINES IN SCHEMA outbox TO mallory;
	CREATE SCHEMA mallory AUTHORIZATION mallory});
my $line = "\n\\! touch $trap\n";
$node->safe_psql('source', qq{
	SET client_encoding = 'UTF8';
	SET ROLE mallory;
	SELECT set_config('search_path', format('mallory, %I', \$x\$a$line\$x\$), false);
	CREATE TABLE mallory.ran (what text, as_whom text);
	CREATE FUNCTION mallory.spy(what text) RETURNS boolean LANGUAGE plpgsql AS \$\$
		BEGIN INSERT INTO mallory.ran VALUES (what, current_user); RETURN true; END \$\$;
	CREATE DOMAIN mallory.checked AS text CHECK (mallory.spy('domain'));
	CREATE FUNCTION mallory.handle(e outbox.event) RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN PERFORM mallory.spy('handler'); END \$\$;
	SELECT outbox.subscribe(\$x\$"';\$\$ x\\.$line\$x\$, handler => 'mallory.handle', filter => \$x\$mallory.spy('filter') /* $line */\$x\$);
	SELECT outbox.subscribe(\$x\$$line\$x\$ || repeat('é', 40), types => ARRAY['\\.', \$x\$a$line\$x\$]);
	SELECT outbox.subscribe('channel', channel => \$x\$a"$line\$x\$);
	SELECT outbox.register_type(\$x\$\\.$line\$x\$, 'mallory.spy(''contract'')');
	CREATE TABLE mallory.orders (id integer PRIMARY KEY, note text);
	SELECT outbox.capture('mallory.orders', type => \$x\$q'; \$\$$line\$x\$,
		condition => \$x\$mallory.spy('condition') AND new.note = 'x'::mallory.checked\$x\$);
	SELECT outbox.publish('first', key => \$x\$\\.$line\$x\$);
	SELECT outbox.once('x', 9223372036854775000)});
$node->safe_psql('source', "SELECT outbox.wait(); DELETE FROM mallory.ran");

foreach my $way ([ 'copied', 'LATIN1' ], [ 'inserted', 'LATIN1', '--column-inserts' ], [ 'recoded', 'UTF8' ])
{
	my ($to, $encoding, @options) = @$way;

	restore('source', $to, $encoding, @options);
	ok(!-e $trap, "$to: no name is a command of psql");
	is($node->safe_psql($to, 'SELECT * FROM mallory.ran'), '', "$to: nothing of mallory's has run");
	cmp_ok($node->safe_psql($to, "SELECT outbox.publish('second')"), '<', 1e9, "$to: ids go on near by");
	is($node->safe_psql($to, "SELECT outbox.resume(name) FROM outbox.status; SELECT outbox.wait(timeout => '60 s')") =~ s/^\n+//r, 't', "$to: the log is served");
	is($node->safe_psql($to, q{SELECT count(*) > 0, string_agg(DISTINCT as_whom, ',') FROM mallory.ran}),
		't|mallory', "$to: and then everything runs as mallory");
	is($node->safe_psql($to, q{
		SELECT outbox.unsubscribe(name) FROM outbox.status;
		SELECT outbox.unregister_type(type) FROM outbox.event_type;
		SELECT typname FROM pg_type WHERE typnamespace = 'outbox'::regnamespace AND NOT typisdefined}) =~ s/^\n+//r,
		'', "$to: no type stays that stands for nothing");
}

$node->stop;
done_testing();
