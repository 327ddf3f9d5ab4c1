# What a process remembers does not grow with what it has served, and what is
# cleaned up behind subscriptions is cleaned up in bounded steps.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

# without workers, so that it is known which process does it
my $node = new_server('cleaning', conf => [ "shared_preload_libraries = ''", 'fsync = off' ]);
my $db = 'postgres';

$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	CREATE FUNCTION handler(event outbox.event) RETURNS void LANGUAGE sql AS $$ SELECT $$;
});

# ---- lanes ----

SKIP:
{
	skip 'contexts cannot be seen before 14', 3
	  if $node->safe_psql($db, "SELECT current_setting('server_version_num')::integer") < 140000;

	$node->safe_psql($db, q{
		SELECT outbox.subscribe('wide' || i, handler => 'handler', concurrency => 1000)
		FROM generate_series(1, 4) i;
		SELECT outbox.publish('Some')});
	my ($served, $contexts, $bytes) = split /\|/, $node->safe_psql($db, q{
		CALL outbox.run();
		SELECT (SELECT count(*) FROM outbox.progress WHERE position > 0),
			count(*) FILTER (WHERE name = 'pg_outbox lane'),
			coalesce(sum(total_bytes) FILTER (WHERE name LIKE 'pg_outbox lane%'), 0)
		FROM pg_backend_memory_contexts});

	is($served, 4000, 'a session serves many lanes');
	is($contexts, 0, 'one that waits for nothing takes next to no memory');
	cmp_ok($bytes, '<', 700_000, 'and is forgotten');
	$node->safe_psql($db, 'SELECT outbox.unsubscribe(name) FROM outbox.status');
}

$node->stop;
done_testing();
