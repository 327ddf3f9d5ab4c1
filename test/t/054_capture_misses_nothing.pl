# What capture sees of random changes is what logical decoding sees; and who
# applies its events in their order, snapshots included, has the tables.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IPC::Run;
use Test::More;

use OutboxServer;

my $db = 'postgres';
my $seed = $ENV{OUTBOX_SEED} // 4;
my $node = new_server('complete', conf => [ 'wal_level = logical', 'max_wal_senders = 4', 'max_prepared_transactions = 10' ]);

note "OUTBOX_SEED=$seed";
srand($seed);

# "r" tells a row for ever, whatever happens to its key.
$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	CREATE SEQUENCE rows;
	CREATE TABLE flat (id integer PRIMARY KEY, r integer DEFAULT nextval('rows'),
		v text, n numeric, doc jsonb, twice numeric GENERATED ALWAYS AS (n * 2) STORED);
	CREATE TABLE split (id integer, region text, r integer DEFAULT nextval('rows'), v text,
		PRIMARY KEY (id, region)) PARTITION BY LIST (region);
	CREATE TABLE split_a PARTITION OF split FOR VALUES IN ('a');
	CREATE TABLE split_b (v text, r integer DEFAULT nextval('rows'), region text NOT NULL, id integer NOT NULL);
	ALTER TABLE split ATTACH PARTITION split_b FOR VALUES IN ('b');
	CREATE TABLE split_c PARTITION OF split DEFAULT PARTITION BY HASH (id);
	CREATE TABLE split_c0 PARTITION OF split_c FOR VALUES WITH (MODULUS 1, REMAINDER 0);
	CREATE TABLE below (id serial PRIMARY KEY, r integer DEFAULT nextval('rows'), v text,
		flat integer REFERENCES flat ON UPDATE CASCADE ON DELETE CASCADE DEFERRABLE);
	CREATE TABLE log (id serial PRIMARY KEY, r integer DEFAULT nextval('rows'), v text);
	CREATE VIEW shown AS SELECT id, v, n FROM flat WHERE id < 40;
	-- a view that rules write through, and one that a trigger does
	CREATE VIEW ruled AS SELECT id, v FROM flat;
	CREATE RULE ins AS ON INSERT TO ruled DO INSTEAD
		INSERT INTO flat (id, v) VALUES (new.id, new.v || ' by rule') ON CONFLICT DO NOTHING;
	CREATE RULE del AS ON DELETE TO ruled DO INSTEAD
		(INSERT INTO log (v) VALUES ('del ' || old.id); UPDATE flat SET v = 'deleted' WHERE id = old.id);
	CREATE VIEW guarded AS SELECT id, region, v FROM split;
	CREATE FUNCTION write_guarded() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		UPDATE split SET v = new.v || ' guarded', region = new.region WHERE id = old.id AND region = old.region;
		RETURN new;
	END $$;
	CREATE TRIGGER write INSTEAD OF UPDATE ON guarded FOR EACH ROW EXECUTE FUNCTION write_guarded();
	-- what is written by a trigger before the row is, and at commit
	CREATE FUNCTION edit() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF new.v = 'v3' THEN RETURN NULL; END IF;
		new.v := new.v || '!';
		RETURN new;
	END $$;
	CREATE TRIGGER edit BEFORE INSERT OR UPDATE ON below FOR EACH ROW EXECUTE FUNCTION edit();
	CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO log (v) VALUES (tg_op || ' ' || new.v);
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER note AFTER INSERT OR UPDATE ON split DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW WHEN (new.v < 'v4') EXECUTE FUNCTION note();
	ALTER TABLE log REPLICA IDENTITY FULL;
	ALTER TABLE flat REPLICA IDENTITY FULL;
	ALTER TABLE below REPLICA IDENTITY FULL;
	ALTER TABLE split_a REPLICA IDENTITY FULL;
	ALTER TABLE split_b REPLICA IDENTITY FULL;
	ALTER TABLE split_c0 REPLICA IDENTITY FULL;
});

# ---- random changes ----

my $has_merge = $node->safe_psql($db, "SHOW server_version_num") >= 150000;

sub pick { return $_[ int rand @_ ] }
sub number { return int rand 40 }

