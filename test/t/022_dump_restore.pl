# pg_dump and pg_restore take the log, its order, the subscriptions and how far
# each has come along; the restored database goes on where the dump was made.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $source = new_server('source', conf => ["outbox.partition_interval = '1s'"]);
my $other = new_server('other', conf => ["outbox.partition_interval = '1s'"]);
my $unloaded = new_server('unloaded', conf => ["shared_preload_libraries = ''"]);
my $dir = $source->basedir;

# What must be the same before and after.
my %state = (
	'log' => q{
		SELECT count(*), md5(string_agg(r::text, E'\n' ORDER BY "position"))
		FROM outbox.read(max_events => 1000000) r},
	'events' => q{
		SELECT count(*), md5(string_agg(e::text, E'\n' ORDER BY id)) FROM outbox.event e},
	'subscriptions' => q{
		SELECT string_agg(concat_ws(' ', id, name, owner, kind, types, handler_name, channel, max_attempts), E'\n' ORDER BY id)
		FROM outbox.subscription},
	'progress' => q{
		SELECT string_agg(concat_ws(' ', name, "position", delivered, failed, retrying, parked, dead), E'\n' ORDER BY name)
		FROM outbox.status},
	'dead letters' => q{
		SELECT string_agg(concat_ws(' ', subscription, "position", id, type, attempts, error), E'\n' ORDER BY "position")
		FROM outbox.dead_letter},
	'windows' => q{
		SELECT string_agg(a::text, E'\n' ORDER BY name, key) FROM outbox.aggregation a},
	'rules' => q{
		SELECT string_agg(r::text, E'\n' ORDER BY relation, name) FROM outbox.capture_rule r},
	'versions' => q{
		SELECT string_agg(concat_ws(' ', source, version, columns, since), E'\n' ORDER BY source, version)
		FROM outbox.schema_version},
	'types' => q{
		SELECT string_agg(concat_ws(' ', type, contract, description, registered_by, registered_at), E'\n' ORDER BY type)
		FROM outbox.event_type},
	'schedule' => q{
		SELECT string_agg(s::text, E'\n' ORDER BY id) FROM outbox.scheduled s},
	'keys' => q{
		SELECT string_agg(s::text, E'\n' ORDER BY key, consumer) FROM (
			SELECT * FROM outbox.seen_0 UNION ALL SELECT * FROM outbox.seen_1 UNION ALL SELECT * FROM outbox.seen_2) s},
	'effects' => q{
		SELECT count(*), md5(string_agg(concat_ws(' ', handler, id, number), E'\n' ORDER BY number)) FROM effect});

sub state_of
{
	my ($node, $database) = @_;

	return join("\n",
		map { "$_: " . $node->safe_psql($database, $state{$_}) } sort keys %state);
}

sub client_ok
{
	my ($node, $name, @command) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($ok, $out) = client($node, @command);

	# what is said wherever the extension is made without its library
	$out =~ s/^.*WARNING:  no worker will deliver events: pg_outbox is not preloaded\nHINT: .*\n//m
	  if $node->safe_psql('postgres', 'SHOW shared_preload_libraries') eq '';
	return ok($ok && $out eq '', $name) || diag($out);
}

