# The events of a database are enough to rebuild it: pgbench's four tables,
# filled by COPY, changed by four clients, and with the server killed in
# between, come out of the log row by row, both by a handler that follows the
# log and by one read of it from the beginning.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

my $db = 'postgres';
my $seconds = $ENV{OUTBOX_SECONDS} // 3;
my $node = new_server(
	'rebuild',
	conf => [ "log_statement = none", "log_min_messages = warning", "max_wal_size = 2GB" ]);
my @connection = ('-h', $node->host, '-p', $node->port);
my %key_of = (pgbench_accounts => 'aid', pgbench_tellers => 'tid', pgbench_branches => 'bid',
	pgbench_history => undef);
my @tables = sort keys %key_of;

sub pgbench
{
	my @command = ('pgbench', @connection, @_, $db);

	system("@command >/dev/null 2>&1");
	return $? == 0;
}

# ---- the tables, and their copies ----

ok(pgbench('-i', '-I', 'dtpf', '-q'), 'pgbench makes its tables');
$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	SELECT outbox.capture(t, key => CASE t WHEN 'pgbench_history'::regclass THEN '{}'::text[] END,
		old_values => CASE t WHEN 'pgbench_history'::regclass THEN 'all' ELSE 'changed' END)
	FROM unnest('{pgbench_accounts,pgbench_tellers,pgbench_branches,pgbench_history}'::regclass[]) t;
});

# A copy in a schema, and the function that applies an event to it.  A row of
# the table without a key is found by all its values, and any such row is as
# good as another.
sub make_copy
{
	my ($schema) = @_;
	my $sql = "CREATE SCHEMA $schema;\n";
	my $cases = '';

	foreach my $table (@tables)
	{
		my $key = $key_of{$table};
		my $copy = "$schema.$table";
		my $row = "jsonb_populate_record(NULL::$copy, %s)";
		my $insert = "INSERT INTO $copy SELECT * FROM " . sprintf($row, 'e.data');
		my $remove = sub {
			return $key
			  ? "DELETE FROM $copy WHERE $key = coalesce(e.headers->>'old_key', e.key)::int"
			  : "DELETE FROM $copy WHERE ctid = (SELECT ctid FROM $copy c WHERE c = " . sprintf($row, $_[0]) . " LIMIT 1)";
		};

		$sql .= "CREATE TABLE $copy (LIKE public.$table INCLUDING INDEXES);\n";
		$cases .= "WHEN 'public.$table insert' THEN $insert;\n"
		  . "WHEN 'public.$table update' THEN " . $remove->('e.old') . "; $insert;\n"
		  . "WHEN 'public.$table delete' THEN " . $remove->('e.data') . ";\n"
		  . "WHEN 'public.$table truncate' THEN TRUNCATE $copy;\n";
	}
	$node->safe_psql($db, qq{
		$sql
		CREATE FUNCTION $schema.apply(e outbox.event) RETURNS void LANGUAGE plpgsql AS \$\$
		BEGIN
			CASE e.source || ' ' || e.operation
			$cases
			END CASE;
		END \$\$});
	return;
}

make_copy('followed');
make_copy('replayed');
$node->safe_psql($db, q{
	SELECT outbox.subscribe('follow', handler => 'followed.apply', start => 'beginning', ordering => 'strict');

	CREATE FUNCTION replayed.go_on() RETURNS bigint LANGUAGE plpgsql AS $$
	DECLARE
		r record;
		upto bigint;
		before bigint;
	BEGIN
		SELECT position INTO upto FROM replayed.reached;
		LOOP
			before := upto;
			FOR r IN SELECT position, ROW (id, xid, time, type, source, key, operation, data, old,
										   headers, correlation_id, causation_id)::outbox.event AS e
					 FROM outbox.read(after => upto, max_events => 7777)
			LOOP
				PERFORM replayed.apply(r.e);
				upto := r.position;
			END LOOP;
			EXIT WHEN upto = before;
		END LOOP;
		UPDATE replayed.reached SET position = upto;
		RETURN upto;
	END $$;
	CREATE TABLE replayed.reached AS SELECT 0::bigint AS position;
});

# ---- what must hold ----

