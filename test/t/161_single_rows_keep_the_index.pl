# The index on (xid, id), to whose last page single rows are added without a
# descent, is sound where 16 sessions write rows one by one, from an empty index
# to one of several levels; while it is vacuumed and built anew; with entries of
# old transactions that come late; after a crash, and on a standby.  The server
# compares every page that it replays with what it was.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IPC::Run;
use OutboxServer;
use Test::More;

my $db = 'postgres';
my $clients = 16;
my $node = new_server(
	'single',
	standby => 1,
	conf    => [
		"checkpoint_timeout = 1h",
		"wal_consistency_checking = 'btree, sequence'",
		"synchronous_commit = off",
		"wal_keep_size = 2GB",
		"max_wal_size = 4GB",
		"max_connections = 40",
		"outbox.max_workers = 0"
	]);

$node->safe_psql($db, <<'SQL');
CREATE EXTENSION pg_outbox;
CREATE EXTENSION amcheck;
CREATE TABLE item (id bigserial PRIMARY KEY, client int, name text, changed int DEFAULT 0);
INSERT INTO item (client) SELECT n FROM generate_series(0, 31) n;
SELECT outbox.capture('item');
SELECT outbox.publish('Begun');
SQL
wait_until($node, $db, "SELECT count(*) > 1 FROM pg_inherits WHERE inhparent = 'outbox.event'::regclass",
	'there is a partition for now');

my $one = $node->basedir . '/one.sql';
PostgreSQL::Test::Utils::append_to_file($one, <<'SQL');
INSERT INTO item (client, name) VALUES (:client_id, 'one');
UPDATE item SET changed = changed + 1 WHERE id = 1 + :client_id;
SQL
my $late = $node->basedir . '/late.sql';
PostgreSQL::Test::Utils::append_to_file($late, <<'SQL');
\set wait random(1, 20)
BEGIN;
INSERT INTO item (client, name) VALUES (:client_id, 'first');
\sleep :wait ms
INSERT INTO item (client, name) VALUES (:client_id, 'late');
SAVEPOINT part;
INSERT INTO item (client, name) VALUES (:client_id, 'taken back');
ROLLBACK TO part;
INSERT INTO item (client, name) VALUES (:client_id, 'last');
COMMIT;
SQL

sub write_rows
{
	my ($transactions) = @_;

	return IPC::Run::start(
		[   'pgbench', '-n', '-c', $clients, '-j', 2, '-t', $transactions, '-f', "$one\@8", '-f',
			"$late\@1", $node->connstr($db)
		],
		'>', $node->basedir . '/pgbench.out', '2>&1');
}

# Every row is found through the index, in order, and every entry has its row.
sub index_is_sound
{
	my ($server, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is( $server->safe_psql($db, <<'SQL'), "t\nt", $name);
SELECT count(bt_index_parent_check(indexrelid, true, true)) > 0 FROM pg_inherits JOIN pg_index ON indrelid = inhrelid
WHERE inhparent = 'outbox.event'::regclass;
CREATE TEMP TABLE counted AS SELECT count(*), count(DISTINCT id) AS ids FROM outbox.event;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SELECT (SELECT count = ids FROM counted) AND (SELECT count FROM counted) =
	(SELECT count(*) FROM outbox.event WHERE xid > '0' AND id > 0);
SQL
	return;
}

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('single_standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;

ok(write_rows(60)->finish, 'rows are written into an empty index');
index_is_sound($node, 'sound as written');

my $writers = write_rows(500);
for (1 .. 3)
{
	$node->safe_psql($db, <<'SQL');
SELECT format('VACUUM %s', inhrelid::regclass) FROM pg_inherits
WHERE inhparent = 'outbox.event'::regclass ORDER BY inhrelid \gexec
SELECT format('REINDEX INDEX CONCURRENTLY %s', indexrelid::regclass) FROM pg_inherits JOIN pg_index ON indrelid = inhrelid
WHERE inhparent = 'outbox.event'::regclass ORDER BY indexrelid \gexec
SELECT format('REINDEX INDEX %s', indexrelid::regclass) FROM pg_inherits JOIN pg_index ON indrelid = inhrelid
WHERE inhparent = 'outbox.event'::regclass ORDER BY indexrelid \gexec
CHECKPOINT
SQL
}
ok($writers->finish, 'rows are written while the index is vacuumed and built anew');
index_is_sound($node, 'sound after that');

$writers = write_rows(100000);
wait_until($node, $db, 'SELECT count(*) > 15000 FROM item', 'many rows are written');
$node->stop('immediate');
$writers->finish;
$node->start;
wait_for_recovery($node);
index_is_sound($node, 'sound after a crash');
ok(write_rows(60)->finish, 'rows are written after it');
index_is_sound($node, 'and after more');
is( $node->safe_psql($db, <<'SQL'), 't', 'every committed change has its event');
SELECT (SELECT count(*) FROM outbox.event WHERE type = 'item.inserted') = (SELECT count(*) - 32 FROM item) AND
	(SELECT count(*) FROM outbox.event WHERE type = 'item.updated') = (SELECT sum(changed) FROM item)
SQL

# a change is after the one that it depends on
is( $node->safe_psql($db, <<'SQL'), "t\n0", 'and the order of a row is that of its versions');
SELECT outbox.wait(NULL, '3 min');
SELECT count(*) FROM (
	SELECT (data->>'changed')::int - lag((data->>'changed')::int, 1, 0) OVER (PARTITION BY key ORDER BY position) AS step
	FROM outbox.read(0, 1000000, '{item.updated}')) s
WHERE step <> 1
SQL

$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is( $standby->safe_psql($db, <<'SQL'), 't', 'sound on a standby');
SELECT count(bt_index_check(indexrelid, true)) > 0 FROM pg_inherits JOIN pg_index ON indrelid = inhrelid
WHERE inhparent = 'outbox.event'::regclass;
SQL

$standby->stop;
$node->stop;
done_testing();
