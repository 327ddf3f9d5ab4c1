# Retention takes whole partitions, and never one with an event that somebody
# has still to handle: a paused subscription, a retry, a transaction that is
# open or prepared while its partition grows old.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use File::Temp qw(tempdir);
use IPC::Run ();
use OutboxServer;
use POSIX ();
use Test::More;

my $db = 'postgres';
my $node = new_server(
	'retention',
	conf => [
		"log_statement = none",
		"log_min_messages = warning",
		"fsync = off",
		"outbox.partition_interval = 1s",
		"outbox.retention = 2s" ]);

$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	CREATE TABLE said (id bigint PRIMARY KEY);
	CREATE FUNCTION say() RETURNS void LANGUAGE sql AS $$
		INSERT INTO said VALUES (outbox.publish('t', key => (random() * 50)::int::text)) $$;
	CREATE TABLE effect (n bigint GENERATED ALWAYS AS IDENTITY, subscription text,
						 position bigint, id bigint, key text);
	CREATE FUNCTION handle(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effect (subscription, position, id, key)
		VALUES (outbox.current_subscription(), outbox.current_position(), e.id, e.key);
		IF random() < 0.01 THEN
			RAISE 'not now';
		END IF;
	END $$;
	SELECT outbox.subscribe(s, handler => 'handle', max_attempts => 1000,
							backoff => '2 seconds', max_backoff => '4 seconds')
	FROM unnest('{steady,paused}'::text[]) s;
});

# ---- the load ----

my $scratch = tempdir(CLEANUP => 1);
my %scripts = (
	quick => 'SELECT say();',
	long => q{
\set ms random(10, 2500)
BEGIN;
SELECT say();
\sleep :ms ms
SELECT say();
COMMIT;
},
	prepared => q{
\set ms random(10, 5000)
BEGIN;
SELECT say();
PREPARE TRANSACTION 'p:client_id';
\sleep :ms ms
COMMIT PREPARED 'p:client_id';
});
my @loads;
END { kill('KILL', @loads) if @loads; }

foreach my $name (sort keys %scripts)
{
	open(my $file, '>', "$scratch/$name") or die "could not write: $!";
	print $file $scripts{$name};
	close($file);

	my $pid = fork() // die "could not fork: $!";
	if ($pid == 0)
	{
		open(STDOUT, '>', '/dev/null');
		open(STDERR, '>&', \*STDOUT);
		exec('pgbench', '-n', '-h', $node->host, '-p', $node->port, '-c', 3, '-T', 600,
			'-R', $name eq 'quick' ? 200 : 20, '-f', "$scratch/$name", $db)
		  or POSIX::_exit(127);
	}
	push @loads, $pid;
}

# ---- what must hold ----

wait_until($node, $db, 'SELECT outbox.oldest() > 1', 'partitions are dropped under load');
$node->safe_psql($db, q{SELECT outbox.pause('paused')});

# older than retention says by far
my $needed = $node->safe_psql($db, q{
	SELECT max(position) + 1 FROM outbox.progress p
	JOIN outbox.subscription s ON s.id = p.subscription WHERE s.name = 'paused'});
wait_until($node, $db,
	"SELECT min(time) < clock_timestamp() - interval '6 seconds' FROM outbox.read(after => $needed - 1, max_events => 1)",
	'what a paused subscription needs grows old');
cmp_ok($node->safe_psql($db, 'SELECT outbox.oldest()'), '<=', $needed, 'and is kept');

$node->safe_psql($db, q{SELECT outbox.resume('paused')});
wait_until($node, $db, "SELECT outbox.oldest() > $needed", 'what was resumed and handled goes');

kill('TERM', @loads);
waitpid($_, 0) foreach @loads;
@loads = ();
$node->poll_query_until($db,
	"SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'pgbench'");
$node->safe_psql($db, "COMMIT PREPARED '$_'")
  foreach split(/\n/, $node->safe_psql($db, 'SELECT gid FROM pg_prepared_xacts'));
is($node->safe_psql($db, q{SELECT outbox.wait(timeout => '60 seconds')}), 't', 'all is handled');

foreach my $name (qw(steady paused))
{
	is($node->safe_psql($db, qq{
		SELECT count(*) FILTER (WHERE said.id IS NULL) AS unknown,
			   count(*) FILTER (WHERE e.id IS NULL) AS missing,
			   count(*) FILTER (WHERE e.n > 1) AS repeated
		FROM said
		FULL JOIN (SELECT id, count(*) AS n FROM effect WHERE subscription = '$name' GROUP BY id) e
		USING (id)}),
		'0|0|0', "$name: every event handled once, before it went");
	is($node->safe_psql($db, qq{
		SELECT min(position), max(position) - count(*), max(position) - outbox.head(),
			   count(*) FILTER (WHERE late)
		FROM (SELECT position, position < lag(position) OVER (PARTITION BY key ORDER BY n) AS late
			  FROM effect WHERE subscription = '$name') e}),
		'1|0|0|0', "$name: at positions without a gap, each key in order");
}
is($node->safe_psql($db, q{SELECT count(*) FROM outbox.status WHERE state <> 'active'}), 0,
	'no subscription lost anything');
wait_until($node, $db, 'SELECT outbox.oldest() IS NULL', 'in the end everything goes');
is($node->safe_psql($db, 'SELECT outbox.head() = (SELECT max(position) FROM effect)'), 't',
	'but not the position');

# who calls run() meets others, and workers, who make and drop the same
# partitions; also in a log that never had an event
foreach my $events ('', q{SELECT outbox.publish('t');})
{
	my $script = $node->basedir . '/run.sql';

	open(my $out, '>', $script) or die $!;
	print $out "$events\nCALL outbox.run();\n";
	close($out);
	$node->safe_psql($db, 'CREATE DATABASE calls');
	$node->safe_psql('calls', 'CREATE EXTENSION pg_outbox');
	my ($said, $failed) = ('', '');
	IPC::Run::run([ 'pgbench', '-n', '-c', 6, '-T', 4, '-f', $script, '-h', $node->host, '-p', $node->port, 'calls' ],
		'>', \$said, '2>', \$failed);
	is(join("\n", grep { /ERROR/ } split /\n/, $failed), '',
		'calls of run() beside each other do not fail' . ($events ? '' : ', in a log without events'));
	$node->safe_psql($db, 'DROP DATABASE calls WITH (FORCE)');
}

$node->stop;
done_testing();
