# A transaction that has emitted many events may drop the extension, and create it
# again: what it has counted belongs to the log that is gone.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $node = new_server('main');
my $emit = 'INSERT INTO orders (amount) SELECT generate_series(1, 2000);';

install_orders($node, 'postgres');
$node->safe_psql('postgres', "BEGIN; $emit DROP EXTENSION pg_outbox CASCADE; COMMIT");
is($node->safe_psql('postgres', 'SELECT count(*) FROM orders'), 2000, 'the transaction commits without the extension');

$node->safe_psql('postgres', 'CREATE EXTENSION pg_outbox');
$node->safe_psql('postgres', q{
	SELECT outbox.capture('orders');
	SELECT outbox.subscribe('quick', '{orders.*,New}', 'quick_handler')});
$node->safe_psql('postgres', qq{
	BEGIN; $emit
	DROP EXTENSION pg_outbox CASCADE;
	CREATE EXTENSION pg_outbox;
	COMMIT});
$node->safe_psql('postgres', "SELECT outbox.publish('New')");
is($node->safe_psql('postgres', "SELECT outbox.wait(timeout => '30 s')"), 't', 'the new log gives positions');
is($node->safe_psql('postgres', q{SELECT string_agg("position" || ' ' || type, ',') FROM outbox.read()}),
	'1 New', 'and has the events that were emitted into it');

$node->safe_psql('postgres', qq{
	SELECT outbox.capture('orders');
	BEGIN; $emit
	DROP EXTENSION pg_outbox CASCADE;
	CREATE EXTENSION pg_outbox;
	SELECT outbox.capture('orders'); $emit
	COMMIT});
is($node->safe_psql('postgres', "SELECT outbox.wait(timeout => '30 s')"), 't', 'also where both had events');
is($node->safe_psql('postgres', 'SELECT outbox.head(), count(*), count(DISTINCT id) FROM outbox.event'),
	'2000|2000|2000', 'and counts those of its own');

$node->stop;
done_testing();