# Restores and compares; then the log goes on, and nothing is handled twice.
sub restores
{
	my ($node, $database, $expected, $title, @command) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	client_ok($node, "$title: restores without a word", @command);
	# the subscriptions of a copy are paused, which nothing else is
	is(state_of($node, $database), $expected, "$title: everything is there");

	my ($code, $out, $err) = $node->psql($database, "SELECT outbox.publish('Strict', '0')");
	like($err, qr/"Strict" breaches its contract: is_strict\(data\)/, "$title: contracts hold");

	$node->safe_psql($database, q{
		SELECT outbox.resume(name) FROM outbox.status WHERE name <> 'resting';
		INSERT INTO orders (amount) VALUES (1), (2);
		SELECT outbox.publish('New', key => '1');
		SELECT outbox.publish('New', key => 'retry')});
	if ($node == $unloaded)
	{
		$node->safe_psql($database, 'CALL outbox.run()');
	}
	else
	{
		is($node->safe_psql($database, "SELECT outbox.wait('quick') AND outbox.wait('gather')"), 't', "$title: is served");
	}
	effects_are_exact($node, $database, 'quick', "$title: exactly once");
	is( $node->safe_psql($database, q{
			SELECT count(*) - (SELECT count(*) FROM outbox.event) AS unordered,
				   max("position") - count(*) AS gaps,
				   count(*) - count(DISTINCT id) AS repeated
			FROM outbox.read(max_events => 1000000)}),
		'0|0|0', "$title: every event has its one position");
	is( $node->safe_psql($database, q{
			SELECT string_agg(concat_ws(' ', type, headers ->> 'schema_version'), ',' ORDER BY "position")
			FROM outbox.read((SELECT outbox.head() - 4))}),
		'orders.inserted 2,orders.inserted 2,New,New', "$title: the new ones come last");
	is( $node->safe_psql($database, q{
			SELECT count(*) FROM (SELECT xid, count(DISTINCT "position" - rank) AS stretches
				FROM (SELECT xid, "position", rank() OVER (PARTITION BY xid ORDER BY "position") AS rank
					  FROM outbox.read(max_events => 1000000)) r GROUP BY xid) x
			WHERE stretches > 1}),
		0, "$title: no transactions are mingled");
	is( $node->safe_psql($database, q{
			SELECT outbox.publish('Keyed', idempotency_key => 'kept') = min(id), outbox.once('consumer', 1)
			FROM outbox.event WHERE type = 'Keyed'}),
		't|f', "$title: keys are remembered");
	is( $node->safe_psql($database, q{
			SELECT outbox.publish('Scheduled', idempotency_key => 'scheduled', deliver_at => '2999-12-31') IS NULL
			   AND outbox.cancel_scheduled(id) FROM outbox.scheduled}),
		't', "$title: what is scheduled can be cancelled");
	is( $node->safe_psql($database, q{
			SELECT string_agg(concat_ws(' ', key, state, events), ',' ORDER BY key) FROM outbox.aggregation}),
		'1 ["New"] 1,dead ["Fails"] 1,retry ["Fails", "Fails", "New"] 3', "$title: aggregates go on folding");
	$node->safe_psql('postgres', "DROP DATABASE $database");
	return;
}

