# No id is drawn twice, and ids keep to the order of what depends on one another:
# while the counter is set back and ahead, and gets another file, under writers;
# after a crash and a promotion; in a copy of the database, and in another
# database that has the extension anew.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IPC::Run;
use OutboxServer;
use Test::More;

my $db = 'postgres';
my $node = new_server(
	'ids',
	standby => 1,
	conf    => [ "checkpoint_timeout = 1h", "synchronous_commit = off", "wal_keep_size = 1GB", "outbox.max_workers = 0" ]);
my $server = $node;

$node->safe_psql($db, <<'SQL');
CREATE EXTENSION pg_outbox;
CREATE TABLE item (id bigserial PRIMARY KEY, changed int DEFAULT 0);
INSERT INTO item SELECT FROM generate_series(1, 4);
SELECT outbox.capture('item');
SQL
my $script = $node->basedir . '/row.sql';
PostgreSQL::Test::Utils::append_to_file($script, <<'SQL');
\set row random(1, 4)
UPDATE item SET changed = changed + 1 WHERE id = :row;
INSERT INTO item DEFAULT VALUES;
SELECT outbox.publish('Said');
SQL

sub write_rows
{
	my ($database, $transactions) = @_;

	return IPC::Run::start(
		[ 'pgbench', '-n', '-c', 8, '-j', 2, '-t', $transactions, '-f', $script, $server->connstr($database) ],
		'>', $node->basedir . '/pgbench.out', '2>&1');
}

sub ids_are_sound
{
	my ($database, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is( $server->safe_psql($database, <<'SQL'), "t\nt|0", $name);
SELECT outbox.wait(NULL, '3 min');
SELECT (SELECT count(*) = count(DISTINCT id) FROM outbox.event),
	(SELECT count(*) FROM (
		SELECT (data->>'changed')::int - lag((data->>'changed')::int, 1, 0) OVER (PARTITION BY key ORDER BY position) AS step
		FROM outbox.read(0, 1000000, '{item.updated}')) s
	 WHERE step <> 1);
SQL
	return;
}

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('ids_standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;

ok(write_rows($db, 100)->finish, 'rows are written');
my $writers = write_rows($db, 400);
$node->safe_psql($db, $_)
  foreach (
	"SELECT setval('outbox.event_id_seq', 1)",
	'ALTER SEQUENCE outbox.event_id_seq RESTART 7',
	"SELECT setval('outbox.event_id_seq', last_value + 1000) FROM outbox.event_id_seq",
	'CHECKPOINT',
	'ALTER SEQUENCE outbox.event_id_seq START WITH 5',
	'ALTER SEQUENCE outbox.event_id_seq RESTART 3',
	"SELECT setval('outbox.event_id_seq', 20, false)",
	"SELECT nextval('outbox.event_id_seq')");
ok($writers->finish, 'and go on while the counter is changed');
ids_are_sound($db, 'no id twice, and in order');

my $before = $node->safe_psql($db, 'SELECT last_value FROM outbox.event_id_seq');
my $id = $node->safe_psql($db, "SELECT outbox.publish('Next')");
is($id, $before + 1, 'the next id is the next one');

$writers = write_rows($db, 100000);
wait_until($node, $db, 'SELECT count(*) > 8000 FROM item', 'more are written');
$node->stop('immediate');
$writers->finish;
$node->start;
wait_for_recovery($node);
ok(write_rows($db, 20)->finish, 'and after a crash');
ids_are_sound($db, 'no id twice after a crash');

# another file of the sequence has the counter, but not what was logged for it
$node->safe_psql($db, q{
	SELECT outbox.publish('Before') FROM generate_series(1, 3);
	ALTER SEQUENCE outbox.event_id_seq START WITH 1});
my $given = $node->safe_psql($db, q{
	SELECT max(outbox.publish('After')) FROM generate_series(1, 5)});
$node->stop('immediate');
$node->start;
wait_for_recovery($node);
cmp_ok($node->safe_psql($db, "SELECT outbox.publish('Next')"), '>', $given, 'ids go on after ALTER SEQUENCE and a crash');
ids_are_sound($db, 'no id twice after both');

# a copy goes on by itself, and a database with the extension anew begins at 1
$node->safe_psql($db, 'CREATE DATABASE fresh');
$node->safe_psql('fresh', 'CREATE EXTENSION pg_outbox');
is($node->safe_psql('fresh', "SELECT outbox.publish('One')"), 1, 'ids of another database are its own');
is( $node->safe_psql('fresh', <<'SQL'), "2\n1\n2", 'and of an extension that is made anew');
SELECT outbox.publish('Two');
DROP EXTENSION pg_outbox;
CREATE EXTENSION pg_outbox;
SELECT outbox.publish('One');
SELECT outbox.publish('Two');
SQL
is( $node->safe_psql('fresh', <<'SQL'), "3|5", 'ids of what was taken back are not given again');
BEGIN; SELECT outbox.publish('Three') AS three \gset
ROLLBACK;
BEGIN; SAVEPOINT s; SELECT outbox.publish('Four') \gset
ROLLBACK TO s; SELECT outbox.publish('Five') AS five \gset
COMMIT;
SELECT :three, :five;
SQL

my $highest = $node->safe_psql($db, 'SELECT max(id) FROM outbox.event');
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
$node->stop('immediate');
$standby->promote;
$server = $standby;
cmp_ok($standby->safe_psql($db, "SELECT outbox.publish('Promoted')"), '>', $highest, 'ids go on after a promotion');
ok(write_rows($db, 20)->finish, 'and rows are written');
ids_are_sound($db, 'no id twice after a promotion');

$standby->stop;
done_testing();
