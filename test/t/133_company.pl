# Handlers that only work once per transaction or session are served by workers,
# too: no event is failed by another one, each has its effect once.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $node = new_server('company');
my $db = 'postgres';

$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	CREATE TABLE effect (handler text, position bigint, key text, number bigserial);
	CREATE FUNCTION with_table(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		CREATE TEMP TABLE work ON COMMIT DROP AS SELECT e.key AS key;
		INSERT INTO public.effect SELECT outbox.current_subscription(), outbox.current_position(), key FROM work;
	END $$;
	CREATE FUNCTION prepares(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE format('PREPARE %I AS SELECT 1', e.key);
		INSERT INTO public.effect SELECT outbox.current_subscription(), outbox.current_position(), e.key;
		IF right(e.key, 2) = '50' THEN
			RAISE 'it fails';
		END IF;
	END $$;
	SELECT outbox.subscribe('with_table', handler => 'with_table', max_attempts => 2);
	SELECT outbox.subscribe('lanes', handler => 'with_table', max_attempts => 2, concurrency => 3);
	SELECT outbox.subscribe('prepares', handler => 'prepares', max_attempts => 2, backoff => '10 milliseconds');
	SELECT count(outbox.publish('a', key => 'k' || g)) FROM generate_series(1, 2000) g});

for my $name (qw(with_table lanes))
{
	is($node->safe_psql($db, "SELECT outbox.wait('$name', '120 seconds')"), 't', "$name: all are handled");
	is($node->safe_psql($db, "SELECT delivered, failed, dead FROM outbox.status WHERE name = '$name'"),
		'2000|0|0', "$name: and none failed");
}
wait_until($node, $db, "SELECT delivered + dead = 2000 FROM outbox.status WHERE name = 'prepares'",
	'what fails is tried again and given up');
is($node->safe_psql($db, "SELECT delivered, failed, dead FROM outbox.status WHERE name = 'prepares'"),
	'1980|40|20', 'what fails by itself, and nothing else, has used up its attempts');
is($node->safe_psql($db, q{
	SELECT handler, count(*), count(DISTINCT position) FROM effect GROUP BY 1 ORDER BY 1}),
	"lanes|2000|2000\nprepares|1980|1980\nwith_table|2000|2000", 'each effect is there once');
is($node->safe_psql($db, q{
	SELECT count(*) FROM (SELECT position < lag(position) OVER (ORDER BY number) AS falls FROM effect WHERE handler = 'with_table') s WHERE falls}),
	0, 'and in order');
$node->stop;
done_testing();
