# Subscriptions with more lanes together than the workers of a server have
# places for: all are served, and other databases and owners are, too.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $node = new_server('lanes');

$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_outbox;
	CREATE TABLE effect (subscription text, key text);
	CREATE FUNCTION handle(event outbox.event) RETURNS void LANGUAGE sql AS
	$$ INSERT INTO public.effect VALUES (outbox.current_subscription(), event.key) $$;
	SELECT count(outbox.subscribe('s' || i, handler => 'handle', concurrency => 128))
	FROM generate_series(1, 40) i;
	SELECT count(outbox.publish('a', key => 'k' || i)) FROM generate_series(1, 20) i});
wait_until($node, 'postgres', 'SELECT count(*) = 800 FROM effect', 'every subscription is served');
wait_until($node, 'postgres', "SELECT count(*) > 0 FROM outbox.status
	WHERE worker ~ '^starved: lanes without a place in the queue: [0-9]+ of 128\$'", 'those that take turns are shown');

$node->safe_psql('postgres', 'CREATE DATABASE other');
install_orders($node, 'other');
$node->safe_psql('other', "SELECT outbox.subscribe('s', handler => 'quick_handler')");
insert_orders($node, 'other', 10);
wait_for_effects($node, 'other', 'quick', 10, 'another database is served, too');

$node->safe_psql('postgres', q{SELECT count(outbox.publish('a', key => 'm' || i)) FROM generate_series(1, 20) i});
wait_until($node, 'postgres', 'SELECT count(*) = 1600 FROM effect', 'every subscription is served again');
is($node->safe_psql('postgres', 'SELECT count(*) FROM (SELECT FROM effect GROUP BY subscription, key HAVING count(*) > 1) x'),
	0, 'exactly once');

my $err;
$node->psql('postgres', "SELECT outbox.subscribe('t' || i, handler => 'handle', concurrency => 1000)
	FROM generate_series(1, 15) i", stderr => \$err);
like($err, qr/too many lanes of subscriptions/, 'there is a limit for each owner');

$node->stop;
done_testing();
