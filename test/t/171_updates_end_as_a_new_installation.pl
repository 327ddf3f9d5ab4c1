# A database whose extension was updated from a released version, while writers
# ran, has what a new installation makes, and has lost and repeated nothing.
#
# test/released/ keeps the install scripts of released versions.  Before there is
# one, this version's own script stands for it, under another name: the update
# replaces then all code by itself.
use strict;
use warnings;

use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Path qw(make_path);
use File::Temp;
use FindBin;
use IPC::Run ();
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $tree = abs_path("$FindBin::RealBin/../..");
my $directory = `pg_config --sharedir`;
chomp $directory;
$directory .= '/extension';
plan skip_all => 'the installation cannot be written to' if !-w $directory;

my ($current) = slurp("$tree/pg_outbox.control") =~ /^default_version\s*=\s*'([^']+)'/m;
my @made;
END { unlink @made; }

sub slurp
{
	my ($file) = @_;

	open(my $in, '<', $file) or die "could not read $file: $!";
	local $/;
	return scalar <$in>;
}

# Everything that the extension has made, one property a line, whatever the order
# in which it was made.  Partitions of the log are made later, and nobody's.
my $catalog = q{
	WITH member AS (
		SELECT classid, objid FROM pg_depend
		WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
		  AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_outbox')
	), rel AS (
		SELECT c.* FROM pg_class c JOIN member ON classid = 'pg_class'::regclass AND objid = c.oid
	), owned AS (
		SELECT classid, objid FROM member
		UNION SELECT 'pg_class'::regclass, indexrelid FROM pg_index JOIN rel ON rel.oid = indrelid
		UNION SELECT 'pg_constraint'::regclass, c.oid FROM pg_constraint c JOIN rel ON rel.oid = conrelid
		UNION SELECT 'pg_trigger'::regclass, t.oid FROM pg_trigger t JOIN rel ON rel.oid = tgrelid WHERE tgconstraint = 0
	), granted (classid, objid, objsubid, acl) AS (
		SELECT 'pg_class'::regclass, oid, 0, relacl FROM rel
		UNION ALL SELECT 'pg_class'::regclass, attrelid, attnum, attacl FROM pg_attribute JOIN rel ON rel.oid = attrelid
		UNION ALL SELECT 'pg_proc'::regclass, p.oid, 0, coalesce(proacl, acldefault('f', proowner))
			FROM pg_proc p JOIN member ON classid = 'pg_proc'::regclass AND objid = p.oid
		UNION ALL SELECT 'pg_type'::regclass, t.oid, 0, coalesce(typacl, acldefault('T', typowner))
			FROM pg_type t LEFT JOIN rel ON rel.oid = typrelid
			WHERE rel.oid IS NOT NULL OR t.oid IN (SELECT objid FROM member WHERE classid = 'pg_type'::regclass)
		UNION ALL SELECT 'pg_namespace'::regclass, n.oid, 0, nspacl
			FROM pg_namespace n JOIN member ON classid = 'pg_namespace'::regclass AND objid = n.oid
	), property (classid, objid, objsubid, what) AS (
		SELECT classid, objid, 0, 'is there' FROM owned
		UNION ALL
		SELECT 'pg_class'::regclass, oid, 0,
			concat_ws(' ', relkind, relowner::regrole, relpersistence, relrowsecurity, reloptions, relreplident)
		FROM pg_class WHERE (('pg_class'::regclass)::oid, oid) IN (SELECT classid, objid FROM owned)
		UNION ALL
		SELECT 'pg_class'::regclass, attrelid, 0,
			concat_ws(' ', 'column', attname, format_type(atttypid, atttypmod), attnotnull, attstorage, attidentity,
				attgenerated, attcollation::regcollation, pg_get_expr(adbin, adrelid))
		FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum JOIN rel ON rel.oid = attrelid
		WHERE attnum > 0 AND NOT attisdropped AND relkind IN ('r', 'p', 'v', 'c')
		UNION ALL
		-- of views and composite types the order counts
		SELECT 'pg_class'::regclass, attrelid, 0,
			'columns ' || string_agg(attname, ' ' ORDER BY attnum)
		FROM pg_attribute JOIN rel ON rel.oid = attrelid
		WHERE attnum > 0 AND NOT attisdropped AND relkind IN ('v', 'c') GROUP BY attrelid
		UNION ALL
		SELECT 'pg_class'::regclass, oid, 0, pg_get_viewdef(oid) FROM rel WHERE relkind = 'v'
		UNION ALL
		SELECT 'pg_class'::regclass, c.relid, 0, 'dumped ' || condition
		FROM pg_extension, unnest(extconfig, extcondition) AS c (relid, condition) WHERE extname = 'pg_outbox'
		UNION ALL
		SELECT 'pg_class'::regclass, seqrelid, 0,
			concat_ws(' ', seqtypid::regtype, seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle)
		FROM pg_sequence JOIN rel ON rel.oid = seqrelid
		UNION ALL
		SELECT 'pg_class'::regclass, indexrelid, 0, concat_ws(' ', pg_get_indexdef(indexrelid), indisvalid, indisclustered, indisreplident)
		FROM pg_index JOIN rel ON rel.oid = indrelid
		UNION ALL
		SELECT 'pg_constraint'::regclass, c.oid, 0, concat_ws(' ', pg_get_constraintdef(c.oid), convalidated)
		FROM pg_constraint c JOIN rel ON rel.oid = conrelid
		UNION ALL
		SELECT 'pg_trigger'::regclass, t.oid, 0, concat_ws(' ', pg_get_triggerdef(t.oid), tgenabled)
		FROM pg_trigger t JOIN rel ON rel.oid = tgrelid WHERE tgconstraint = 0
		UNION ALL
		SELECT 'pg_event_trigger'::regclass, e.oid, 0, concat_ws(' ', evtevent, evtfoid::regprocedure, evtenabled, evttags)
		FROM pg_event_trigger e JOIN member ON classid = 'pg_event_trigger'::regclass AND objid = e.oid
		UNION ALL
		SELECT 'pg_proc'::regclass, p.oid, 0,
			concat_ws(' ', proowner::regrole,
				CASE WHEN prokind = 'a' THEN (SELECT row_to_json(a)::text FROM pg_aggregate a WHERE aggfnoid = p.oid)
					ELSE pg_get_functiondef(p.oid) END)
		FROM pg_proc p JOIN member ON classid = 'pg_proc'::regclass AND objid = p.oid
		UNION ALL
		SELECT 'pg_type'::regclass, t.oid, 0,
			concat_ws(' ', typtype, typowner::regrole, format_type(typbasetype, typtypmod), typnotnull, typdefault)
		FROM pg_type t JOIN member ON classid = 'pg_type'::regclass AND objid = t.oid
		UNION ALL
		SELECT classid, objid, objsubid, concat_ws(' ', grantee::regrole, 'has', privilege_type, is_grantable, 'from', grantor::regrole)
		FROM granted, aclexplode(acl)
		UNION ALL
		SELECT p.classoid, p.objoid, p.objsubid, concat_ws(' ', 'initially', grantee::regrole, 'has', privilege_type)
		FROM pg_init_privs p JOIN member ON (classid, objid) = (classoid, objoid), aclexplode(initprivs)
		UNION ALL
		SELECT d.classoid, d.objoid, d.objsubid, 'comment ' || description
		FROM pg_description d JOIN owned ON (classid, objid) = (classoid, objoid)
	)
	SELECT format('%s: %s', (SELECT concat_ws(' ', type, identity) FROM pg_identify_object(classid, objid, objsubid)), what) COLLATE "C" AS line
	FROM property ORDER BY line};

