# The index on (xid, id), which is written many entries at a time, comes out
# of a crash and onto a standby as it was.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $db = 'postgres';
my $events = 0;
my $node = new_server('index', standby => 1, conf => ["checkpoint_timeout = 1h"]);

$node->safe_psql($db, <<'SQL');
CREATE EXTENSION pg_outbox;
CREATE EXTENSION amcheck;
CREATE TABLE item (id int PRIMARY KEY, name text);
SELECT outbox.capture('item');
SQL

sub insert
{
	my ($count) = @_;
	$node->safe_psql($db,
		"INSERT INTO item SELECT n, 'item ' || n FROM generate_series($events + 1, $events + $count) n"
	);
	$events += $count;
	return;
}

# Every row is found through the index, and every entry is in order.
sub index_is_sound
{
	my ($server, $name) = @_;
	my $found = $server->safe_psql($db, <<'SQL');
SELECT count(bt_index_check(indexrelid, true)) > 0 FROM pg_inherits JOIN pg_index ON indrelid = inhrelid
WHERE inhparent = 'outbox.event'::regclass;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SELECT count(*) FROM outbox.event WHERE xid > '0' AND id > 0;
SQL
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($found, "t\n$events", $name);
	return;
}

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('index_standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;

$node->safe_psql($db, 'CHECKPOINT');
insert(1000);
$node->safe_psql($db, 'CHECKPOINT');
insert($_) for 3000, 1, 7, 8, 9, 2000;
index_is_sound($node, 'as written');

$node->stop('immediate');
$node->start;
$node->poll_query_until($db, 'SELECT true');
index_is_sound($node, 'after a crash');
insert(2000);
index_is_sound($node, 'and after more');

$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
index_is_sound($standby, 'on a standby');

$standby->stop;
$node->stop;
done_testing();
