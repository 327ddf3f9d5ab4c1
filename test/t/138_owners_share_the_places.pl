# An owner whose lanes fill all places of a server and have work for hours does
# not keep the one lane of another owner waiting.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $node = new_server('owners', conf => ['outbox.max_workers = 2']);

# each call takes so long that going round all lanes takes minutes
$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_outbox;
	CREATE ROLE greedy LOGIN;
	CREATE ROLE modest LOGIN;
	CREATE TABLE effect (owner name);
	GRANT INSERT ON effect TO greedy, modest;
	CREATE FUNCTION handle(event outbox.event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF current_user = 'greedy' THEN PERFORM pg_sleep(0.2); END IF;
		INSERT INTO public.effect VALUES (current_user);
	END $$;
	GRANT EXECUTE ON FUNCTION outbox.subscribe TO greedy, modest;
	SET SESSION AUTHORIZATION greedy;
	SELECT count(outbox.subscribe('g' || i, handler => 'handle', concurrency => 1000)) FROM generate_series(1, 6) i;
	RESET SESSION AUTHORIZATION;
	SELECT count(outbox.publish('a', key => 'k' || i)) FROM generate_series(1, 20000) i});
wait_until($node, 'postgres', "SELECT count(*) > 5 FROM effect WHERE owner = 'greedy'", 'the greedy one is served');

$node->safe_psql('postgres', q{
	SET SESSION AUTHORIZATION modest;
	SELECT outbox.subscribe('m', handler => 'handle');
	RESET SESSION AUTHORIZATION;
	SELECT outbox.publish('a', key => 'm')});
wait_until($node, 'postgres', "SELECT count(*) > 0 FROM effect WHERE owner = 'modest'", 'the modest one is served');
cmp_ok($node->safe_psql('postgres', "SELECT count(*) FROM effect WHERE owner = 'greedy'"), '<', 300,
	'long before the greedy one has got round');
is($node->safe_psql('postgres', "SELECT worker FROM outbox.status WHERE name = 'm'"), '', 'it lacks nothing');
like($node->safe_psql('postgres', "SELECT string_agg(worker, '') FROM outbox.status WHERE name LIKE 'g%'"),
	qr/starved: lanes without a place/, 'as the other one does');

$node->stop('immediate');
done_testing();
