# DDL at any moment, under writers: none of their statements fails for it, and
# every event is one of the version it says it is.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IPC::Run;
use Test::More;

use OutboxServer;

my $db = 'postgres';
my $seed = $ENV{OUTBOX_SEED} // 5;
my $rounds = $ENV{OUTBOX_ROUNDS} // 8;
my $node = new_server('ddl', conf => [ "deadlock_timeout = '100ms'" ]);

note "OUTBOX_SEED=$seed";

$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	CREATE SEQUENCE ids;
	CREATE SCHEMA aside;
	CREATE TABLE item (id bigint PRIMARY KEY, n integer NOT NULL DEFAULT 0, v text DEFAULT 'v');
	CREATE TABLE part (id bigint, region text, n integer NOT NULL DEFAULT 0, v text DEFAULT 'v', PRIMARY KEY (id, region))
		PARTITION BY LIST (region);
	CREATE TABLE part_a PARTITION OF part FOR VALUES IN ('a');
	CREATE TABLE part_b PARTITION OF part FOR VALUES IN ('b');
	CREATE TABLE base (id bigint PRIMARY KEY, n integer NOT NULL DEFAULT 0, v text DEFAULT 'v');
	CREATE TABLE child (extra text, PRIMARY KEY (id)) INHERITS (base);
	CREATE TABLE gone (id bigint PRIMARY KEY, n integer NOT NULL DEFAULT 0);
	SELECT outbox.capture('item');
	SELECT outbox.capture('item', type => 'Narrow', columns => '{id,v}', condition => 'new.n % 2 = 0');
	SELECT outbox.capture('part'), outbox.capture('base'), outbox.capture('gone');
	CREATE TABLE failure (statement text, state text, message text, context text);

	-- the writers' statements name no column that DDL touches
	CREATE FUNCTION statement() RETURNS text LANGUAGE sql VOLATILE AS $$
		SELECT format((ARRAY[
			'INSERT INTO item (id, n) SELECT nextval(''ids''), %1$s FROM generate_series(1, 3)',
			'UPDATE item SET n = n + 1 WHERE id %% 7 = %1$s',
			'UPDATE item SET id = nextval(''ids'') WHERE id = (SELECT min(id) FROM item)',
			'DELETE FROM item WHERE id = (SELECT max(id) FROM item)',
			'INSERT INTO part (id, region, n) VALUES (nextval(''ids''), ''%2$s'', 1)',
			'INSERT INTO part_a (id, region) VALUES (nextval(''ids''), ''a'')',
			'UPDATE part SET n = n + 1 WHERE id %% 5 = %1$s',
			'UPDATE part SET region = ''%2$s'' WHERE id %% 5 = %1$s',
			'UPDATE part_b SET n = n + 1 WHERE id %% 5 = %1$s',
			'DELETE FROM part WHERE id = (SELECT min(id) FROM part)',
			'INSERT INTO child (id) VALUES (nextval(''ids''))',
			'INSERT INTO base (id) VALUES (nextval(''ids''))',
			'UPDATE base SET n = n + 1 WHERE id %% 5 = %1$s',
			'UPDATE child SET n = n + 1 WHERE id %% 5 = %1$s',
			'INSERT INTO gone (id) VALUES (nextval(''ids''))',
			'UPDATE gone SET n = n + 1'
		])[1 + floor(random() * 16)::integer], floor(random() * 5)::integer, chr(97 + floor(random() * 2)::integer)) $$;

	CREATE TABLE stop ();
	CREATE PROCEDURE write() LANGUAGE plpgsql AS $$
	DECLARE
		s text;
		state text;
		message text;
		context text;
	BEGIN
		WHILE NOT EXISTS (SELECT FROM stop) LOOP
			FOR j IN 1 .. 1 + floor(random() * 3)::integer LOOP
				s := statement();
				BEGIN
					EXECUTE s;
				EXCEPTION WHEN OTHERS THEN
					GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, context = PG_EXCEPTION_CONTEXT;
					INSERT INTO failure VALUES (s, state, message, context);
				END;
			END LOOP;
			IF random() < 0.1 THEN ROLLBACK; ELSE COMMIT; END IF;
		END LOOP;
	END $$;
});

