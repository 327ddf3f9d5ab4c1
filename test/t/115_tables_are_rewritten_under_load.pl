# VACUUM FULL, CLUSTER and REINDEX of our tables, while events come and are
# handled: nothing is lost, nothing happens twice.  What would copy a table by
# triggers is refused, for it could not follow.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use File::Temp qw(tempdir);
use OutboxServer;
use POSIX ();
use Test::More;

my $db = 'postgres';
my $node = new_server(
	'rewritten',
	conf => [
		'log_statement = none', 'log_min_messages = warning', 'fsync = off',
		'outbox.partition_interval = 1h' ]);
$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	CREATE TABLE said (id bigint PRIMARY KEY);
	CREATE FUNCTION say() RETURNS void LANGUAGE sql AS $$
		INSERT INTO said VALUES (outbox.publish('t', key => (random() * 20)::int::text)) $$;
	CREATE TABLE effect (n bigint GENERATED ALWAYS AS IDENTITY, position bigint, id bigint, key text);
	CREATE FUNCTION handle(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effect (position, id, key) VALUES (outbox.current_position(), e.id, e.key);
		IF random() < 0.02 THEN
			RAISE 'not now';
		END IF;
	END $$;
	SELECT outbox.subscribe('s', handler => 'handle', max_attempts => 1000, concurrency => 2,
							backoff => '100 ms', max_backoff => '1 s')});

my $scratch = tempdir(CLEANUP => 1);
my $load;
END { kill('KILL', $load) if $load; }
open(my $file, '>', "$scratch/say") or die "could not write: $!";
print $file "SELECT say();\n";
close($file);
$load = fork() // die "could not fork: $!";
if ($load == 0)
{
	open(STDOUT, '>', '/dev/null');
	open(STDERR, '>&', \*STDOUT);
	exec('pgbench', '-n', '-h', $node->host, '-p', $node->port, '-c', 3, '-T', 600, '-R', 300,
		'-f', "$scratch/say", $db)
	  or POSIX::_exit(127);
}
wait_until($node, $db, 'SELECT count(*) > 300 FROM effect', 'events are handled');
wait_until($node, $db,
	q{SELECT EXISTS (SELECT FROM outbox.event WHERE tableoid <> 'outbox.event_default'::regclass) OR
		count(*) > 1 FROM pg_inherits WHERE inhparent = 'outbox.event'::regclass},
	'there are partitions');

my @tables = split(/\n/, $node->safe_psql($db, q{
	SELECT c.oid::regclass FROM pg_class c
	WHERE c.relnamespace = 'outbox'::regnamespace AND c.relkind = 'r' ORDER BY c.relname}));
my $first = $node->safe_psql($db, 'SELECT outbox.head()');
foreach my $round (1 .. 2)
{
	my @failed;

	foreach my $table (@tables)
	{
		my $index = $node->safe_psql($db, qq{
			SELECT i.indexrelid::regclass FROM pg_index i JOIN pg_am a ON a.amname = 'btree'
			JOIN pg_class c ON c.oid = i.indexrelid AND c.relam = a.oid
			WHERE i.indrelid = '$table'::regclass AND i.indpred IS NULL ORDER BY 1 LIMIT 1});

		foreach my $command ("VACUUM FULL $table",
			$index ne '' ? "CLUSTER $table USING " . ($index =~ s/^outbox\.//r) : (),
			"REINDEX TABLE $table", "REINDEX TABLE CONCURRENTLY $table", "VACUUM ANALYZE $table")
		{
			my ($code, $out, $err) = $node->psql($db, $command);

			push @failed, "$command: $err" if $code != 0;
		}
	}
	is(join("\n", @failed), '', "round $round: every table can be rewritten");
}
my $last = $node->safe_psql($db, 'SELECT outbox.head()');
cmp_ok($last, '>', $first, 'while events got positions');

kill('TERM', $load);
waitpid($load, 0);
$load = undef;
$node->poll_query_until($db,
	"SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'pgbench'");
is($node->safe_psql($db, q{SELECT outbox.wait(timeout => '60 seconds')}), 't', 'all is handled');
is($node->safe_psql($db, q{
	SELECT count(*) FILTER (WHERE said.id IS NULL) AS unknown,
		   count(*) FILTER (WHERE e.n IS NULL) AS missing,
		   count(*) FILTER (WHERE e.n > 1) AS repeated
	FROM said FULL JOIN (SELECT id, count(*) AS n FROM effect GROUP BY id) e USING (id)}),
	'0|0|0', 'every event once');
is($node->safe_psql($db, q{
	SELECT min(position), max(position) - count(*), max(position) - outbox.head(),
		   count(*) FILTER (WHERE late)
	FROM (SELECT position, position < lag(position) OVER (PARTITION BY key ORDER BY n) AS late FROM effect) e}),
	'1|0|0|0', 'at positions without a gap, each key in order');
is($node->safe_psql($db, q{SELECT count(*) FROM outbox.read(max_events => 1000000)}),
	$node->safe_psql($db, 'SELECT outbox.head()'), 'all can be read');

# ---- what cannot follow ----

$node->safe_psql($db, q{
	CREATE FUNCTION copies() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$});
foreach my $table (@tables, 'outbox.event')
{
	my ($code, $out, $err) = $node->psql($db, qq{
		CREATE TRIGGER repack_trigger AFTER INSERT OR DELETE OR UPDATE ON $table
		FOR EACH ROW EXECUTE FUNCTION copies()});
	like($err, qr/--exclude-extension=pg_outbox/, "a trigger on $table is refused");
}
my ($code, $out, $err) = $node->psql($db,
	'CREATE RULE copies AS ON INSERT TO outbox.segment DO ALSO NOTHING');
like($err, qr/cannot create a trigger or a rule on "outbox\.segment"/, 'and so is a rule');
is($node->psql($db, q{
	CREATE TABLE own (a int);
	CREATE TRIGGER own AFTER INSERT ON own FOR EACH ROW EXECUTE FUNCTION copies();
	CREATE RULE own AS ON DELETE TO own DO INSTEAD NOTHING}), 0, 'but not on other tables');

$node->stop;
done_testing();
