# What this server writes to foreign tables is captured, and what the apply
# worker of a logical subscription writes is where the rule says so.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Test::More;

use OutboxServer;

my $node = new_server('peers', conf => [ 'wal_level = logical', 'max_wal_senders = 8',
		'max_replication_slots = 8', 'max_worker_processes = 20' ]);
my $socket = $node->host;
my $port = $node->port;

$node->safe_psql('postgres', 'CREATE DATABASE here');
$node->safe_psql('postgres', 'CREATE DATABASE there');
$node->safe_psql('here', 'CREATE EXTENSION pg_outbox');

# What was emitted since the last call, by one rule: a line for each event.
my $mark = 0;

sub events
{
	my ($source, $columns) = @_;
	my $lines = $node->safe_psql('here', qq{
		SELECT $columns FROM outbox.event WHERE id > $mark AND source = '$source' ORDER BY id});

	$mark = $node->safe_psql('here', 'SELECT coalesce(max(id), 0) FROM outbox.event');
	return $lines;
}

# ---- foreign tables ----

subtest 'foreign tables' => sub
{
	my ($status) = $node->psql('here', 'CREATE EXTENSION postgres_fdw');
	plan skip_all => 'postgres_fdw is not installed' if $status != 0;

	$node->safe_psql('there', q{
		CREATE TABLE item (id integer PRIMARY KEY, v text, n numeric, made timestamptz DEFAULT '2000-01-01 00:00+00');
		CREATE TABLE part_far (id integer, region text, v text)});
	my $batches = $node->safe_psql('here', 'SHOW server_version_num') < 140000 ? '' : ", batch_size '10'";
	$node->safe_psql('here', qq{
		CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw
			OPTIONS (host '$socket', port '$port', dbname 'there'$batches);
		CREATE USER MAPPING FOR CURRENT_USER SERVER far;
		CREATE FOREIGN TABLE item (id integer NOT NULL, v text, n numeric) SERVER far;
		SELECT outbox.capture('item', key => '{id}')});

	$node->safe_psql('here', q{
		INSERT INTO item VALUES (1, 'one', 1.50), (2, 'two', NULL);
		INSERT INTO item SELECT i, 'v' || i FROM generate_series(3, 5) i;
		INSERT INTO item VALUES (1, 'again') ON CONFLICT DO NOTHING;
		COPY item (id, v) FROM PROGRAM 'echo 6,copied' (FORMAT csv)});
	is(events('public.item', "concat_ws(' ', type, key, data)"), join("\n",
		'item.inserted 1 {"n": 1.50, "v": "one", "id": 1}',
		'item.inserted 2 {"n": null, "v": "two", "id": 2}',
		(map { qq{item.inserted $_ {"n": null, "v": "v$_", "id": $_}} } 3 .. 5),
		'item.inserted 6 {"n": null, "v": "copied", "id": 6}'), 'inserts, also by COPY');

	$node->safe_psql('here', q{
		UPDATE item SET n = id * 2, v = v || '!' WHERE id < 3;
		UPDATE item SET v = v WHERE id = 3;
		UPDATE item SET id = 30 WHERE id = 3;
		WITH gone AS (DELETE FROM item WHERE id = 4 RETURNING *)
		UPDATE item SET v = gone.v FROM gone WHERE item.id = 5;
		BEGIN;
		SAVEPOINT s;
		DELETE FROM item;
		ROLLBACK TO s;
		DELETE FROM item WHERE id = 6;
		COMMIT;
		BEGIN;
		DELETE FROM item;
		ROLLBACK});
	is(events('public.item', "concat_ws(' ', type, key, data, old, headers - 'x')"), join("\n",
		'item.updated 1 {"n": 2, "v": "one!", "id": 1} {"n": 1.50, "v": "one"} {}',
		'item.updated 2 {"n": 4, "v": "two!", "id": 2} {"n": null, "v": "two"} {}',
		'item.updated 30 {"n": null, "v": "v3", "id": 30} {"id": 3} {"old_key": "3"}',
		'item.deleted 4 {"n": null, "v": "v4", "id": 4} {}',
		'item.updated 5 {"n": null, "v": "v4", "id": 5} {"v": "v5"} {}',
		'item.deleted 6 {"n": null, "v": "copied", "id": 6} {}'), 'updates and deletes');

	# what the other server does by itself is its own affair
	$node->safe_psql('there', "UPDATE item SET v = 'unseen'");
	is(events('public.item', 'type'), '', 'nothing of what others write');

	$node->safe_psql('here', q{
		CREATE TABLE part (id integer, region text, v text) PARTITION BY LIST (region);
		CREATE TABLE part_near PARTITION OF part FOR VALUES IN ('near');
		CREATE FOREIGN TABLE part_far PARTITION OF part FOR VALUES IN ('far') SERVER far;
		SELECT outbox.capture('part', key => '{id}');
		INSERT INTO part VALUES (1, 'near', 'a'), (2, 'far', 'b');
		INSERT INTO part_far VALUES (3, 'far', 'c');
		UPDATE part SET v = 'B' WHERE id = 2;
		UPDATE part SET region = 'far' WHERE id = 1 AND region = 'near';
		INSERT INTO part VALUES (4, 'far', 'd');
		DELETE FROM part WHERE id = 3});
	is(events('public.part', "concat_ws(' ', type, key, data, old, headers - 'moved_from')"), join("\n",
		'part.inserted 1 {"v": "a", "id": 1, "region": "near"} {"partition": "public.part_near"}',
		'part.inserted 2 {"v": "b", "id": 2, "region": "far"} {"partition": "public.part_far"}',
		'part.inserted 3 {"v": "c", "id": 3, "region": "far"} {"partition": "public.part_far"}',
		'part.updated 2 {"v": "B", "id": 2, "region": "far"} {"v": "b"} {"partition": "public.part_far"}',
		'part.deleted 1 {"v": "a", "id": 1, "region": "near"} {"partition": "public.part_near"}',
		'part.inserted 1 {"v": "a", "id": 1, "region": "far"} {"partition": "public.part_far"}',
		'part.inserted 4 {"v": "d", "id": 4, "region": "far"} {"partition": "public.part_far"}',
		'part.deleted 3 {"v": "c", "id": 3, "region": "far"} {"partition": "public.part_far"}'),
		'foreign partitions');
	is($node->safe_psql('here', q{
		SELECT i.key, i.id > d.id FROM outbox.event i JOIN outbox.event d ON d.id = (i.headers ->> 'moved_from')::bigint
		WHERE i.source = 'public.part' AND d.operation = 'delete' AND d.key = i.key}), '1|t',
		'a row that moves to one says where it comes from');
};