# Is one what the other is?  Says what only one has.
sub is_same
{
	my ($got, $expected, $name) = @_;
	my %got = map { $_ => 1 } split /\n/, $got;
	my %expected = map { $_ => 1 } split /\n/, $expected;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($got eq $expected, $name) || diag(join("\n",
			(map { "only updated: $_" } grep { !$expected{$_} } sort keys %got),
			(map { "only new: $_" } grep { !$got{$_} } sort keys %expected)));
}

# Makes what Makefile does of an update script that changes no state.
sub stand_in
{
	my ($version) = @_;
	my $sources = File::Temp->newdir();

	make_path("$sources/sql/update");
	copy($_, "$sources/sql") or die "could not copy $_: $!" foreach glob("$tree/sql/*.sql"), "$tree/sql/manifest";
	copy("$tree/$_", $sources) or die "could not copy $_: $!" foreach qw(Makefile pg_outbox.control);
	open(my $out, '>', "$sources/sql/update/$version--$current.sql") or die "could not write: $!";
	close($out);
	my $script = "pg_outbox--$version--$current.sql";
	system('make', '-s', '-C', $sources, $script) == 0 or die "make $script failed";
	install("$sources/$script", $script);
	install("$directory/pg_outbox--$current.sql", "pg_outbox--$version.sql");
	return;
}

