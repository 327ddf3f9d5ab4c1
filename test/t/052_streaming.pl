# A transaction of any size is positioned and delivered in order, in memory
# that does not grow with it, while events of others come and go (G3, G7).
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $db = 'postgres';
my $events = $ENV{OUTBOX_EVENTS} // 1_000_000;
my $limit = 50 * 1024;			# kB
my $node = new_server(
	'streaming',
	conf => [
		"log_statement = none",
		"log_min_messages = warning",
		"shared_buffers = 16MB",	# counts as a process's memory
		"max_wal_size = 4GB",
		"checkpoint_timeout = 1h",
		"fsync = off" ]);

$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	CREATE TABLE big (id bigint PRIMARY KEY, note text);
	SELECT outbox.capture('big');
	CREATE TABLE effect (n bigint GENERATED ALWAYS AS IDENTITY, id bigint, type text, key text);
	CREATE FUNCTION handle(e outbox.event[]) RETURNS void LANGUAGE sql AS $$
		INSERT INTO public.effect (id, type, key)
		SELECT id, type, key FROM unnest(e) WITH ORDINALITY u ORDER BY ordinality $$;
	CREATE TABLE said (key text);
	SELECT outbox.subscribe('s', handler => 'handle', start => 'beginning');
});

# ---- the memory of the workers ----

# Peak and present size of a process, in kB.
sub sizes_of
{
	my ($pid) = @_;
	my $status = slurp_file("/proc/$pid/status");

	return map { $status =~ /^$_:\s+(\d+) kB/m ? $1 : 0 } qw(VmHWM RssAnon);
}

sub publish
{
	my ($key) = @_;

	$node->safe_psql($db, "INSERT INTO said VALUES ('$key'); SELECT outbox.publish('small', key => '$key')");
	return;
}

plan skip_all => 'no /proc here' if !-r "/proc/$$/status";
publish('first');
is($node->safe_psql($db, q{SELECT outbox.wait('s')}), 't', 'workers run');
my %worker = map { $_ => worker_pid($node, $db, $_) } qw(sequencer dispatcher);
my %before = map { $_ => (sizes_of($worker{$_}))[0] } keys %worker;

# ---- one transaction, and others around it ----

my $writer = $node->background_psql($db);
my $began = time;
$writer->query_safe(qq{
	BEGIN;
	SELECT FROM outbox.publish('big.began', key => '0');
	INSERT INTO big SELECT i, 'note ' || i FROM generate_series(1, $events) i;
});
note(sprintf('%d rows in %.1f s', $events, time - $began));

publish("during $_") for 1 .. 20;
is($node->safe_psql($db, q{SELECT outbox.wait('s', '60 seconds')}), 't',
	'events of others do not wait for the open transaction');
is($node->safe_psql($db, q{SELECT count(*), count(*) FILTER (WHERE type <> 'small') FROM effect}), '21|0',
	'and come alone');

$began = time;
$writer->query_safe('COMMIT');
publish("after $_") for 1 .. 20;
is($node->safe_psql($db, q{SELECT outbox.wait('s', '180 seconds')}), 't', 'the transaction is delivered');
note(sprintf('delivered in %.1f s', time - $began));
$writer->quit;

# ---- what must hold ----

my %after;
foreach my $role (sort keys %worker)
{
	my ($peak, $own) = sizes_of($worker{$role});

	note("$role: at most $before{$role} kB before, $peak kB after, of that its own $own kB now");
	cmp_ok($peak - $before{$role}, '<', $limit, "the $role\'s memory is bounded");
}
is($node->safe_psql($db, "SELECT count(*) = $events + 42, max(position) = count(*) FROM outbox.read(max_events => 100000000)"),
	't|t', 'every event has a position');
is($node->safe_psql($db, qq{
	SELECT count(*) FILTER (WHERE type = 'big.inserted') - $events, count(DISTINCT id) - count(*),
		   count(*) FILTER (WHERE type <> 'small' AND key::bigint <> before + 1) FROM (
		SELECT type, id, key, CASE WHEN type <> 'small' THEN lag(key) OVER (PARTITION BY type = 'small' ORDER BY n) END::bigint AS before
		FROM effect) e}),
	'0|0|0', 'each event of the transaction is handled once, in order');
is($node->safe_psql($db, q{
	SELECT max(n) - min(n) + 1 - count(*) FROM (SELECT type, row_number() OVER (ORDER BY n) AS n FROM effect) e
	WHERE type <> 'small'}),
	'0', 'with none of another transaction in between');
is($node->safe_psql($db, q{
	SELECT count(*) FROM said FULL JOIN (SELECT key FROM effect WHERE type = 'small') e USING (key)
	WHERE said.key IS NULL OR e.key IS NULL}),
	'0', 'no event of another transaction is lost');
is($node->safe_psql($db, q{
	SELECT count(*) FROM (SELECT position, id, key FROM outbox.read(after => (SELECT outbox.head() / 2), max_events => 3)) r
	JOIN effect e USING (id, key) WHERE e.n = r.position}),
	'3', 'a reader resumes inside the transaction');

$node->stop;
done_testing();
