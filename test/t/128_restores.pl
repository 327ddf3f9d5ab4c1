# Whichever way a log is dumped and restored, no event is delivered twice or
# skipped, none is stored twice, and no id is given twice; docs/operations.md has
# the table of ways that this test goes through.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my @conf = ("fsync = off", "max_connections = 150", "max_worker_processes = 100");
my $source = new_server('source', conf => \@conf);
# the workers there look all the time: a restore that is not one transaction is
# seen at every stage
my $target = new_server('target', conf => [@conf, "outbox.poll_interval = '10ms'"]);
my $dir = $source->basedir;

my $number = 0;

# A fresh database, in which a command restores something.
sub restored
{
	my ($title, @command) = @_;
	my $database = 'r' . ++$number;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$target->safe_psql('postgres', "CREATE DATABASE $database");
	foreach my $step (ref $command[0] ? @command : [@command])
	{
		my ($ok, $out) = client($target, map { s/DATABASE/$database/r } @$step);
		ok($ok && $out !~ /ERROR|WARNING/, "$title: restores without a word") || diag($out);
	}
	return $database;
}

# The log goes on: new orders are handled once, and nothing old again.
sub goes_on
{
	my ($node, $database, $title) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->safe_psql($database, "INSERT INTO orders (id, amount) SELECT 1000 + i, i FROM generate_series(1, 20) i");
	is($node->safe_psql($database, "SELECT outbox.wait(timeout => '60 s')"), 't', "$title: is served")
	  || diag($node->safe_psql($database, q{
		SELECT name, state, worker, last_error FROM outbox.status;
		TABLE outbox.worker;
		SELECT outbox.head(), (SELECT count(*) FROM outbox.event), clock_timestamp();
		TABLE outbox.progress;
		SELECT * FROM pg_stat_activity WHERE datname = current_database() OR datname IS NULL}));
	is( $node->safe_psql($database, q{
			SELECT count(*), count(DISTINCT id) FROM effect WHERE handler = 'quick' AND id > 1000}),
		'20|20', "$title: every new order is handled once");
	is( $node->safe_psql($database, q{
			SELECT count(*), count(DISTINCT id) FROM effect WHERE handler = 'late' AND id > 1000}),
		'20|20', "$title: also by a subscription that began after the last event");
	is( $node->safe_psql($database, q{
			SELECT count(*) - count(DISTINCT id), count(*) - count(DISTINCT "position") FROM outbox.read()}),
		'0|0', "$title: no id and no position is given twice");
	is( $node->safe_psql($database, q{
			SELECT count(*) FROM outbox.event e WHERE NOT EXISTS (
				SELECT FROM outbox.schema_version v WHERE v.source = e.source
				AND v.version = coalesce((e.headers ->> 'schema_version')::integer, 1))
			AND e.operation IS NOT NULL}),
		0, "$title: every event's version is known");
	is( $node->safe_psql($database, q{
			SELECT count(*) FROM pg_trigger
			WHERE tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'outbox'::regnamespace)
			  AND NOT tgisinternal AND tgenabled <> 'A'}),
		0, "$title: the log is guarded always");
	return;
}

# All of the source is there, and what was handled is not handled again.
sub is_whole
{
	my ($node, $database, $title) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is( $node->safe_psql($database, q{
			SELECT count(*), count(DISTINCT "position"), min("position"), max("position") FROM outbox.read()}),
		'11|11|1|11', "$title: the log is whole");
	goes_on($node, $database, $title);
	is( $node->safe_psql($database, "SELECT count(*), count(DISTINCT id) FROM effect WHERE handler = 'quick' AND id <= 10"),
		'10|10', "$title: what was handled is not handled again");
	return;
}

sub dump_to
{
	my ($file, @options) = @_;
	my ($ok, $out) = client($source, 'pg_dump', '-f', "$dir/$file", @options, 'shop');

	ok($ok, "pg_dump @options") || diag($out);
	return "$dir/$file";
}

# the source
$source->safe_psql('postgres', 'CREATE DATABASE shop');
install_orders($source, 'shop');
$source->safe_psql('shop', q{
	ALTER TABLE orders ADD COLUMN note text;
	SELECT outbox.subscribe('quick', '{orders.*}', 'quick_handler');
	SELECT outbox.subscribe('pull', '{other}');
	SELECT outbox.publish('other', deliver_at => '2999-12-31');
	SELECT outbox.publish('other')});