sub install
{
	my ($from, $name) = @_;

	return if -e "$directory/$name";
	copy($from, "$directory/$name") or die "could not write $name: $!";
	push @made, "$directory/$name";
	return;
}

my $node = new_server('updated');
$node->safe_psql('postgres', 'CREATE DATABASE fresh');
$node->safe_psql('fresh', 'CREATE EXTENSION pg_outbox');
my $fresh = $node->safe_psql('fresh', $catalog);

# what the comparison sees
foreach my $change (
	'GRANT SELECT ON outbox.event TO public',
	'COMMENT ON FUNCTION outbox.head() IS $$other$$',
	'ALTER FUNCTION outbox.head() COST 7',
	'ALTER EVENT TRIGGER outbox_capture_follow_ddl DISABLE',
	'ALTER EXTENSION pg_outbox DROP FUNCTION outbox.head()')
{
	isnt($node->safe_psql('fresh', "BEGIN; $change; $catalog; ROLLBACK"), $fresh, "the comparison sees: $change");
}

my @released = map { m{/pg_outbox--(.+)\.sql$} } glob("$tree/test/released/pg_outbox--*.sql");
if (@released)
{
	install("$tree/test/released/pg_outbox--$_.sql", "pg_outbox--$_.sql") foreach @released;
}
else
{
	@released = ('0');
	stand_in('0');
}

# A log with something in every table, positions and attempts included.
sub fill
{
	my ($database, $version) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, "CREATE EXTENSION pg_outbox VERSION '$version'");
	install_orders($node, $database);
	$node->safe_psql($database, q{
		CREATE FUNCTION fails(event outbox.event) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			IF event.data ? 'fail' THEN RAISE 'fails' USING ERRCODE = event.data ->> 'fail'; END IF;
		END $$;
		CREATE FUNCTION gather(state jsonb, event outbox.event) RETURNS jsonb LANGUAGE sql AS
		$$ SELECT coalesce(state, '[]') || to_jsonb(event.type) $$;
		SELECT outbox.register_type('Typed', 'data ? ''id''', 'has an id');
		SELECT outbox.subscribe('quick', '{orders.*}', 'quick_handler');
		SELECT outbox.subscribe('fails', '{Fails}', 'fails', backoff => '1 day', max_backoff => '1 day');
		SELECT outbox.subscribe('pulled', '{Pulled}');
		SELECT outbox.aggregate('gather', '{Fails}', 'Gathered', 'gather', quiet => '1 day');
		SELECT outbox.publish('Fails', '{"fail": "OB002"}', 'dead');
		SELECT outbox.publish('Fails', '{"fail": "P0001"}', 'retry');
		SELECT outbox.publish('Fails', '{}', 'retry');
		SELECT outbox.publish('Pulled');
		SELECT outbox.publish('Typed', '{"id": 1}', idempotency_key => 'kept'), outbox.once('consumer', 1);
		SELECT outbox.publish('Scheduled', deliver_at => '2999-12-31');
		GRANT EXECUTE ON FUNCTION outbox.receive TO public});
	insert_orders($node, $database, 50);
	return;
}

my %state = (
	'log' => q{SELECT r::text FROM outbox.read(0, 1000000) r WHERE "position" <= $head$ ORDER BY "position"},
	'subscriptions' => q{SELECT s::text FROM outbox.subscription s ORDER BY name},
	'dead letters' => q{SELECT d::text FROM outbox.dead_letter d ORDER BY 1},
	'windows' => q{SELECT a::text FROM outbox.aggregation a ORDER BY 1},
	'types' => q{SELECT t::text FROM outbox.event_type t ORDER BY 1},
	'schedule' => q{SELECT s::text FROM outbox.scheduled s ORDER BY 1},
	'waiting' => q{SELECT concat_ws(' ', name, retrying, parked, dead) FROM outbox.status WHERE name <> 'quick' ORDER BY name},
	'rules' => q{SELECT r::text FROM outbox.capture_rule r ORDER BY 1});