sub check_copies
{
	my ($when) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql($db, q{SELECT outbox.wait(timeout => '60 seconds')}), 't', "$when: all is handled");
	is($node->safe_psql($db, 'SELECT replayed.go_on() = outbox.head()'), 't', "$when: all is read");

	foreach my $schema (qw(followed replayed))
	{
		my $differences = join(', ', map {
			qq{(SELECT count(*) FROM (TABLE public.$_ EXCEPT ALL TABLE $schema.$_) d),
			   (SELECT count(*) FROM (TABLE $schema.$_ EXCEPT ALL TABLE public.$_) d)} } @tables);

		is($node->safe_psql($db, "SELECT $differences"), '0|0|0|0|0|0|0|0',
			"$when: the $schema tables equal the real ones");
	}

	# each transaction of pgbench moves all sums alike
	is($node->safe_psql($db, q{
		WITH change AS (
			SELECT position, xid, split_part(source, '_', 2) AS what,
				   CASE operation
				   WHEN 'update' THEN coalesce((data->>'abalance')::bigint - (old->>'abalance')::bigint,
											   (data->>'tbalance')::bigint - (old->>'tbalance')::bigint,
											   (data->>'bbalance')::bigint - (old->>'bbalance')::bigint)
				   WHEN 'insert' THEN (data->>'delta')::bigint
				   END AS delta
			FROM outbox.read(max_events => 100000000)),
		movement AS (
			SELECT min(position) AS first, max(position) - min(position) + 1 - count(*) AS alien,
				   coalesce(sum(delta) FILTER (WHERE what = 'accounts'), 0) AS accounts,
				   coalesce(sum(delta) FILTER (WHERE what = 'tellers'), 0) AS tellers,
				   coalesce(sum(delta) FILTER (WHERE what = 'branches'), 0) AS branches,
				   coalesce(sum(delta) FILTER (WHERE what = 'history'), 0) AS history
			FROM change GROUP BY xid),
		total AS (
			SELECT alien, sum(accounts) OVER w AS accounts, sum(tellers) OVER w AS tellers,
				   sum(branches) OVER w AS branches, sum(history) OVER w AS history
			FROM movement WINDOW w AS (ORDER BY first))
		SELECT count(*) > 0, sum(alien), count(*) FILTER (WHERE accounts <> tellers),
			   count(*) FILTER (WHERE tellers <> branches), count(*) FILTER (WHERE branches <> history)
		FROM total}),
		't|0|0|0|0', "$when: at the end of each transaction the balances agree");
	return;
}

# ---- the load ----

my $began = time;
ok(pgbench('-i', '-I', 'g', '-q'), 'pgbench fills its tables by COPY');

# without -n, pgbench truncates the history first
ok(pgbench('-c', 4, '-j', 2, '-T', $seconds), 'pgbench runs');
check_copies('after a run');

# what pgbench never does; sums stay as they are
$node->safe_psql($db, q{
	INSERT INTO pgbench_history SELECT 1, 1, 1, 0, now(), 'same' FROM generate_series(1, 5);
	UPDATE pgbench_history SET filler = 'changed'
	WHERE ctid IN (SELECT ctid FROM pgbench_history WHERE filler = 'same' LIMIT 3);
	DELETE FROM pgbench_history
	WHERE ctid IN (SELECT ctid FROM pgbench_history WHERE filler = 'same' LIMIT 1);
	INSERT INTO pgbench_tellers VALUES (11, 1, 0, NULL);
	UPDATE pgbench_tellers SET tid = 1011 WHERE tid = 11;
	UPDATE pgbench_tellers SET filler = 'moved' WHERE tid = 1011;
	INSERT INTO pgbench_tellers VALUES (11, 1, 0, NULL), (12, 1, 0, NULL);
	DELETE FROM pgbench_tellers WHERE tid = 12;
	BEGIN;
	TRUNCATE pgbench_history;
	DELETE FROM pgbench_accounts WHERE aid <= 100;
	ROLLBACK;
});
check_copies('after odd changes');

# Runs pgbench until some of its transactions are in, then fells the server.
sub break_off
{
	my ($fell) = @_;
	my $history = $node->safe_psql($db, 'SELECT count(*) FROM pgbench_history');
	my $pid = fork() // die "could not fork: $!";

	if ($pid == 0)
	{
		open(STDOUT, '>', '/dev/null');
		open(STDERR, '>', '/dev/null');
		exec('pgbench', '-n', @connection, '-c', 4, '-j', 2, '-T', 600, $db) or POSIX::_exit(127);
	}
	$node->poll_query_until($db, "SELECT count(*) > $history + 300 FROM pgbench_history");
	$fell->();
	kill('KILL', $pid);
	waitpid($pid, 0);
	for (1 .. 300)
	{
		last if $node->start(fail_ok => 1);
		sleep 0.1;
		$node->stop('fast', fail_ok => 1);
	}
	return;
}

break_off(sub { $node->kill9 });
check_copies('after kill -9 of the server');
break_off(sub { $node->stop('immediate') });
check_copies('after an immediate stop');
ok(pgbench('-n', '-c', 4, '-j', 2, '-T', $seconds), 'pgbench runs once more');
check_copies('at the end');
note($node->safe_psql($db, 'SELECT outbox.head()') . ' events in '
	  . sprintf('%.0f s', time - $began));

$node->stop;
done_testing();