# the source: events in the default partition and in others, subscriptions in
# every state, a dead letter, a retry to come, something parked behind it
$source->safe_psql('postgres', 'CREATE DATABASE shop');
install_orders($source, 'shop');
$source->safe_psql('shop', q{
	CREATE FUNCTION fails(event outbox.event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF event.data ? 'fail' THEN RAISE 'fails' USING ERRCODE = event.data ->> 'fail'; END IF;
	END $$;
	ALTER TABLE orders ADD COLUMN note text;
	CREATE TABLE gone (id integer PRIMARY KEY);
	SELECT outbox.capture('gone');
	DROP TABLE gone;
	CREATE FUNCTION is_strict(data jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT data = ''1''';
	SELECT outbox.register_type('Strict', 'is_strict(data)', 'is 1');
	SELECT outbox.register_type('Plain');
	CREATE FUNCTION gather(state jsonb, event outbox.event) RETURNS jsonb LANGUAGE sql AS
	$$ SELECT coalesce(state, '[]') || to_jsonb(event.type) $$;
	SELECT outbox.aggregate('gather', '{Fails,New}', 'Gathered', 'gather', quiet => '1 day');
	SELECT outbox.subscribe('quick', '{orders.*}', 'quick_handler');
	SELECT outbox.subscribe('fails', handler => 'fails', backoff => '1 day', max_backoff => '1 day');
	SELECT outbox.subscribe('channel', channel => 'c', concurrency => 2);
	SELECT outbox.subscribe('resting', handler => 'fails');
	SELECT outbox.pause('resting');
	SELECT outbox.publish('Fails', '{"fail": "OB002"}', 'dead');
	SELECT outbox.publish('Fails', '{"fail": "P0001"}', 'retry');
	SELECT outbox.publish('Fails', '{}', 'retry');
	SELECT outbox.publish('Keyed', idempotency_key => 'kept'), outbox.once('consumer', 1);
	SELECT outbox.publish('Scheduled', idempotency_key => 'scheduled', deliver_at => '2999-12-31')});
insert_orders($source, 'shop', 50);
$source->safe_psql('shop', "SELECT outbox.wait(timeout => '5 seconds')");
wait_until($source, 'shop',
	"SELECT count(*) > 3 FROM pg_inherits WHERE inhparent = 'outbox.event'::regclass",
	'there are partitions');
$source->safe_psql('shop', 'SELECT pg_sleep(1.2)');
insert_orders($source, 'shop', 50);
wait_for_effects($source, 'shop', 'quick', 100, 'the source has served');
# an old transaction, whose events the dump does not see
$source->safe_psql('shop', q{
	BEGIN;
	SELECT outbox.publish('Prepared');
	PREPARE TRANSACTION 'held'});
insert_orders($source, 'shop', 5);
wait_for_effects($source, 'shop', 'quick', 105, 'past an open transaction');
wait_until($source, 'shop',
	"SELECT bool_and(lag = 0) FROM outbox.status WHERE state <> 'paused'", 'all at the head');
my $expected = state_of($source, 'shop');
like($expected, qr/retrying|fails \d+/, 'there is something to compare');

client_ok($source, 'pg_dump, custom', 'pg_dump', '-Fc', '-f', "$dir/shop.custom", 'shop');
client_ok($source, 'pg_dump, plain', 'pg_dump', '-f', "$dir/shop.sql", 'shop');

foreach my $node ($source, $other, $unloaded)
{
	my $where = $node == $source ? 'same cluster' :
	  $node == $other ? 'another cluster' : 'another cluster without preload';

	restores($node, 'restored', $expected, "$where, in one transaction",
		'pg_restore', '-1', '-d', 'restored', "$dir/shop.custom");
	restores($node, 'restored', $expected, "$where, item by item",
		'pg_restore', '-d', 'restored', "$dir/shop.custom");
	restores($node, 'restored', $expected, "$where, in parallel",
		'pg_restore', '-j', '2', '-d', 'restored', "$dir/shop.custom");
	restores($node, 'restored', $expected, "$where, by psql",
		'psql', '-X', '-q', '-o', '/dev/null', '-v', 'ON_ERROR_STOP=1', '-d', 'restored', '-f', "$dir/shop.sql");
}
$source->safe_psql('shop', "ROLLBACK PREPARED 'held'");

# a log that has given no position yet: its events get theirs after the restore
$unloaded->safe_psql('postgres', 'CREATE DATABASE early');
$unloaded->safe_psql('postgres', 'SELECT pg_current_xact_id()') for 1 .. 100;
install_orders($unloaded, 'early');
$unloaded->safe_psql('early', "SELECT outbox.subscribe('quick', '{orders.*}', 'quick_handler')");
insert_orders($unloaded, 'early', 10);
client_ok($unloaded, 'pg_dump before the first position', 'pg_dump', '-Fc', '-f', "$dir/early.custom", 'early');
my $young = new_server('young');
foreach my $node ($unloaded, $young, $source)
{
	my $where = $node == $unloaded ? 'same cluster' : $node == $young ? 'younger cluster' : 'older cluster';

	$node->safe_psql('postgres', 'CREATE DATABASE restored');
	client_ok($node, "$where: restores events without positions",
		'pg_restore', '-1', '-d', 'restored', "$dir/early.custom");
	insert_orders($node, 'restored', 10);
	if ($node == $unloaded)
	{
		$node->safe_psql('restored', 'CALL outbox.run()');
	}
	else
	{
		is($node->safe_psql('restored', 'SELECT outbox.wait()'), 't', "$where: they are served");
	}
	is( $node->safe_psql('restored', 'SELECT count(*), max("position") FROM outbox.read()'),
		'20|20', "$where: each has a position");
	effects_are_exact($node, 'restored', 'quick', "$where: exactly once");
}

# docs/migrations.md: a file of the structure for version control, which has
# nothing that changes from day to day, and captures where it is loaded
client_ok($unloaded, 'pg_dump of the structure without the log', 'pg_dump', '--schema-only', '--exclude-schema=outbox',
	'-f', "$dir/structure.sql", 'early');
unlike(PostgreSQL::Test::Cluster->can('new') ? PostgreSQL::Test::Utils::slurp_file("$dir/structure.sql")
	: TestLib::slurp_file("$dir/structure.sql"),
	qr/event_p\d|"subscription /, 'no partition and no subscription is in it');
$unloaded->safe_psql('postgres', 'CREATE DATABASE structure');
$unloaded->safe_psql('structure', 'CREATE EXTENSION pg_outbox');
client_ok($unloaded, 'it is loaded behind CREATE EXTENSION', 'psql', '-X', '-q', '-o', '/dev/null', '-v', 'ON_ERROR_STOP=1',
	'-d', 'structure', '-f', "$dir/structure.sql");
insert_orders($unloaded, 'structure', 3);
is($unloaded->safe_psql('structure', 'SELECT count(*), min(source) FROM outbox.event'), '3|public.orders',
	'tables are captured in it');

$_->stop foreach ($source, $other, $unloaded, $young);
done_testing();