sub statement
{
	my ($i, $k, $r, $t) = (number(), number(), pick('a' .. 'd'), pick(map { "'v$_'" } 1 .. 9));
	my @kinds = (
		"INSERT INTO flat (id, v, n) SELECT i, $t, i * 1.50 FROM generate_series($i, $i + 3) i ON CONFLICT DO NOTHING",
		"INSERT INTO flat (id, v, doc) VALUES ($i, $t, '{\"x\": [$k, null]}') ON CONFLICT (id) DO UPDATE SET v = excluded.v, doc = excluded.doc",
		"UPDATE flat SET v = $t, n = n + 1 WHERE id BETWEEN $i AND $i + 2",
		"UPDATE flat SET id = id + 100 WHERE id = $i",
		"UPDATE shown SET n = 7, v = $t WHERE id = $i",
		"DELETE FROM flat WHERE id = $i",
		"COPY flat (id, v) FROM PROGRAM 'echo " . (200 + int rand 100000) . ",copied' (FORMAT csv)",
		"INSERT INTO below (v, flat) SELECT $t, id FROM flat WHERE id < 40 ORDER BY id LIMIT 2",
		"WITH gone AS (DELETE FROM flat WHERE id > 100 AND v < $t RETURNING id, v), " .
		  "moved AS (UPDATE split SET v = $t WHERE id = $k RETURNING id) " .
		  "INSERT INTO split (id, region, v) SELECT id, '$r', v FROM gone ON CONFLICT DO NOTHING",
		"INSERT INTO split (id, region, v) SELECT i, '$r', $t FROM generate_series($i, $i + 2) i ON CONFLICT (id, region) DO UPDATE SET v = excluded.v",
		"UPDATE split SET region = '$r' WHERE id = $i",
		"UPDATE split SET region = chr(97 + (ascii(region) - 96) % 3), v = $t WHERE id = $k",
		"DELETE FROM split_b WHERE id = $i",
		"UPDATE split_a SET v = $t WHERE id BETWEEN $i AND $k",
		"INSERT INTO ruled VALUES ($i, $t), ($k, $t)",
		"DELETE FROM ruled WHERE id BETWEEN $i AND $i + 1",
		"UPDATE guarded SET region = '$r', v = $t WHERE id = $i",
		"UPDATE flat SET v = s.v FROM split s WHERE s.id = flat.id AND flat.id < $i",
		"DELETE FROM below USING flat WHERE below.flat = flat.id AND flat.id = $i",
		"INSERT INTO below (v, flat) SELECT v, flat FROM below ORDER BY id LIMIT 3",
		"TRUNCATE log",
		"DO 'BEGIN UPDATE flat SET n = 1 WHERE id = $i; UPDATE flat SET n = 1 / (id - $k); " .
		  "EXCEPTION WHEN division_by_zero THEN UPDATE flat SET n = 2 WHERE id = $k; END'",
		"DO 'DECLARE c CURSOR FOR SELECT * FROM flat WHERE id < 40 ORDER BY id FOR UPDATE; r record; " .
		  "BEGIN OPEN c; FETCH c INTO r; IF FOUND THEN UPDATE flat SET n = $i WHERE CURRENT OF c; END IF; END'",
		"TRUNCATE log;\nCOPY log (v) FROM PROGRAM 'echo frozen' (FREEZE)");

	push @kinds, "MERGE INTO flat USING generate_series($i, $i + 3) s (i) ON id = i " .
	  "WHEN MATCHED AND i % 3 = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET v = $t " .
	  "WHEN NOT MATCHED THEN INSERT (id, v) VALUES (i, $t)" if $has_merge;
	return pick(@kinds) . ";\n";
}

my $prepared = 0;

sub script
{
	my ($transactions) = @_;
	my $sql = "SET client_min_messages = error;\n\\set ON_ERROR_STOP 0\n";

	for (1 .. $transactions)
	{
		$sql .= "BEGIN;\n";
		$sql .= "SET CONSTRAINTS ALL DEFERRED;\n" if rand() < 0.2;
		for (1 .. 1 + int rand 4)
		{
			my $nested = rand() < 0.3;

			$sql .= "SAVEPOINT s;\n" if $nested;
			$sql .= statement();
			$sql .= pick("ROLLBACK TO s;\n", "RELEASE s;\n") if $nested;
		}
		my $gid = 'g' . ++$prepared;
		$sql .= rand() < 0.15 ? "ROLLBACK;\n" : rand() > 0.1 ? "COMMIT;\n" :
		  "PREPARE TRANSACTION '$gid';\n" . pick('COMMIT', 'COMMIT', 'ROLLBACK') . " PREPARED '$gid';\n";
	}
	return $sql;
}