insert_orders($source, 'shop', 10);
$source->safe_psql('shop', "SELECT outbox.wait('quick', '60 s')");
# the transaction ids of the target are behind where this one begins
$source->safe_psql('shop', q{
	DO $$ BEGIN
		FOR i IN 1..20000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP;
	END $$});
my $late = q{
	SELECT outbox.subscribe('late', '{orders.*}', 'late_handler', start => 'now')};
$source->safe_psql('shop', q{
	CREATE FUNCTION late_handler(event jsonb) RETURNS void LANGUAGE sql AS $$
		INSERT INTO public.effect (handler, id)
		VALUES ('late', (event->'data'->>'id')::integer) $$;} . $late);

my @psql = ('psql', '-X', '-q', '-o', '/dev/null', '-d', 'DATABASE');
my @strict = (@psql, '-v', 'ON_ERROR_STOP=1');
my @restore = ('pg_restore', '-d', 'DATABASE');

# whole databases, in every format
my $plain = dump_to('plain.sql');
my $custom = dump_to('custom', '-Fc');
dump_to('directory', '-Fd', '-j', '2');
dump_to('tar', '-Ft');
my %whole = (
	'plain, psql' => [@strict, '-f', $plain],
	'plain, psql -1' => [@strict, '-1', '-f', $plain],
	'custom, pg_restore' => [@restore, $custom],
	'custom, pg_restore -1' => [@restore, '-1', $custom],
	'custom, pg_restore --no-owner' => [@restore, '--no-owner', $custom],
	'directory, pg_restore -j 4' => [@restore, '-j', '4', "$dir/directory"],
	'tar, pg_restore' => [@restore, "$dir/tar"],
	'sections' => [ map { [@restore, "--section=$_", $custom] } qw(pre-data data post-data) ],
	'--inserts' => [@strict, '-f', dump_to('inserts.sql', '--inserts')],
	'--column-inserts, psql -1' => [@strict, '-1', '-f', dump_to('column.sql', '--column-inserts')],
	'--rows-per-insert, psql that goes on after errors' =>
	  [@psql, '-f', dump_to('rows.sql', '--rows-per-insert=3')],
	'--inserts, custom, pg_restore' => [@restore, dump_to('inserts.custom', '-Fc', '--inserts')],
	'schema, then data with --disable-triggers' => [
		[@restore, '--schema-only', $custom],
		[@restore, '--data-only', '--disable-triggers', $custom] ],
);
foreach my $way (sort keys %whole)
{
	my @command = @{ $whole{$way} };
	is_whole($target, restored($way, @command), $way);
}

# --clean, where the log already is
my $database = restored('--clean', @restore, $custom);
$target->safe_psql($database, "SELECT outbox.publish('Gone')");
my ($ok, $out) = client($target, 'pg_restore', '--clean', '--if-exists', '-d', $database, $custom);
ok($ok, '--clean: restores') || diag($out);
is_whole($target, $database, '--clean');

# twice, before anything is emitted
foreach my $file ('plain.sql', 'inserts.sql', 'rows.sql')
{
	my $database = restored("$file", @strict, '-f', "$dir/$file");
	my ($ok, $out) = client($target, @psql, '-d', $database, '-f', "$dir/$file");
	like($out, qr/ERROR:  cannot load rows into "outbox\.event_\w+"/, "$file once more: says what it will not do");
	is( $target->safe_psql($database, q{
			SELECT count(*), count(DISTINCT "position"), min("position"), max("position") FROM outbox.read()}),
		'11|11|1|11', "$file once more: the log is whole");
	goes_on($target, $database, "$file once more");
}

