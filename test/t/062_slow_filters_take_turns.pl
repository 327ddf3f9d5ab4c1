# A filter that takes long, and lets nothing pass, takes turns with others on
# the only worker, like a slow handler does.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;
use Time::HiRes qw(time);

my $node = new_server('filters', conf => ["outbox.max_workers = 1"]);
my $db = 'postgres';

install_orders($node, $db);
$node->safe_psql($db, q{
	CREATE FUNCTION dislikes(data jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_sleep(0.05);
		RETURN false;
	END $$;
	CREATE FUNCTION batch_handler(events outbox.event[]) RETURNS void LANGUAGE sql AS $$ $$;
	SELECT outbox.subscribe('slow', handler => 'quick_handler', filter => 'dislikes(data)'),
		   outbox.subscribe('slow batch', handler => 'batch_handler', filter => 'dislikes(data)');
});
insert_orders($node, $db, 300);
wait_until($node, $db,
	"SELECT count(*) = 2 FROM outbox.status WHERE name LIKE 'slow%' AND position > 0", 'both have begun');

$node->safe_psql($db, "SELECT outbox.subscribe('quick', channel => 'quick')");
$node->safe_psql($db, "SELECT outbox.publish('quick')");
my $began = time;
is($node->safe_psql($db, "SELECT outbox.wait('quick', '60 s')"), 't', 'another one is served');
cmp_ok(time - $began, '<', 5, 'in between');
is($node->safe_psql($db, "SELECT bool_or(lag > 0) FROM outbox.status WHERE name LIKE 'slow%'"),
	't', 'while they are at work');

$node->stop;
done_testing();
