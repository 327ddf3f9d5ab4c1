# Owners as whom no worker can connect keep nobody else from being served,
# however many they are, and are forgotten with their subscriptions.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $node = new_server('refused', conf => ['max_worker_processes = 8']);

install_orders($node, 'postgres');
$node->safe_psql('postgres', q{
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA outbox TO public;
	REVOKE CONNECT ON DATABASE postgres FROM public;
	DO $$
	BEGIN
		FOR i IN 1 .. 150 LOOP
			EXECUTE format('CREATE ROLE loser_%s %s', i,
				CASE i % 2 WHEN 0 THEN 'LOGIN' ELSE 'NOLOGIN' END);
			EXECUTE format('SET SESSION AUTHORIZATION loser_%s', i);
			PERFORM outbox.subscribe('lost_' || i, handler => 'quick_handler');
			RESET SESSION AUTHORIZATION;
		END LOOP;
	END $$;
	CREATE ROLE winner LOGIN;
	GRANT CONNECT ON DATABASE postgres TO winner;
	SET SESSION AUTHORIZATION winner;
	SELECT outbox.subscribe('won', handler => 'slow_handler');});
insert_orders($node, 'postgres', 10);
wait_for_effects($node, 'postgres', 'slow', 10, 'the one who can connect is served');
wait_until($node, 'postgres',
	"SELECT count(*) FILTER (WHERE state = 'refused') = 150 FROM outbox.worker",
	'all who cannot are shown');
$node->safe_psql('postgres', 'CREATE DATABASE other');
install_orders($node, 'other');
$node->safe_psql('other', "SELECT outbox.subscribe('s', handler => 'quick_handler')");
insert_orders($node, 'other', 10);
wait_for_effects($node, 'other', 'quick', 10, 'another database is served');
insert_orders($node, 'postgres', 10);
wait_for_effects($node, 'postgres', 'slow', 20, 'and so is theirs');
is($node->safe_psql('postgres', "SELECT count(*) FROM effect WHERE handler = 'quick'"),
	0, 'nothing ran for those who are refused');

# one is given what it lacks
$node->safe_psql('postgres', 'ALTER ROLE loser_3 LOGIN; GRANT CONNECT ON DATABASE postgres TO loser_3');
wait_until($node, 'postgres',
	"SELECT count(*) = 20 FROM effect WHERE role = 'loser_3'", 'who may connect now is served');
wait_until($node, 'postgres',
	"SELECT count(*) = 0 FROM outbox.worker WHERE owner = 'loser_3'::regrole AND state = 'refused'",
	'and not shown any more');

# who waits in vain is told why
my $err;
# from 17 on a worker connects as a role that may not log in
my $why = $node->safe_psql('postgres', 'SHOW server_version_num') < 170000
  ? 'The role is not permitted to log in.'
  : 'The role does not have CONNECT privilege on the database.';
for my $case (
	[ 'lost_1', qr/"lost_1" is refused, since no worker can connect as its owner: \Q$why\E/ ],
	[ 'lost_2', qr/"lost_2" is refused.*CONNECT/ ],
	[ 'won', qr/"won" is paused by postgres, since 20/ ])
{
	$node->safe_psql('postgres', "SELECT outbox.pause('won')") if $case->[0] eq 'won';
	insert_orders($node, 'postgres', 1);
	$node->psql('postgres', "SELECT outbox.wait('$case->[0]', '2 s')", stderr => \$err);
	like($err, $case->[1], "outbox.wait says why $case->[0] is behind");
}

like($node->safe_psql('postgres', 'SELECT outbox.why_not_delivered(max(id)) FROM outbox.event'),
	qr/^lost_1: pending.*is refused.*^won: .*; the subscription is paused by postgres, since 20/ms,
	'outbox.why_not_delivered knows of it');
is( $node->safe_psql('postgres', q{SELECT worker, paused_by FROM outbox.status WHERE name IN ('lost_1', 'won') ORDER BY name}),
	"refused: $why|\n|postgres", 'and outbox.status');
is( $node->safe_psql('postgres', q{
		SELECT outbox.resume('won');
		SELECT count(*) FROM outbox.status WHERE name = 'won' AND worker IS NULL AND paused_by IS NULL AND paused_at IS NULL}),
	"\n1", 'which knows nothing against one that is served');

# they are forgotten with their subscriptions
$node->safe_psql('postgres',
	"SELECT count(outbox.unsubscribe(name)) FROM outbox.subscription WHERE name LIKE 'lost%'");
wait_until($node, 'postgres', "SELECT count(*) = 0 FROM outbox.worker WHERE state = 'refused'",
	'those who want nothing are not shown');

$node->stop;
done_testing();