sub state_of
{
	my ($database, $head) = @_;

	return join("\n", map {
			my $query = $state{$_} =~ s/\$head\$/$head/r;
			"$_: " . $node->safe_psql($database, $query)
		} sort keys %state);
}

# ---- update ----

foreach my $version (@released)
{
	my $database = "from_$version" =~ s/[^a-z0-9]/_/gr;

	fill($database, $version);
	# nobody serves it: it and the library are of two versions
	my $is_stand_in = $version eq '0';
	my $set = 'UPDATE pg_extension SET extversion = $$%s$$ WHERE extname = $$pg_outbox$$';
	if ($is_stand_in)
	{
		$node->safe_psql($database, sprintf($set, $current));
		is($node->safe_psql($database, "SELECT outbox.wait('quick') AND outbox.wait('gather')"), 't', "$version: is served");
		wait_until($node, $database, "SELECT dead = 1 AND retrying = 1 AND parked = 1 FROM outbox.status WHERE name = 'fails'",
			"$version: all kinds of progress");
		$node->safe_psql($database, sprintf($set, $version));
	}
	my $head = $node->safe_psql($database, 'SELECT outbox.head()');
	my $before = state_of($database, $head);

	# writers, who go on until the update is over and a while longer
	my $script = $node->basedir . "/$database.sql";
	open(my $file, '>', $script) or die "could not write $script: $!";
	print $file "INSERT INTO orders (amount) VALUES (1);\nSELECT outbox.publish('Published', key => 'k');\n",
	  "SELECT outbox.try_publish('Keyed', idempotency_key => 'k' || :client_id);\n";
	close($file);
	my ($said, $blamed) = ('', '');
	my $writers = IPC::Run::start(
		[ 'pgbench', '-n', '-h', $node->host, '-p', $node->port, '-c', 3, '-t', 400, '-R', 150, '-f', $script, $database ],
		'<', \undef, '>', \$said, '2>', \$blamed);
	wait_until($node, $database, 'SELECT count(*) > 100 FROM orders', "$version: writers run");
	quick($node, $database, 'ALTER EXTENSION pg_outbox UPDATE', "$version: the update waits for no writer");
	cmp_ok($node->safe_psql($database, 'SELECT count(*) FROM orders'), '<', 1250, "$version: which go on");
	$writers->finish;
	is($writers->result(0), 0, "$version: without an error") or diag($blamed);
	unlike($blamed, qr/ERROR|aborted/, "$version: nor a word of one");

	is($node->safe_psql($database, 'SELECT extversion FROM pg_extension WHERE extname = $$pg_outbox$$'), $current,
		"$version: is of the version now");
	# what an operator granted stays
	is($node->safe_psql($database, q{
			SELECT has_function_privilege('public', oid, 'EXECUTE') FROM pg_proc WHERE oid = 'outbox.receive'::regproc}),
		't', "$version: what was granted stays");
	$node->safe_psql($database, 'REVOKE EXECUTE ON FUNCTION outbox.receive FROM public');
	is_same($node->safe_psql($database, $catalog), $fresh, "$version: the catalog is that of a new installation");

	wait_for_effects($node, $database, 'quick', 1250, "$version: all that was written is delivered");
	effects_are_exact($node, $database, 'quick', "$version: exactly once");
	is(state_of($database, $head), $before, "$version: what was there is there still");
	is($node->safe_psql($database, q{
			SELECT count(*) - count(DISTINCT id), max("position") - count(*) FROM outbox.read(0, 1000000)}),
		'0|0', "$version: every event has its one position");
	is($node->safe_psql($database, q{SELECT count(*) FROM outbox.event WHERE type = 'Keyed'}), 3, "$version: keys hold");
	is($node->safe_psql($database, q{SELECT count(*) FROM outbox.receive('pulled', max_events => 10)}), 1, "$version: consumers pull");
}

$node->stop;
done_testing();