sub run_together
{
	my @runs;
	my @outputs;

	for my $sql (@_)
	{
		push @outputs, '';
		my $run = IPC::Run::start([ 'psql', '-XqAt', '-d', $node->connstr($db), '-f', '-' ],
			'<', \$sql, '>', \$outputs[-1], '2>&1');
		push @runs, $run;
	}
	$_->finish for @runs;
	return;
}

# ---- as logical decoding sees it ----

subtest 'the same changes as logical decoding' => sub
{
	# newer servers name the plugins that they trust
	$node->append_conf('postgresql.conf', "output_plugin_libraries = 'wal2json'")
	  if $node->safe_psql($db, "SELECT count(*) FROM pg_settings WHERE name = 'output_plugin_libraries'");
	$node->reload;
	my ($status) = $node->psql($db,
		"SELECT pg_create_logical_replication_slot('differ', 'wal2json')");

	plan skip_all => 'wal2json is not installed (tools/setup installs it)' if $status != 0;
	plan skip_all => 'the wal2json of its time leaves out what was null'
	  if $node->safe_psql($db, 'SHOW server_version_num') < 140000;
	$node->safe_psql($db, q{
		SELECT outbox.capture(t, old_values => 'all') FROM unnest('{flat,split,below,log}'::regclass[]) t});
	run_together(map { script(150) } 1 .. 3);
	$node->safe_psql($db, q{
		CALL outbox.run();
		-- one line for each change of a row: an update that moves a row to
		-- another partition is a delete and an insert for decoding
		CREATE TABLE captured AS
		SELECT source, (image ->> 'r')::integer AS r, action, image, former,
			row_number() OVER (PARTITION BY source, image ->> 'r' ORDER BY position, part) AS n
		FROM (
			SELECT position, 1 AS part, source, CASE WHEN moved THEN 'D' ELSE upper(left(operation, 1)) END AS action,
				CASE WHEN moved THEN old ELSE data END AS image, CASE WHEN NOT moved THEN old END AS former
			FROM outbox.read(0, 10000000) e,
			LATERAL (SELECT operation = 'update' AND source = 'public.split' AND
				translate(old ->> 'region', 'd', 'c') <> translate(data ->> 'region', 'd', 'c')) m (moved)
			WHERE operation <> 'truncate'
			UNION ALL
			SELECT position, 2, source, 'I', data, NULL
			FROM outbox.read(0, 10000000)
			WHERE operation = 'update' AND source = 'public.split' AND
				translate(old ->> 'region', 'd', 'c') <> translate(data ->> 'region', 'd', 'c')
		) e;
		CREATE TABLE change AS
		SELECT row_number() OVER () AS number, data::jsonb AS j
		FROM pg_logical_slot_get_changes('differ', NULL, NULL, 'format-version', '2',
			'include-transaction', 'false');
		CREATE TABLE decoded AS
		WITH image AS (
			SELECT number, 'public.' || regexp_replace(j ->> 'table', '_.*', '') AS source, j ->> 'action' AS action,
				(SELECT jsonb_object_agg(c ->> 'name', c -> 'value') FROM jsonb_array_elements(j -> 'columns') c) AS new,
				(SELECT jsonb_object_agg(c ->> 'name', c -> 'value') FROM jsonb_array_elements(j -> 'identity') c) AS old
			FROM change WHERE j ->> 'table' ~ '^(flat|split|below|log)' AND j ->> 'action' <> 'T'
		)
		SELECT source, (coalesce(new, old) ->> 'r')::integer AS r, action, coalesce(new, old) AS image,
			CASE WHEN action = 'U' THEN old END AS former,
			row_number() OVER (PARTITION BY source, coalesce(new, old) ->> 'r' ORDER BY number) AS n
		FROM image
		-- an update that changes nothing is a change for decoding alone
		WHERE action <> 'U' OR new <> old;
		-- as text, for wal2json writes jsonb as a string
		CREATE FUNCTION texts(jsonb) RETURNS jsonb LANGUAGE sql AS
			'SELECT jsonb_object_agg(key, value) FROM jsonb_each_text($1)';
	});
	my $count = $node->safe_psql($db, 'SELECT count(*) FROM decoded');
	cmp_ok($count, '>', 300, "$count changes were made");
	is($node->safe_psql($db, q{
		SELECT source, r, n, c.action, c.image, c.former, d.action, d.image, d.former
		FROM captured c FULL JOIN decoded d USING (source, r, n)
		WHERE c.action IS DISTINCT FROM d.action OR texts(c.image) IS DISTINCT FROM texts(d.image)
		   OR texts(c.former) IS DISTINCT FROM texts(d.former)
		ORDER BY 1, 2, 3 LIMIT 10}), '', 'all of them, in the order of each row');
	is($node->safe_psql($db, q{
		SELECT count(*) FROM outbox.event WHERE operation = 'truncate' AND source = 'public.log'}),
		$node->safe_psql($db, q{SELECT count(*) FROM change WHERE j ->> 'action' = 'T'}),
		'and all that were truncated');
	cmp_ok($node->safe_psql($db, q{
		SELECT count(*) FROM outbox.event WHERE source = 'public.split' AND operation = 'update'
		AND translate(old ->> 'region', 'd', 'c') <> translate(data ->> 'region', 'd', 'c')}),
		'>', 5, 'rows moved, each as one event');
	$node->safe_psql($db, q{
		SELECT outbox.uncapture(t) FROM unnest('{flat,split,below,log}'::regclass[]) t;
		SELECT pg_drop_replication_slot('differ')});
};

