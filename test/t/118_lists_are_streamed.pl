# However many dead letters and parked events a subscription has: what is done
# to all of them, or to one, takes no memory for each.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

plan skip_all => 'memory is measured by /proc' unless -r '/proc/self/status';

# without workers; few buffers, since a session's memory includes those that it
# has touched
my $node = new_server('lists',
	conf => [ "shared_preload_libraries = ''", 'shared_buffers = 1MB', 'fsync = off' ]);
my $db = 'postgres';
my $rows = 30000;
my $bound = 6000;

# By how many kB a fresh session grows while it runs a query.
sub growth
{
	my ($query) = @_;
	my $memory = "SELECT 'peak ' || substring(pg_read_file('/proc/self/status') FROM 'VmHWM:\\s*(\\d+)')";
	my @peak = $node->safe_psql($db,
		"SELECT outbox.redrive('small'); SELECT outbox.discard('small'); $memory; $query; $memory")
	  =~ /^peak (\d+)$/mg;

	note("peaks in kB: @peak");
	return $peak[-1] - $peak[0];
}

# Dead letters of a subscription, in all of its lanes.
sub fill
{
	my ($name) = @_;

	by_hand($node, $db, 'delivery', qq{
		DELETE FROM outbox.delivery;
		INSERT INTO outbox.delivery (subscription, lane, "position", state, open, key_hash, xid,
			event_id, attempts, sqlstate, error, failed_at)
		SELECT s.id, i % s.concurrency, i, 'dead', false, i % 1000, '1', i, 5, 'P0001',
			repeat('x', 1000), now()
		FROM outbox.subscription s, generate_series(1, $rows) i WHERE s.name = '$name'});
	return;
}

sub counted
{
	my ($condition) = @_;

	return $node->safe_psql($db, "SELECT count(*) FROM outbox.delivery WHERE $condition");
}

$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	CREATE FUNCTION handler(event outbox.event) RETURNS void LANGUAGE sql AS $$ SELECT $$;
	SELECT outbox.subscribe('small', handler => 'handler');
	SELECT outbox.subscribe('large', handler => 'handler', concurrency => 8);
	SELECT outbox.publish('Some');
	CALL outbox.run();
});

fill('large');
cmp_ok(growth("SELECT outbox.redrive('large', 500)"), '<', 2000, 'redriving one');
is(counted("state = 'retry'"), 1, 'is redriving one');
cmp_ok(growth("SELECT outbox.redrive('large')"), '<', $bound, 'redriving all');
is(counted("state = 'dead'"), 0, 'leaves none');
is($node->safe_psql($db, q{
	SELECT count(*) FROM (
		SELECT state, row_number() OVER (PARTITION BY lane, key_hash ORDER BY "position") AS n
		FROM outbox.delivery) d
	WHERE (state = 'retry') <> (n = 1)}), 0, 'of each key the first one is tried');

cmp_ok(growth("SELECT outbox.alter_subscription('large', concurrency => 3)"), '<', $bound,
	'dividing lanes anew');
is(counted('lane > 2'), 0, 'moves all');
cmp_ok(growth("SELECT outbox.seek('large', to_position => 1)"), '<', $bound, 'seeking');
is(counted('true'), 0, 'drops all that waited');

fill('large');
cmp_ok(growth("SELECT outbox.discard('large')"), '<', $bound, 'discarding all');
is(counted('true'), 0, 'leaves none');

$node->stop;
done_testing();
