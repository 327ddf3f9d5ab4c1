# A subscription that cannot run waits without a loop of crashes or complaints,
# and goes on by itself within seconds once it can; others do not notice.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;
use Time::HiRes qw(sleep);

my $node = new_server('broken');
my $db = 'postgres';

install_orders($node, $db);
$node->safe_psql($db, q{
	CREATE ROLE app LOGIN;
	CREATE ROLE successor LOGIN;
	GRANT ALL ON SCHEMA public TO app, successor;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA outbox TO app;
	SELECT outbox.subscribe('other', handler => 'quick_handler');
	SET SESSION AUTHORIZATION app;
	CREATE FUNCTION app_handler(e jsonb) RETURNS void LANGUAGE sql AS $$
		INSERT INTO public.effect (handler, id) VALUES ('app', (e->'data'->>'id')::integer) $$;
	SELECT outbox.subscribe('app', handler => 'app_handler', concurrency => 3);
});

sub state_is
{
	my ($state, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until($node, $db,
		"SELECT state = '$state' FROM outbox.status WHERE name = 'app'", $name);
}

sub all_is_well
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->poll_query_until($db,
		"SELECT state = 'active' AND lag = 0 FROM outbox.status WHERE name = 'app'");
	return effects_are_exact($node, $db, 'app', $name);
}

insert_orders($node, $db, 5);
all_is_well('it runs');

# ---- the handler is gone, comes back with another signature, and as it was ----

$node->safe_psql($db, 'ALTER FUNCTION app_handler(jsonb) RENAME TO former');
insert_orders($node, $db, 5);
state_is('broken', 'without a handler it is broken');
wait_for_effects($node, $db, 'quick', 10, 'the other one goes on');
wait_until($node, $db, "SELECT count(*) = 1 FROM outbox.failure WHERE position IS NULL", 'it was tried');
my $noted = $node->safe_psql($db, "SELECT xmin FROM outbox.failure WHERE position IS NULL");

$node->safe_psql($db, 'CREATE FUNCTION app_handler(e outbox.event) RETURNS void LANGUAGE sql AS $$ $$');
sleep 16;
state_is('broken', 'nor does one with another signature do');
is($node->safe_psql($db, "SELECT xmin FROM outbox.failure WHERE position IS NULL"),
	$noted, 'trying again writes nothing');

$node->safe_psql($db, 'ALTER FUNCTION former(jsonb) RENAME TO app_handler');
my $began = time;
all_is_well('it goes on by itself');
cmp_ok(time - $began, q(<), 10, "within seconds, however long it was broken");

# ---- the owner may not execute it ----

$node->safe_psql($db, 'ALTER FUNCTION app_handler(jsonb) OWNER TO postgres;
	REVOKE EXECUTE ON FUNCTION app_handler(jsonb) FROM PUBLIC, app');
insert_orders($node, $db, 5);
state_is('broken', 'without EXECUTE it is broken');
wait_until($node, $db, "SELECT count(*) = 1 FROM outbox.failure WHERE position IS NULL", 'it was tried');
$node->safe_psql($db, 'GRANT EXECUTE ON FUNCTION app_handler(jsonb) TO app');
all_is_well('it goes on by itself');

# ---- the owner is dropped while its session lives ----

$node->safe_psql($db, q{
	ALTER EVENT TRIGGER outbox_capture_follow_drop DISABLE;
	DROP OWNED BY app;
	ALTER EVENT TRIGGER outbox_capture_follow_drop ENABLE ALWAYS;
	DROP ROLE app;
	GRANT EXECUTE ON FUNCTION app_handler(jsonb) TO PUBLIC;
});
insert_orders($node, $db, 5);
state_is('broken', 'without an owner it is broken');
wait_for_effects($node, $db, 'quick', 20, 'the other one goes on');
sleep 2;
is($node->safe_psql($db, "SELECT count(*) FROM effect WHERE handler = 'app'"),
	15, 'nobody acts for a role that is gone');
$node->safe_psql($db, "SELECT outbox.alter_subscription('app', owner => 'successor')");
all_is_well('another owner takes over');
is($node->safe_psql($db, "SELECT DISTINCT role FROM effect WHERE handler = 'app' AND id > 15"),
	'successor', 'and it is the one that acts');

# ---- what all that left in the log ----

my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
my @complaints = $log =~ /(subscription "app" cannot run: .*)/g;

cmp_ok(scalar @complaints, '<', 15, 'each trouble was said a few times at most') or diag(join "\n", @complaints);
unlike($log, qr/terminated by signal|PANIC|TRAP/, 'nothing crashed');

$node->stop;
done_testing();