# ---- a replica, under DDL, from a snapshot on ----

subtest 'a replica, by a snapshot among changes and DDL' => sub
{
	my $start = $node->safe_psql($db, 'CALL outbox.run(); SELECT outbox.head()');

	# rows from before the capture
	run_together(script(100));
	$node->safe_psql($db, q{
		SELECT outbox.capture(t, columns => CASE WHEN t = 'split'::regclass THEN '{id,region,v}'::text[] END)
		FROM unnest('{flat,split,below}'::regclass[]) t});
	my $snapshots = join '', map {
		"SELECT pg_sleep(0.05), outbox.snapshot('flat', 10), outbox.snapshot('split', 7), outbox.snapshot('below', 9);\n"
	} 1 .. 25;
	my $ddl = "SET lock_timeout = '1s';\n" . join '', map { qq{
		ALTER TABLE flat ADD COLUMN extra$_ integer DEFAULT $_;
		ALTER TABLE split RENAME COLUMN v TO w;
		ALTER TABLE split RENAME COLUMN w TO v;
		ALTER TABLE below ALTER COLUMN v TYPE varchar(100);
		SELECT pg_sleep(0.05);
		ALTER TABLE below RENAME TO renamed;
		ALTER TABLE renamed RENAME TO below;
		ALTER TABLE flat DROP COLUMN extra$_;
		ALTER TABLE below ALTER COLUMN v TYPE text;
		ALTER TABLE split DETACH PARTITION split_a;
		ALTER TABLE split ATTACH PARTITION split_a FOR VALUES IN ('a');
	} } 1 .. 8;
	run_together(script(150), script(150), $snapshots, $ddl);
	# to the end, whatever the above got done
	for my $table (qw(flat split below))
	{
		for (1 .. 1000)
		{
			last if $node->safe_psql($db, "SELECT outbox.snapshot('$table', 50)") == 0;
		}
	}
	is($node->safe_psql($db, 'SELECT count(*) FROM outbox.snapshot_progress'), '0', 'the snapshots ended');

	$node->safe_psql($db, "CALL outbox.run();
		CREATE TABLE replica (source text, key text, v text, PRIMARY KEY (source, key));
		DO \$\$
		DECLARE e record;
		BEGIN
			FOR e IN SELECT regexp_replace(source, 'renamed', 'below') AS source, key, operation, headers,
					coalesce(data ->> 'v', data ->> 'w') AS v
				FROM outbox.read($start, 10000000) WHERE operation IS NOT NULL ORDER BY position
			LOOP
				DELETE FROM replica WHERE source = e.source AND key IN (e.key, e.headers ->> 'old_key');
				IF e.operation <> 'delete' THEN
					INSERT INTO replica VALUES (e.source, e.key, e.v);
				END IF;
			END LOOP;
		END \$\$");
	is($node->safe_psql($db, q{
		WITH truth AS (
			SELECT 'public.flat' AS source, id::text AS key, v FROM flat
			UNION ALL SELECT 'public.below', id::text, v FROM below
			UNION ALL SELECT 'public.split', id || ',' || region, v FROM split)
		SELECT source, key, r.v, t.v FROM replica r FULL JOIN truth t USING (source, key)
		WHERE r.v IS DISTINCT FROM t.v OR r.source IS NULL OR t.source IS NULL ORDER BY 1, 2 LIMIT 10}),
		'', 'the replica is the tables');
	cmp_ok($node->safe_psql($db, "SELECT count(*) FROM outbox.read($start, 10000000) WHERE operation = 'snapshot'"),
		'>', 40, 'rows came by snapshots');
};

# ---- any table ----

# Random tables whose shape changes between random changes of their rows.  What
# each event must say is taken from to_jsonb(row) before and after.
my $any_table = q{
	CREATE TYPE pair AS (first integer, gone integer, second text);
	ALTER TYPE pair DROP ATTRIBUTE gone;
	CREATE DOMAIN positive AS integer CHECK (value > 0);
	CREATE DOMAIN paired AS pair;
	CREATE TYPE mood AS ENUM ('so so', 'fine');
	CREATE TYPE deep AS (p pair[], d paired, j json, n numeric[], m mood);
	CREATE TYPE floats AS RANGE (subtype = float8);

	CREATE TABLE kind (type text, value text);
	INSERT INTO kind VALUES
		('integer', '(random() * 1e9)::integer - 500000000'), ('bigint', '(random() * 1e18)::bigint'),
		('smallint', '(random() * 60000)::integer - 30000'), ('oid', '(random() * 1e9)::integer'),
		('numeric', '(random() * 10 ^ (random() * 40 - 20))::numeric'),
		('numeric', '(array[''NaN'', ''0.000'', ''-1e-300'', ''1e1000''])[1 + (random() * 3)::integer]'),
		('numeric(9,2)', 'random() * 1000'), ('money', '(random() * 1000)::numeric'),
		('double precision', '(random() - 0.5) * 10 ^ (random() * 200 - 100)'), ('real', '''-Infinity'''),
		('text', 'repeat(md5(random()::text), (random() * 200)::integer)'),
		('text', 'repeat(md5(random()::text), 100 + (random() * 2000)::integer)'),
		('character varying(20)', 'left(md5(random()::text), 20)'), ('character(7)', '''x"\\y'''), ('name', '''a name'''),
		('boolean', 'random() < 0.5'), ('bytea', 'decode(repeat(md5(random()::text), (random() * 500)::integer), ''hex'')'),
		('date', '''2000-01-01''::date + (random() * 9999)::integer'), ('date', '''0044-03-15 BC'''),
		('timestamp with time zone', 'now() + random() * interval ''9 years'''),
		('timestamp without time zone', '''infinity'''), ('time with time zone', '''12:00+03'''),
		('interval', 'random() * interval ''99 days'''), ('uuid', 'md5(random()::text)::uuid'),
		('json', '''{"b": 1, "a" :  [1.50, null], "b": {}}'''), ('jsonb', '''{"b": 1, "a": [1.50, {"x": ""}]}'''),
		('jsonb', '''7.00'''), ('integer[]', 'array[1, NULL, (random() * 9)::integer]'),
		('text[]', '''{{a,"b c"},{NULL,""}}'''),
		('integer[]', '(SELECT array_agg(i) FROM generate_series(1, (random() * 3000)::integer) i)'),
		('int4range', 'int4range((random() * 9)::integer, 20)'), ('floats', '''[0.1,NaN]'''),
		('tstzrange[]', 'array[tstzrange(now(), NULL)]'), ('pair', 'row((random() * 9)::integer, ''a "b"'')::pair'),
		('pair[]', 'array[row(1, NULL::text)::pair, NULL]'), ('paired', 'row(1, repeat(''x'', 3000))'),
		('paired[]', 'array[row(1, NULL)::paired]'),
		('deep', 'row(array[row(1, ''x'')::pair], row(2, ''y''), ''[1, 1.0]'', ''{1.10,NaN}'', ''fine'')'),
		('positive', '(random() * 9)::integer + 1'), ('positive[]', 'array[1, 2]'), ('mood', '''so so'''),
		('mood[]', '''{fine}'''), ('inet', '''10.1.2.3/8'''), ('bit varying', 'B''1011'''), ('point', 'point(random(), 2)'),
		('xml', '''<a b="c">d</a>'''), ('tsvector', '''a:1 b:2A'''), ('regclass', '''pg_class'''),
		('pg_lsn', '''16/B374D848'''), ('"char"', '''c''');
	CREATE TABLE wrong (name text, what text, event bigint);
	CREATE TABLE checked (events bigint);

	-- a random value of that type as a literal
	CREATE FUNCTION value_of(kind) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
	DECLARE
		result text;
	BEGIN
		EXECUTE format('SELECT (%s)::%s::text', $1.value, $1.type) INTO result;
		RETURN CASE WHEN random() < 0.2 THEN 'NULL' ELSE format('%L::%s', result, $1.type) END;
	END $$;

	CREATE FUNCTION any_kind() RETURNS kind LANGUAGE sql VOLATILE AS 'SELECT k FROM kind k ORDER BY random() LIMIT 1';

	CREATE FUNCTION any_name(number integer) RETURNS text LANGUAGE sql VOLATILE AS $$
		SELECT quote_ident((ARRAY['plain ', 'Mixed', 'with space ', 'quo"te', 'ümläut', '日本', 'a''b', repeat('x', 50)])
			[1 + (random() * 7)::integer] || number) $$;

	-- a random column but the key, and what type it has
	CREATE FUNCTION any_column(relation regclass, OUT name text, OUT kind kind) LANGUAGE sql VOLATILE AS $$
		SELECT quote_ident(attname), k FROM pg_attribute a JOIN kind k ON k.type = format_type(a.atttypid, a.atttypmod)
		WHERE attrelid = relation AND attnum > 1 AND NOT attisdropped AND attgenerated = '' ORDER BY random() LIMIT 1 $$;

	CREATE FUNCTION change_shape(relation regclass, number integer) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		k kind := any_kind();
		c text := (any_column(relation)).name;
		command text;
	BEGIN
		command := CASE (random() * 8)::integer
			WHEN 0 THEN format('DROP COLUMN %s', c)
			WHEN 1 THEN format('RENAME COLUMN %s TO %s', c, any_name(number))
			WHEN 2 THEN format('ALTER COLUMN %s TYPE text USING %1$s::text', c)
			WHEN 3 THEN format('ALTER COLUMN %s SET STORAGE EXTERNAL', c)
			WHEN 4 THEN format('ADD COLUMN %s text GENERATED ALWAYS AS (id || ''!'') STORED', any_name(number))
			WHEN 5 THEN format('ALTER COLUMN %s SET COMPRESSION lz4', c)
			ELSE format('ADD COLUMN %s %s DEFAULT %s', any_name(number), k.type, value_of(k)) END;
		EXECUTE format('ALTER TABLE %s %s', relation, command);
	EXCEPTION
		-- no column of that kind, no such command, or too long a default
		WHEN null_value_not_allowed OR feature_not_supported OR syntax_error OR datatype_mismatch
			OR invalid_column_definition OR program_limit_exceeded THEN
	END $$;

	CREATE FUNCTION change_rows(relation regclass) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		c record := any_column(relation);
		command text;
	BEGIN
		command := CASE (random() * 6)::integer
			WHEN 0 THEN format('DELETE FROM %s WHERE id %% 5 = %s', relation, (random() * 4)::integer)
			WHEN 1 THEN format('UPDATE %s SET id = id + 1000000 WHERE id = (SELECT max(id) FROM %1$s WHERE id < 1000000)', relation)
			WHEN 2 THEN format('UPDATE %s SET id = id', relation)
			ELSE format('INSERT INTO %s (id) SELECT nextval(''ids'') FROM generate_series(1, 2)', relation) END;
		IF c.name IS NOT NULL AND random() < 0.6 THEN
			command := CASE WHEN random() < 0.4
				THEN format('INSERT INTO %s (id, %s) SELECT nextval(''ids''), %s FROM generate_series(1, 2)',
					relation, c.name, value_of(c.kind))
				ELSE format('UPDATE %s SET %s = %s WHERE id %% 3 = %s',
					relation, c.name, value_of(c.kind), (random() * 2)::integer) END;
		END IF;
		EXECUTE command;
	END $$;

	-- the events since then against the rows before and after
	CREATE PROCEDURE compare(relation regclass, old_values text) LANGUAGE plpgsql AS $$
	DECLARE
		name text := relation::text;
	BEGIN
		EXECUTE format('CREATE TEMPORARY TABLE after AS SELECT id, to_jsonb(t) AS image FROM %s t', relation);
		INSERT INTO wrong
		SELECT name, concat_ws(' ', e.operation, e.data, e.old, b.image, a.image), e.id
		FROM outbox.event e
		LEFT JOIN before b ON b.id::text = coalesce(e.headers ->> 'old_key', e.key)
		LEFT JOIN after a ON a.id::text = e.key
		WHERE e.xid = pg_current_xact_id() AND NOT coalesce(CASE e.operation
			WHEN 'insert' THEN b.id IS NULL AND record_image_eq(row(e.data), row(a.image)) AND e.old IS NULL
			WHEN 'delete' THEN a.id IS NULL AND record_image_eq(row(e.data), row(b.image)) AND e.old IS NULL
			ELSE record_image_eq(row(e.data), row(a.image)) AND CASE old_values
				WHEN 'none' THEN e.old IS NULL
				WHEN 'all' THEN record_image_eq(row(e.old), row(b.image))
				ELSE b.image || e.old = b.image AND NOT EXISTS (
					SELECT FROM jsonb_each(b.image) o WHERE NOT e.old ? o.key AND a.image -> o.key <> o.value) END
			END, false);
		-- every row that differs has its event, with the version of its columns
		INSERT INTO wrong
		SELECT name, concat_ws(' ', 'missing', b.image, a.image), NULL FROM before b FULL JOIN after a ON a.id = b.id
		WHERE a.image IS DISTINCT FROM b.image AND NOT EXISTS (
			SELECT FROM outbox.event e WHERE e.xid = pg_current_xact_id() AND coalesce(a.id, b.id)::text IN (e.key, e.headers ->> 'old_key'));
		INSERT INTO wrong
		SELECT name, 'version', e.id FROM outbox.event e
		LEFT JOIN outbox.schema_version v ON v.source = e.source
			AND v.version = coalesce((e.headers ->> 'schema_version')::integer, 1)
		WHERE e.xid = pg_current_xact_id() AND NOT coalesce(
			(SELECT array_agg(key ORDER BY key) FROM jsonb_object_keys(e.data) key) =
			(SELECT array_agg(c ->> 'name' ORDER BY c ->> 'name') FROM jsonb_array_elements(v.columns) c), false);
		INSERT INTO checked SELECT count(*) FROM outbox.event e WHERE e.xid = pg_current_xact_id();
		DROP TABLE before, after;
	END $$;

	CREATE PROCEDURE check_table(name text) LANGUAGE plpgsql AS $$
	DECLARE
		old_values text := (ARRAY['none', 'changed', 'all'])[1 + (random() * 2)::integer];
		relation regclass;
		k kind;
	BEGIN
		EXECUTE format('CREATE TABLE %s (id bigint PRIMARY KEY)', name);
		relation := name;
		FOR number IN 1 .. 1 + (random() * 15)::integer LOOP
			k := any_kind();
			EXECUTE format('ALTER TABLE %s ADD COLUMN %s %s', relation, any_name(number), k.type);
		END LOOP;
		PERFORM outbox.capture(relation, old_values => old_values);
		FOR step IN 1 .. 40 LOOP
			IF random() < 0.3 THEN
				PERFORM change_shape(relation, 100 + step);
			END IF;
			EXECUTE format('CREATE TEMPORARY TABLE before AS SELECT id, to_jsonb(t) AS image FROM %s t', relation);
			PERFORM change_rows(relation);
			CALL compare(relation, old_values);
			COMMIT;
		END LOOP;
	END $$;
	CREATE SEQUENCE ids;
};

subtest 'data and old are to_jsonb(row) for random tables under random DDL' => sub
{
	$node->safe_psql($db, $any_table);
	$node->safe_psql($db, "SELECT setseed(@{[ $seed % 1000 / 1000 ]});\n" .
		join('', map { "CALL check_table('any$_');\n" } 1 .. 30));
	cmp_ok($node->safe_psql($db, 'SELECT sum(events) FROM checked'), '>', 1000, 'many events');
	cmp_ok($node->safe_psql($db, "SELECT count(*) FROM outbox.schema_version WHERE source LIKE 'public.any%'"),
		'>', 100, 'of many versions');
	is($node->safe_psql($db, 'SELECT * FROM wrong LIMIT 5'), '', 'byte for byte, and of the version they say');
};

done_testing();
