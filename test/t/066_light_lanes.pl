# Lanes in which next to nothing matches are left to one dispatcher, who serves
# them out of what it has read for the first; but none waits while that one is
# idle.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use List::Util qw(min);
use Test::More;

my $node = new_server('light', conf => [ 'outbox.max_workers = 10', 'max_worker_processes = 20' ]);
my $db = 'postgres';
my $events = 200_000;

$node->safe_psql($db, qq{
	CREATE EXTENSION pg_outbox;
	CREATE FUNCTION ignore(event outbox.event) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
	CREATE FUNCTION sleep(event outbox.event) RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(1)';
	SELECT count(outbox.publish('Filled', key => i::text)) FROM generate_series(1, $events) i;
	SELECT outbox.wait()});

# A machine that has other work lets lanes wait, which others then may take, so
# what counts is the best of several times.
my @dispatchers;
for (1 .. 5)
{
	$node->restart;
	$node->safe_psql($db, q{
		SELECT outbox.subscribe('s' || i, CASE i WHEN 1 THEN '{Filled}' ELSE '{Other}' END::text[],
			handler => 'ignore', start => 'beginning') FROM generate_series(1, 10) i});
	is($node->safe_psql($db, q{SELECT outbox.wait(NULL, '5 minutes')}), 't', 'ten subscriptions are served');
	push @dispatchers,
	  $node->safe_psql($db, q{SELECT count(*) FROM outbox.worker WHERE role = 'dispatcher'});
	$node->safe_psql($db, 'SELECT outbox.unsubscribe(name) FROM outbox.status');
}
note("dispatchers: @dispatchers");
cmp_ok(min(@dispatchers), '<', 5, 'no dispatcher for each that finds next to nothing');

# Handlers that sleep have many dispatchers started.
$node->safe_psql($db, q{
	SELECT outbox.subscribe('s' || i, '{Greeting}', handler => 'sleep') FROM generate_series(1, 10) i;
	SELECT outbox.publish('Greeting')});
is($node->safe_psql($db, q{
		SELECT outbox.wait();
		SELECT count(*) FROM outbox.worker WHERE role = 'dispatcher'}) =~ s/\s+/ /r,
	't 10', 'a dispatcher for each that takes long');
$node->safe_psql($db, 'SELECT outbox.unsubscribe(name) FROM outbox.status');

my @took;
for (1 .. 10)
{
	push @took, $node->safe_psql($db, q{
		SELECT clock_timestamp() AS began \gset
		SELECT outbox.subscribe('new', '{Greeting}', handler => 'ignore', start => outbox.head()::text);
		SELECT outbox.wait('new') \gset
		SELECT extract(epoch FROM clock_timestamp() - :'began') * 1000}) =~ s/\s//gr;
	$node->safe_psql($db, q{SELECT outbox.unsubscribe('new')});
}
note("milliseconds: @took");
cmp_ok(min(@took), '<', 40, 'an idle dispatcher takes a new subscription at once');

$node->stop;
done_testing();