# into a log that has events: refused, whatever the options
sub refuses
{
	my ($title, @command) = @_;
	my $before = $source->safe_psql('shop', 'SELECT count(*), md5(string_agg(e::text, \',\' ORDER BY id, xid)) FROM outbox.event e');

	my $keys = $source->safe_psql('shop', 'SELECT count(*) FROM outbox.seen_0');

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($ok, $out) = client($source, @command);
	ok(!$ok, "$title: fails");
	like($out, qr/ERROR:  cannot load rows into "outbox\.event_default"/, "$title: says so");
	like($out, qr/HINT:  Restore into a database without events, or leave the log out/, "$title: and what to do");
	is($source->safe_psql('shop', 'SELECT count(*), md5(string_agg(e::text, \',\' ORDER BY id, xid)) FROM outbox.event e'),
		$before, "$title: the log is untouched");
	is($source->safe_psql('shop', 'SELECT count(*) FROM outbox.seen_0'), $keys, "$title: so are the keys");
	return;
}
$source->safe_psql('shop', "SELECT outbox.once('mailer', id) FROM outbox.event WHERE id = 1; TRUNCATE orders");
$custom = dump_to('custom2', '-Fc');
$source->safe_psql('shop', "INSERT INTO orders (id, amount) VALUES (21, 1), (22, 2)");
$source->safe_psql('shop', "SELECT outbox.wait('quick', '60 s')");
refuses('--data-only', 'pg_restore', '--data-only', '-d', 'shop', $custom);
goes_on($source, 'shop', 'after --data-only');
is($source->safe_psql('shop', "SELECT outbox.once('other', max(id)) FROM outbox.event"), 't', 'an event after it is new to its consumers');
$source->safe_psql('shop', "TRUNCATE orders; DELETE FROM effect");
refuses('--data-only --disable-triggers', 'pg_restore', '--data-only', '--disable-triggers', '-d', 'shop', $custom);
like($source->safe_psql('shop', "SELECT string_agg(DISTINCT tgenabled::text, ',') FROM pg_trigger WHERE tgrelid = 'outbox.event'::regclass AND NOT tgisinternal"),
	qr/^A$/, 'its triggers stay enabled always');
goes_on($source, 'shop', 'after --data-only --disable-triggers');
is($source->safe_psql('shop', "SELECT count(*) > 0 FROM outbox.scheduled"), 't', 'what is scheduled stays so');
$source->safe_psql('shop', "TRUNCATE orders; DELETE FROM effect");
($ok, $out) = client($source, 'pg_restore', '--data-only', '-N', 'outbox', '-d', 'shop', $custom);
ok($ok, '--data-only -N outbox: restores') || diag($out);
goes_on($source, 'shop', 'after --data-only -N outbox');

# without the log, or without a part of it
$source->safe_psql('shop', "TRUNCATE orders; DELETE FROM effect; SELECT outbox.wait('quick', '60 s')");
foreach my $without (
	'outbox.*',
	'outbox.event*',
	'outbox.event* outbox.segment',
	'outbox.event* outbox.segment outbox.generation',
	'outbox.segment',
	'outbox.progress',
	'outbox.schema_version')
{
	my $file = "without." . ++$number;
	my $database = restored("without $without", @restore,
		dump_to($file, '-Fc', map { "--exclude-table-data=$_" } split / /, $without));
	my $title = "without $without";

	$target->safe_psql($database, "SELECT outbox.subscribe('quick', '{orders.*}', 'quick_handler');$late")
	  if $without eq 'outbox.*';
	$target->safe_psql($database, "INSERT INTO orders (id, amount) VALUES (500, 1)");
	if ($without eq 'outbox.segment' || $without eq 'outbox.progress')
	{
		is($target->safe_psql($database, "SELECT state FROM outbox.status WHERE name = 'quick'"), 'lost', "$title: the subscription is lost");
		like($target->safe_psql($database, "SELECT last_error FROM outbox.status WHERE name = 'quick'"),
			qr/how far it has come is not known/, "$title: and says why");
		# the end of the log is where its events have positions
		wait_until($target, $database, 'SELECT (SELECT count(*) FROM outbox.read()) = (SELECT count(*) FROM outbox.event)',
			"$title: the log has positions");
		$target->safe_psql($database, "SELECT outbox.seek('quick', outbox.head() + 1), outbox.seek('pull', outbox.head() + 1), outbox.seek('late', outbox.head() + 1)");
	}
	goes_on($target, $database, $title);
}

# one table, without the log
my $tables = dump_to('tables', '-Fc', '-N', 'outbox', '-t', 'orders');
my $kept = restored('-t', ['psql', '-X', '-q', '-d', 'DATABASE', '-c', 'CREATE EXTENSION pg_outbox'], [@restore, $tables]);
is($target->safe_psql($kept, 'SELECT count(*) FROM outbox.event'), 0, '-t: no event for what was there');
$target->safe_psql($kept, "INSERT INTO orders VALUES (1, 1)");
is( $target->safe_psql($kept, 'SELECT count(*) FROM outbox.schema_version v JOIN outbox.event e USING (source)'),
	1, '-t: the version of the table is known');

$_->stop foreach ($source, $target);
done_testing();