# ---- logical replication ----

subtest 'the apply worker' => sub
{
	my $tables = q{
		CREATE TABLE account (id integer PRIMARY KEY, v text, doc text);
		CREATE TABLE split (id integer, region text, v text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
		CREATE TABLE split_a PARTITION OF split FOR VALUES IN ('a');
		CREATE TABLE split_b PARTITION OF split FOR VALUES IN ('b');};

	$node->safe_psql('there', "$tables
		INSERT INTO account VALUES (1, 'there before');
		CREATE PUBLICATION all_of_it FOR TABLE account, split WITH (publish_via_partition_root = true);
		SELECT pg_create_logical_replication_slot('peers', 'pgoutput')");
	$node->safe_psql('here', "$tables
		ALTER TABLE account ADD COLUMN note text DEFAULT 'here';
		SELECT outbox.capture('account', name => 'origin', type => 'Origin');
		SELECT outbox.capture('account', replicated => true);
		SELECT outbox.capture('split', replicated => true);
		CREATE SUBSCRIPTION peers CONNECTION 'host=$socket port=$port dbname=there' PUBLICATION all_of_it
			WITH (create_slot = false, slot_name = 'peers')");
	my $synced = sub {
		my $lsn = $node->safe_psql('there', 'SELECT pg_current_wal_lsn()');
		$node->poll_query_until('there', qq{
			SELECT confirmed_flush_lsn >= '$lsn' FROM pg_replication_slots WHERE slot_name = 'peers'})
		  or die "the subscriber does not follow";
	};

	$node->poll_query_until('here', q{
		SELECT count(*) = 2 AND bool_and(srsubstate IN ('r', 's')) FROM pg_subscription_rel})
	  or die "the tables were not copied";
	is(events('public.account', "concat_ws(' ', type, key, data)"),
		'account.inserted 1 {"v": "there before", "id": 1, "doc": null, "note": "here"}', 'the first copy');

	$node->safe_psql('there', q{
		INSERT INTO account SELECT i, 'v' || i, repeat(md5(i::text), 500) FROM generate_series(2, 4) i;
		UPDATE account SET v = v || '!' WHERE id = 2;
		UPDATE account SET id = 20 WHERE id = 2;
		DELETE FROM account WHERE id = 3;
		BEGIN; INSERT INTO account VALUES (99); ROLLBACK;
		BEGIN;
		INSERT INTO account VALUES (5, 'a');
		SAVEPOINT s; UPDATE account SET v = 'never' WHERE id = 5; ROLLBACK TO s;
		UPDATE account SET v = 'b' WHERE id = 5;
		DELETE FROM account WHERE id = 5;
		COMMIT});
	$synced->();
	is(events('public.account', "concat_ws(' ', type, key, data - '{id,doc,note}'::text[], octet_length(data ->> 'doc'), old, headers)"),
		join("\n",
			(map { qq{account.inserted $_ {"v": "v$_"} 16000 {}} } 2 .. 4),
			'account.updated 2 {"v": "v2!"} 16000 {"v": "v2"} {}',
			'account.updated 20 {"v": "v2!"} 16000 {"id": 2} {"old_key": "2"}',
			'account.deleted 3 {"v": "v3"} 16000 {}',
			'account.inserted 5 {"v": "a"} {}',
			'account.updated 5 {"v": "b"} {"v": "a"} {}',
			'account.deleted 5 {"v": "b"} {}'), 'what is applied, by the rule that asks for it alone');

	# several writers, each of one row: the order of each row's versions
	my @writers = map {
		my $id = $_;
		join('', map { "UPDATE account SET v = '$_' WHERE id = $id;\n" } 1 .. 50)
	} (4, 20);
	my @psql = map {
		my $sql = $_;
		IPC::Run::start([ 'psql', '-Xq', '-d', $node->connstr('there'), '-f', '-' ], '<', \$sql)
	} @writers;
	$_->finish for @psql;
	$synced->();
	is(events('public.account', q{key || ' ' || (data ->> 'v')}) =~ s/^4 .*\n?//mgr,
		join("\n", map { "20 $_" } 1 .. 50), 'in the order of the row');

	$node->safe_psql('there', q{
		INSERT INTO split VALUES (1, 'a', 'x');
		UPDATE split SET v = 'y' WHERE id = 1;
		UPDATE split SET region = 'b' WHERE id = 1;
		TRUNCATE account, split});
	$synced->();
	is(events('public.split', "concat_ws(' ', type, key, headers ->> 'partition', old)"), join("\n",
		'split.inserted 1,a public.split_a',
		'split.updated 1,a public.split_a {"v": "x"}',
		'split.deleted 1,a public.split_a',
		'split.inserted 1,b public.split_b',
		'split.truncated'), 'partitions; a row that moves is deleted and inserted');
	is($node->safe_psql('here', q{
		SELECT count(*) FROM outbox.event WHERE source = 'public.account' AND operation = 'truncate'}), '1', 'TRUNCATE');

	# what one transaction truncates twice; the child is below the other one here
	$node->safe_psql('there', q{
		CREATE TABLE parent (id integer PRIMARY KEY);
		CREATE TABLE child (id integer PRIMARY KEY);
		ALTER PUBLICATION all_of_it ADD TABLE parent, child});
	$node->safe_psql('here', q{
		CREATE TABLE parent (id integer PRIMARY KEY);
		CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
		SELECT outbox.capture('parent', replicated => true);
		ALTER SUBSCRIPTION peers REFRESH PUBLICATION WITH (copy_data = false)});
	$node->poll_query_until('here', q{SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel})
	  or die "the new tables are not followed";
	$node->safe_psql('there', q{
		BEGIN;
		INSERT INTO child VALUES (1);
		TRUNCATE parent, child;
		INSERT INTO child VALUES (2);
		TRUNCATE child;
		TRUNCATE child;
		TRUNCATE parent, child;
		COMMIT});
	$synced->();
	is(events('public.parent', "concat_ws(' ', type, key, headers ->> 'partition')"), join("\n",
		'parent.inserted 1 public.child',
		'parent.truncated',
		'parent.inserted 2 public.child',
		'parent.truncated public.child',
		'parent.truncated public.child',
		'parent.truncated'), 'each TRUNCATE of a transaction');

	# whoever writes here by himself
	$node->safe_psql('here', q{
		INSERT INTO account VALUES (100);
		SET session_replication_role = replica;
		INSERT INTO account VALUES (101)});
	is(events('public.account', "concat_ws(' ', type, key)"),
		"account.inserted 100\nOrigin 100\naccount.inserted 101", 'and of sessions, by their role');

	is($node->safe_psql('here', 'SELECT outbox.wait()'), 't', 'commits of the apply worker are seen');
	is($node->safe_psql('here', 'SELECT count(*) = outbox.head() FROM outbox.event'), 't', 'and have positions');
	$node->safe_psql('here', 'DROP SUBSCRIPTION peers');
};

done_testing();