# A command that cannot have its lock is given up, and comes again.
my $ddl = "SET lock_timeout = '2s';\n";
for my $round (1 .. $rounds)
{
	$ddl .= qq{
		ALTER TABLE item ADD COLUMN extra$round integer DEFAULT $round;
		ALTER TABLE part ADD COLUMN extra$round text;
		ALTER TABLE base ADD COLUMN extra$round text DEFAULT 'x';
		ALTER TABLE item RENAME COLUMN v TO w;
		ALTER TABLE part RENAME COLUMN v TO w;
		ALTER TABLE base RENAME COLUMN v TO w;
		ALTER TABLE item ALTER COLUMN extra$round TYPE text;
		ALTER TABLE part ALTER COLUMN w TYPE varchar(10);
		BEGIN; ALTER TABLE item RENAME TO other; ALTER TABLE other DROP COLUMN w; ROLLBACK;
		ALTER TABLE item RENAME TO other; SELECT pg_sleep(0.02); ALTER TABLE other RENAME TO item;
		ALTER TABLE part SET SCHEMA aside; SELECT pg_sleep(0.02); ALTER TABLE aside.part SET SCHEMA public;
		ALTER TABLE part_b RENAME TO part_c; SELECT pg_sleep(0.02); ALTER TABLE part_c RENAME TO part_b;
		ALTER TABLE part DETACH PARTITION part_b;
		SELECT pg_sleep(0.02);
		ALTER TABLE part ATTACH PARTITION part_b FOR VALUES IN ('b');
		CREATE TABLE part_new$round PARTITION OF part FOR VALUES IN ('new$round');
		DROP TABLE part_new$round;
		ALTER TABLE child NO INHERIT base;
		SELECT pg_sleep(0.02);
		ALTER TABLE child INHERIT base;
		DROP TABLE gone;
		SELECT pg_sleep(0.02);
		BEGIN;
		CREATE TABLE gone (id bigint PRIMARY KEY, n integer NOT NULL DEFAULT 0, round$round integer);
		SELECT outbox.capture('gone');
		COMMIT;
		BEGIN; SELECT outbox.uncapture('base'); SELECT outbox.capture('base'); COMMIT;
		ALTER TABLE item RENAME COLUMN w TO v;
		ALTER TABLE part RENAME COLUMN w TO v;
		ALTER TABLE base RENAME COLUMN w TO v;
		ALTER TABLE item DROP COLUMN extra$round;
		ALTER TABLE part DROP COLUMN extra$round;
		ALTER TABLE base DROP COLUMN extra$round;
		ALTER TABLE item DROP COLUMN v;
		ALTER TABLE part ALTER COLUMN v TYPE text;
		ALTER TABLE item DISABLE TRIGGER USER, ENABLE TRIGGER USER;
		ALTER SCHEMA aside RENAME TO aside2;
		ALTER SCHEMA aside2 RENAME TO aside;
		TRUNCATE part_a;
	};
}

my $out = '';
my @writers = map {
	IPC::Run::start([ 'psql', '-Xq', '-d', $node->connstr($db), '-o', '/dev/null', '-c', "SELECT setseed(@{[ ($seed * 7 + $_) % 100 / 100 ]})",
			'-c', 'CALL write()' ])
} 1 .. 4;
wait_until($node, $db, 'SELECT count(*) > 100 FROM outbox.event', 'writers write');
IPC::Run::run([ 'psql', '-XqAt', '-d', $node->connstr($db), '-f', '-' ], '<', \$ddl, '>', \$out, '2>&1');
$node->safe_psql($db, 'INSERT INTO stop DEFAULT VALUES');
ok((!grep { !$_->finish } @writers), 'writers wrote to the end');

# what DDL is refused, and nothing else
my %refused;
$refused{$_}++ for $out =~ /(?:ERROR|FATAL|PANIC): +(.*)/g;
delete @refused{ grep { /because capture rule "Narrow" names it$/ } keys %refused };
delete @refused{ grep { /^canceling statement due to lock timeout|^deadlock detected/ } keys %refused };
# what follows from a command that was given up
delete @refused{ grep { /does not exist$|already exists$|is already a partition$|is not a partition|would be inherited from more than once|aborted/ } keys %refused };
is(join("\n", %refused), '', 'DDL is carried out, or refused with a reason');
my $done = $node->safe_psql($db, 'SELECT count(*) FROM outbox.schema_version');
cmp_ok($done, '>', 4 * $rounds, "tables had $done versions");

# What PostgreSQL itself says to writers that meet: the table is elsewhere, or
# has no such partition; two moved one row, or hold locks crosswise, but for no
# lock that capture wants.
is($node->safe_psql($db, q{
	SELECT state, message, count(*), min(context) FROM failure
	WHERE context LIKE '%capturing table%' OR state NOT IN ('42P01', '23514', '23505', '40001', '40P01')
	GROUP BY 1, 2}), '', 'no statement failed for it');
my $events = $node->safe_psql($db, 'CALL outbox.run(); SELECT outbox.head()');
cmp_ok($events, '>', 1000, "$events events");
is($node->safe_psql($db, q{
	SELECT e.id, e.source, e.headers, e.data, v.columns FROM outbox.event e
	LEFT JOIN outbox.schema_version v ON v.source = e.source
		AND v.version = coalesce((e.headers ->> 'schema_version')::integer, 1)
	WHERE e.type <> 'Narrow' AND e.operation <> 'truncate' AND NOT coalesce(
		(SELECT array_agg(key ORDER BY key) FROM jsonb_object_keys(e.data) key) =
		(SELECT array_agg(c ->> 'name' ORDER BY c ->> 'name') FROM jsonb_array_elements(v.columns) c), false)
	ORDER BY e.id LIMIT 5}), '', 'each of the columns of its version');

# who applies the events has the rows that were not written to while their
# table was not captured
$node->safe_psql($db, q{
	CREATE TABLE replica (id bigint PRIMARY KEY, n integer);
	DO $$
	DECLARE e record;
	BEGIN
		FOR e IN SELECT operation, key, headers, data FROM outbox.read(0, 10000000)
			WHERE source IN ('public.item', 'public.other') AND type ~ '^(item|other)\.' ORDER BY position
		LOOP
			DELETE FROM replica WHERE id::text IN (e.key, e.headers ->> 'old_key');
			IF e.operation <> 'delete' THEN
				INSERT INTO replica VALUES (e.key::bigint, (e.data ->> 'n')::integer);
			END IF;
		END LOOP;
	END $$});
is($node->safe_psql($db, q{
	SELECT id, r.n, t.n FROM replica r FULL JOIN item t USING (id) WHERE r.n IS DISTINCT FROM t.n ORDER BY 1 LIMIT 5}),
	'', 'they tell what the table has');

done_testing();
