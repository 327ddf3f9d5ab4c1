# Whatever is killed when: the log holds exactly what committed, in one order
# that everybody sees and that never changes, and every subscription handles
# each of its events once, the events of a key in order.
#
# Writers run transactions of all kinds, and consumers pull, while processes are
# killed at random and lanes are divided anew.
# Each transaction notes in ordinary tables what it means to emit, so that the
# tables say, after rollbacks and crashes, what the log must hold.
#
#   OUTBOX_SEED           repeats a run's choices
#   OUTBOX_TRANSACTIONS   how many transactions must commit
use strict;
use warnings;

use File::Temp qw(tempdir);
use FindBin;
use lib $FindBin::RealBin;
use IPC::Run;
use OutboxServer;
use POSIX qw(WNOHANG);
use Test::More;
use Time::HiRes qw(sleep time);

my $seed = $ENV{OUTBOX_SEED} // int(rand(1_000_000_000));
my $wanted = $ENV{OUTBOX_TRANSACTIONS} // 20_000;
my $clients = 8;
my $db = 'postgres';

srand($seed);

# positions must not depend on how the others commit
my $synchronous_commit = rand() < 0.5 ? 'on' : 'off';
my $partition_interval = rand() < 0.5 ? '1d' : '3s';
note("OUTBOX_SEED=$seed, synchronous_commit = $synchronous_commit, partition_interval = $partition_interval");

my $node = new_server(
	'torture',
	conf => [
		"log_statement = none",
		"log_min_messages = warning",
		"shared_buffers = 32MB",
		"max_connections = 50",
		"synchronous_commit = $synchronous_commit",
		"outbox.partition_interval = $partition_interval",
	]);
my @connection = ('-h', $node->host, '-p', $node->port);

# ---- what is written, and who handles it ----

$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;

	-- a few rows that all writers change
	CREATE TABLE hot (k int PRIMARY KEY, version int NOT NULL DEFAULT 0);
	INSERT INTO hot SELECT generate_series(1, 30);
	CREATE TABLE bulk (id bigserial PRIMARY KEY, client int);
	SELECT outbox.capture('hot'), outbox.capture('bulk', type => 'bulk');

	-- what was published
	CREATE TABLE said (token bigserial PRIMARY KEY, kind text, key text);
	CREATE FUNCTION say(kind text, key text) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		said_token bigint;
	BEGIN
		INSERT INTO said (kind, key) VALUES (kind, key) RETURNING token INTO said_token;
		PERFORM outbox.publish('said.' || kind, jsonb_build_object('token', said_token), key);
	END $$;

	-- how many events each transaction emitted
	CREATE TABLE done (xid xid8 PRIMARY KEY DEFAULT pg_current_xact_id(),
					   changes int NOT NULL, says int NOT NULL);

	CREATE FUNCTION say_in_blocks(blocks int) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		kept int := 0;
	BEGIN
		FOR i IN 1..blocks LOOP
			BEGIN
				PERFORM say('a', 'block' || i % 7);
				IF i % 3 = 0 THEN
					RAISE division_by_zero;
				END IF;
				kept := kept + 1;
			EXCEPTION WHEN division_by_zero THEN
				NULL;
			END;
		END LOOP;
		INSERT INTO done (changes, says) VALUES (0, kept);
	END $$;

	CREATE ROLE second LOGIN;
	GRANT CREATE, USAGE ON SCHEMA public TO second;
	GRANT USAGE ON SCHEMA outbox TO second;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA outbox TO second;
});

# Small batches: after a crash, as many events as one holds go one by one.
#
# Each subscription has its table of effects.  "position" is NULL where a
# handler of arrays cannot know it.
sub add_subscription
{
	my ($name, $argument, $body, $options) = @_;

	$node->safe_psql($db, qq{
		SET SESSION AUTHORIZATION } . ($name eq 'chain' || $name eq 'second' ? 'second' : 'postgres') . qq{;
		CREATE TABLE effect_$name (n bigint GENERATED ALWAYS AS IDENTITY,
								   position bigint, id bigint, key text);
		CREATE FUNCTION handle_$name(e $argument) RETURNS void LANGUAGE plpgsql AS \$\$
		DECLARE
			chance float := random();
		BEGIN
			$body
		END \$\$;
		SELECT outbox.subscribe('$name', handler => 'handle_$name', start => 'beginning', $options}
	  . ($options =~ /batch_size/ ? ')' : ', batch_size => 50)'));
	return;
}

my $event_effect = 'VALUES (outbox.current_position(), e.id, e.key)';
my $patient = "max_attempts => 100000, backoff => '2 milliseconds', max_backoff => '50 milliseconds'";

$node->safe_psql($db, q{
	CREATE TABLE allowed (id int PRIMARY KEY);
	INSERT INTO allowed VALUES (1);
	CREATE TABLE reference (id int REFERENCES allowed DEFERRABLE INITIALLY DEFERRED);
	SELECT outbox.subscribe('bell', channel => 'bell', start => 'beginning', batch_size => 100);
});

# each kind of failure that is survived
my $trouble = q{
	IF chance < 0.004 THEN
		RAISE 'not now';
	ELSIF chance < 0.006 THEN
		RAISE SQLSTATE 'OB001';
	ELSIF chance < 0.008 THEN
		RAISE SQLSTATE '40001';
	ELSIF chance < 0.010 THEN
		INSERT INTO reference VALUES (2);	-- fails when constraints fire
	ELSIF chance < 0.0102 THEN
		PERFORM pg_sleep(60);				-- fails by its timeout
	END IF;
};

add_subscription('event', 'outbox.event',
	"INSERT INTO effect_event (position, id, key) $event_effect;", "types => '{*}'");
add_subscription('batch', 'outbox.event[]',
	"INSERT INTO effect_batch (id, key) SELECT id, key FROM unnest(e) WITH ORDINALITY u ORDER BY ordinality;",
	"types => '{*}', batch_size => 100");
add_subscription('json', 'jsonb',
	"INSERT INTO effect_json (position, id, key)
	 VALUES ((e->>'position')::bigint, (e->>'id')::bigint, e->>'key');",
	"types => '{hot.*,bulk}', batch_size => 200");
add_subscription('flaky', 'outbox.event',
	"INSERT INTO effect_flaky (position, id, key) $event_effect; $trouble",
	"types => '{*}', timeout => '100 milliseconds', $patient");
add_subscription('flaky_batch', 'outbox.event[]',
	"INSERT INTO effect_flaky_batch (id, key) SELECT id, key FROM unnest(e) WITH ORDINALITY u ORDER BY ordinality;
	 $trouble",
	"types => '{said.*}', batch_size => 50, timeout => '100 milliseconds', $patient");
add_subscription('strict', 'outbox.event',
	"INSERT INTO effect_strict (position, id, key) $event_effect; $trouble",
	"types => '{said.a}', ordering => 'strict', timeout => '100 milliseconds', $patient");
add_subscription('unordered', 'outbox.event',
	"INSERT INTO effect_unordered (position, id, key) $event_effect; $trouble",
	"types => '{said.*}', ordering => 'none', timeout => '100 milliseconds', $patient");
add_subscription('slow', 'outbox.event',
	"INSERT INTO effect_slow (position, id, key) $event_effect;
	 PERFORM pg_sleep(0.02);",
	"types => '{said.long}'");
add_subscription('poison', 'outbox.event',
	"INSERT INTO effect_poison (position, id, key) $event_effect;
	 IF (e.data->>'token')::bigint % 97 = 0 THEN
		RAISE 'poison';
	 END IF;",
	"types => '{said.*}', max_attempts => 2, backoff => '1 millisecond'");
add_subscription('chain', 'outbox.event',
	"INSERT INTO effect_chain (position, id, key) $event_effect;
	 PERFORM outbox.publish('derived', jsonb_build_object('of', e.id), e.key);",
	"types => '{said.a}'");
add_subscription('second', 'outbox.event',
	"INSERT INTO effect_second (position, id, key) $event_effect;",
	"types => '{*}'");

add_subscription('lanes', 'outbox.event',
	"INSERT INTO effect_lanes (position, id, key) $event_effect; $trouble",
	"types => '{*}', concurrency => 3, timeout => '100 milliseconds', $patient");

# Consumers that pull: in the transaction of the effects, and with leases that
# now and then run out, read ahead, wait and ack in parts; both also give back, or
# roll back, what they have.
$node->safe_psql($db, q{
	CREATE TABLE effect_pulled (n bigint GENERATED ALWAYS AS IDENTITY, position bigint, id bigint, key text);
	CREATE TABLE effect_leased (LIKE effect_pulled INCLUDING IDENTITY);
	SELECT outbox.subscribe('pulled', start => 'beginning', concurrency => 2, max_attempts => 100000,
							backoff => '2 milliseconds', max_backoff => '50 milliseconds');
	SELECT outbox.subscribe('leased', start => 'beginning', concurrency => 2, max_attempts => 100000,
							backoff => '2 milliseconds', max_backoff => '50 milliseconds');

	CREATE FUNCTION consume_pulled() RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		event record;
		receipt bigint;
		failed text[] := '{}';
	BEGIN
		FOR event IN SELECT * FROM outbox.receive('pulled', max_events => 100) LOOP
			receipt := event.receipt;
			CONTINUE WHEN event.key = ANY (failed);
			IF random() < 0.003 THEN
				PERFORM outbox.nack('pulled', receipt, event."position", 'not now');
				failed := failed || event.key;
			ELSE
				INSERT INTO effect_pulled (position, id, key) VALUES (event."position", event.id, event.key);
			END IF;
		END LOOP;
		IF receipt IS NOT NULL THEN
			PERFORM outbox.ack('pulled', receipt);
		END IF;
		IF random() < 0.05 THEN
			RAISE 'never mind';
		END IF;
	EXCEPTION WHEN raise_exception THEN
		NULL;
	END $$;

	CREATE PROCEDURE consume_leased() LANGUAGE plpgsql AS $$
	DECLARE
		receipts bigint[];
		positions bigint[];
		ids bigint[];
		keys text[];
		more record;
		n integer;
	BEGIN
		SELECT array_agg(receipt), array_agg("position" ORDER BY "position"),
			   array_agg(id ORDER BY "position"), array_agg(key ORDER BY "position")
		INTO receipts, positions, ids, keys
		FROM outbox.receive('leased', 100, lease => '300 milliseconds');
		COMMIT;
		IF receipts IS NULL THEN
			RETURN;
		END IF;
		-- reads ahead
		IF random() < 0.3 THEN
			BEGIN
				SELECT array_agg("position" ORDER BY "position") AS positions, array_agg(id ORDER BY "position") AS ids,
					   array_agg(key ORDER BY "position") AS keys
				INTO more
				FROM outbox.receive('leased', 50, '300 milliseconds', receipts[1]);
			EXCEPTION WHEN SQLSTATE 'OB004' THEN
				RETURN;
			END;
			COMMIT;
			positions := positions || more.positions;
			ids := ids || more.ids;
			keys := keys || more.keys;
		END IF;
		IF random() < 0.03 THEN
			PERFORM pg_sleep(0.4);
		END IF;
		BEGIN
			n := cardinality(positions);
			-- keeps them for longer, and gives some back
			IF n > 1 AND random() < 0.3 THEN
				n := n / 2;
				PERFORM outbox.extend('leased', receipts[1], '1 second');
			END IF;
			INSERT INTO effect_leased (position, id, key) SELECT * FROM unnest(positions[:n], ids[:n], keys[:n]);
			PERFORM outbox.ack('leased', receipts[1], positions => positions[:n]);
			IF n < cardinality(positions) THEN
				PERFORM outbox.release('leased', receipts[1]);
			END IF;
		EXCEPTION WHEN SQLSTATE 'OB004' THEN
			NULL;
		END;
	END $$;
});

# which events each must handle
my %wants = (
	event => 'true',
	batch => 'true',
	json => "type LIKE 'hot.%' OR type = 'bulk'",
	flaky => 'true',
	flaky_batch => "type LIKE 'said.%'",
	strict => "type = 'said.a'",
	lanes => 'true',
	unordered => "type LIKE 'said.%'",
	slow => "type = 'said.long'",
	poison => "type LIKE 'said.%' AND (data->>'token')::bigint % 97 <> 0",
	chain => "type = 'said.a'",
	second => 'true',
	pulled => 'true',
	leased => 'true');
my %divided = (lanes => 1, pulled => 1, leased => 1);
my @names = sort keys %wants;

# ---- the load ----

# Rows are locked in the order of their keys, so that nothing deadlocks.
my $two_rows = q{
\set lo random(1, 30)
\set hi least(:lo + random(0, 5), 30)
\set pause random(0, 3000)
};
my $change_lo = 'UPDATE hot SET version = version + 1 WHERE k = :lo;';
my $change_hi = 'UPDATE hot SET version = version + 1 WHERE k = :hi;';

my %scripts = (
	change => [ 8, qq{$two_rows
BEGIN;
$change_lo
\\sleep :pause us
SELECT say('a', ':lo');
$change_hi
INSERT INTO done (changes, says) VALUES (2, 1);
COMMIT;
} ],
	say => [ 8, qq{$two_rows
BEGIN;
SELECT say('b', 's:lo'), say('a', NULL);
INSERT INTO done (changes, says) VALUES (0, 2);
COMMIT;
} ],
	savepoint => [ 6, qq{$two_rows
BEGIN;
$change_lo
SAVEPOINT s1;
$change_hi
SELECT say('b', ':lo');
SAVEPOINT s2;
SELECT say('b', ':hi');
RELEASE s2;
\\sleep :pause us
ROLLBACK TO s1;
SAVEPOINT s3;
SELECT say('b', ':hi');
$change_hi
RELEASE s3;
INSERT INTO done (changes, says) VALUES (2, 1);
COMMIT;
} ],
	rollback => [ 3, qq{$two_rows
BEGIN;
$change_lo
SELECT say('a', ':hi');
\\sleep :pause us
INSERT INTO done (changes, says) VALUES (1, 1);
ROLLBACK;
} ],
	prepare => [ 4, qq{$two_rows
\\set chance random(1, 100)
BEGIN;
$change_lo
SAVEPOINT s;
SELECT say('a', ':lo');
RELEASE s;
INSERT INTO done (changes, says) VALUES (1, 1);
PREPARE TRANSACTION 'run:run-:client_id';
\\sleep :pause us
\\if :chance <= 70
COMMIT PREPARED 'run:run-:client_id';
\\else
ROLLBACK PREPARED 'run:run-:client_id';
\\endif
} ],
	long => [ 1, qq{$two_rows
\\set pause random(100, 700)
BEGIN;
SELECT say('long', 'long');
\\sleep :pause ms
$change_lo
SELECT say('long', 'long');
INSERT INTO done (changes, says) VALUES (1, 2);
COMMIT;
} ],
	blocks => [ 1, q{
\set blocks random(1, 100)
SELECT say_in_blocks(:blocks);
} ],
	insert => [ 1, q{
\set rows random(1, 60)
BEGIN;
INSERT INTO bulk (client) SELECT :client_id FROM generate_series(1, :rows);
INSERT INTO done (changes, says) VALUES (:rows, 0);
COMMIT;
} ],
	delete => [ 1, q{
WITH gone AS (DELETE FROM bulk WHERE id IN
	(SELECT id FROM bulk ORDER BY id LIMIT 10 FOR UPDATE SKIP LOCKED) RETURNING id)
INSERT INTO done (changes, says) SELECT count(*), 0 FROM gone;
} ],
	serializable => [ 2, qq{$two_rows
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT version FROM hot WHERE k = :hi;
$change_lo
SELECT say('b', ':lo');
INSERT INTO done (changes, says) VALUES (1, 1);
COMMIT;
} ]);

my $scratch = tempdir(CLEANUP => 1);
my @files;
foreach my $name (sort keys %scripts)
{
	my ($weight, $text) = @{ $scripts{$name} };

	open(my $file, '>', "$scratch/$name") or die "could not write: $!";
	print $file $text;
	close($file);
	push @files, '-f', "$scratch/$name\@$weight";
}

my ($load, $runs) = (0, 0);
my $consumers = 0;
END { kill('KILL', $_) foreach grep { $_ } $load, $consumers; }

# Starts pgbench; returns its process.
sub start_pgbench
{
	my ($application, @arguments) = @_;
	my $pid = fork() // die "could not fork: $!";

	if ($pid == 0)
	{
		$ENV{PGAPPNAME} = $application;
		open(STDOUT, '>>', "$scratch/$application.log");
		open(STDERR, '>&', \*STDOUT);
		exec('pgbench', '-n', @connection, '-T', 3600, @arguments, $db) or POSIX::_exit(127);
	}
	return $pid;
}

sub start_load
{
	$runs++;
	$load = start_pgbench('pgbench', '-c', $clients, '-j', 2, `pgbench --help` =~ /--max-tries/ ? ('--max-tries', 10) : (),
		'--random-seed', $seed + $runs, '-D', "run=$runs", @files);
	return;
}

# Reaps it; true if it still runs.
sub is_running
{
	my ($pid) = @_;

	$$pid = 0 if $$pid && waitpid($$pid, WNOHANG) != 0;
	return $$pid;
}

sub stop_pgbench
{
	my ($pid) = @_;

	return unless is_running($pid);
	kill('TERM', $$pid);
	waitpid($$pid, 0);
	$$pid = 0;
	return;
}

open(my $consume, '>', "$scratch/consume") or die "could not write: $!";
print $consume "SELECT consume_pulled();\nCALL consume_leased();\nCALL outbox.await('leased', '5 ms');\n";
close($consume);

# ---- asking a server that may just be down ----

my $lost = 0;

# psql may end before it has read what we write to it.
sub try_psql
{
	my ($sql) = @_;
	my ($out, $err) = ('', '');
	my $status = eval { $node->psql($db, $sql, stdout => \$out, stderr => \$err) };

	die $@ if !defined $status && $@ !~ /Broken pipe/;
	return ($status // 2, $out, $err);
}

# The rows, or nothing if the server is not there.
sub ask
{
	my ($status, $out, $err) = try_psql(@_);

	return split(/\n/, $out) if $status == 0;
	die "psql said: $err" if $status == 3 || $err =~ /^ERROR/m;
	$lost++;
	return;
}

sub wait_for_server
{
	for (1 .. 600)
	{
		return if ask('SELECT 1');
		sleep 0.1;
	}
	die "the server does not come back, OUTBOX_SEED=$seed";
}

# Ends prepared transactions whose client is gone: either way is right.
sub end_prepared
{
	foreach my $gid (ask('SELECT gid FROM pg_prepared_xacts'))
	{
		try_psql((rand() < 0.5 ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$gid'");
	}
	return;
}

# A client that was terminated may have left one behind, and locks with it.
sub end_forgotten
{
	foreach my $gid (ask(q{SELECT gid FROM pg_prepared_xacts
						   WHERE prepared < clock_timestamp() - interval '2 seconds'}))
	{
		try_psql("COMMIT PREPARED '$gid'");
	}
	return;
}

# ---- who watches ----

# Positions that were seen outside: they must never name another event.
my %seen;
my $last_seen = 0;
my @moved;

sub watch_order
{
	my ($after) = @_;
	my @rows = ask("SELECT position, id FROM outbox.read(after => $after, max_events => 5000)");

	foreach my $row (@rows)
	{
		my ($position, $id) = split(/\|/, $row);

		push @moved, "position $position: event $seen{$position}, then $id"
		  if exists $seen{$position} && $seen{$position} != $id;
		$seen{$position} = $id;
		$last_seen = $position if $position > $last_seen;
	}
	return scalar(@rows);
}

# At every instant, effects and progress tell the same.
my ($looks, @torn) = (0);
my $consistency = join("\nUNION ALL\n", map {
	my $all = $wants{$_} eq 'true' && !$divided{$_} ? 'position' : 'NULL';
	qq{SELECT '$_', delivered, (SELECT count(*) FROM effect_$_), $all,
			  (SELECT count(*) FROM effect_$_) + (SELECT count(*) FROM outbox.delivery WHERE subscription = s.id)
	   FROM outbox.subscription s,
			LATERAL (SELECT sum(delivered) AS delivered, min(position) AS position
					 FROM (SELECT DISTINCT ON (lane) delivered, position FROM outbox.progress
						   WHERE subscription = s.id AND lane < s.concurrency
						   ORDER BY lane, version DESC) lane) p
	   WHERE s.name = '$_'}
} @names);

sub watch_consistency
{
	my @rows = ask(qq{
		SET default_transaction_isolation = 'repeatable read';
		SELECT * FROM ($consistency) c (name, delivered, effects, position, dealt_with)
		WHERE delivered <> effects OR position <> dealt_with});

	$looks++;
	push @torn, @rows;
	return;
}

# Each connection's positions, in the order in which they came.
my (@heard, %listener);

sub start_listener
{
	%listener = (in => "LISTEN bell;\n", out => '', err => '', positions => []);
	$listener{psql} = IPC::Run::start(
		[ 'psql', '-XAtq', @connection, '-d', $db ],
		'<', \$listener{in}, '>', \$listener{out}, '2>', \$listener{err});
	push @heard, $listener{positions};
	return;
}

sub listen_once
{
	start_listener() if !%listener;
	$listener{in} .= "SELECT;\n";
	if (!eval { $listener{psql}->pump_nb; $listener{psql}->pumpable })
	{
		eval { $listener{psql}->kill_kill };
		%listener = ();
		return;
	}
	while ($listener{out} =~ s/^(.*)\n//)
	{
		push @{ $listener{positions} }, $1
		  if $1 =~ /^Asynchronous notification "bell" with payload "\{"position":(\d+),/;
	}
	return;
}

# ---- what is broken ----

my %count;

sub pid_of
{
	my ($condition) = @_;

	return (ask("SELECT pid FROM pg_stat_activity WHERE $condition ORDER BY random() LIMIT 1"))[0];
}

my %process = (
	dispatcher => "backend_type = 'pg_outbox dispatcher'",
	sequencer => "backend_type = 'pg_outbox sequencer'",
	launcher => "backend_type = 'pg_outbox launcher'",
	writer => "application_name = 'pgbench'",
	consumer => "application_name = 'consumer'");

my @faults = (
	(map { [ 'KILL', $_ ] } qw(dispatcher dispatcher sequencer writer consumer)),
	(map { [ 'TERM', $_ ] } qw(dispatcher dispatcher sequencer launcher writer consumer consumer)),
	[ 'INT', 'dispatcher' ], [ 'INT', 'sequencer' ],
	[ 'STOP', 'dispatcher' ],
	[ 'pause', 'event' ], [ 'pause', 'lanes' ], [ 'lanes', 'lanes' ], [ 'lanes', 'lanes' ], [ 'lanes', 'pulled' ],
	[ 'immediate', 'server' ], [ 'fast', 'server' ], [ 'checkpoint', 'server' ]);

@faults = grep { $_->[0] ne 'lanes' } @faults
  if $node->safe_psql($db, "SELECT to_regproc('outbox.alter_subscription') IS NULL") eq 't';

# Each kind once, in random order, then again in another.
my @planned;

sub cause_fault
{
	@planned = sort { $a->[0] <=> $b->[0] } map { [ rand(), $_ ] } @faults if !@planned;
	my ($how, $whom) = @{ (shift @planned)->[1] };

	if ($how eq 'pause')
	{
		ask("SELECT outbox.pause('$whom')");
		sleep rand(0.5);
		wait_for_server();
		ask("SELECT outbox.resume('$whom')");
	}
	elsif ($how eq 'lanes')
	{
		ask("SELECT outbox.alter_subscription('$whom', concurrency => " . int(1 + rand(5)) . ')');
	}
	elsif ($whom ne 'server')
	{
		my $pid = pid_of($process{$whom}) or return;

		# what was seen last is what a crash would take first
		watch_order($last_seen);
		kill($how, $pid);
		if ($how eq 'STOP')
		{
			sleep rand(0.5);
			kill('CONT', $pid);
		}
	}
	elsif ($how eq 'checkpoint')
	{
		ask('CHECKPOINT');
	}
	else
	{
		watch_order($last_seen);
		$node->stop($how);
		$node->start;
	}
	$count{"$how $whom"}++;
	return;
}

# ---- the run ----

my $began = time;
my $committed = 0;
my $next_fault = 0;
my $tick = 0;

while ($committed < $wanted)
{
	if (!is_running(\$consumers))
	{
		wait_for_server();
		$consumers = start_pgbench('consumer', '-c', 3, '-j', 1, '-f', "$scratch/consume");
	}
	if (!is_running(\$load))
	{
		wait_for_server();
		end_prepared();
		start_load();
	}
	listen_once();
	if ($tick % 3 == 0)
	{
		watch_order($last_seen);
		($committed) = (ask('SELECT count(*) FROM done'), $committed);
	}
	watch_order(int(rand($last_seen + 1))) if $tick % 20 == 0;
	watch_consistency() if $tick % 10 == 0;
	end_forgotten() if $tick % 20 == 10;
	if ($committed > $next_fault)
	{
		cause_fault();
		$next_fault = $committed + rand($wanted / 18);
	}
	$tick++;
	sleep 0.02;
	die "no progress, OUTBOX_SEED=$seed" if $runs > 20 + $committed / 50;
}
stop_pgbench(\$load);
stop_pgbench(\$consumers);
wait_for_server();
$node->poll_query_until($db,
	"SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name IN ('pgbench', 'consumer')");
end_prepared();
note(sprintf("%d transactions in %.0f s, %d starts of the load, faults: %s",
		$committed, time - $began, $runs,
		join(', ', map { "$_ $count{$_}" } sort keys %count)));

# ---- what must hold ----

my $calm = time;
for (1 .. 100)
{
	listen_once();
	my ($done) = ask(q{SELECT outbox.wait(timeout => '1 second')});
	watch_consistency();
	my @behind = ask(q{
		SELECT consume_pulled() FROM generate_series(1, 10) \g /dev/null
		CALL consume_leased();
		SELECT name, lag, retrying, parked FROM outbox.status WHERE lag + retrying + parked > 0});

	note('behind: ', join(', ', @behind));
	last if ($done // '') eq 't' && !grep { /^(pulled|leased)/ } @behind;
}
is($node->safe_psql($db, q{SELECT outbox.wait(timeout => '10 seconds')}), 't',
	'when the faults end, everything gets handled with no further ado');
note(sprintf("calm after %.1f s", time - $calm));
listen_once() for 1 .. 20;

sub is_zero
{
	my ($sql, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $found = $node->safe_psql($db, $sql);

	return ok($found =~ /^0(\|0)*$/, $name) || diag("$found, OUTBOX_SEED=$seed");
}

$node->safe_psql($db, q{
	CREATE TABLE log AS SELECT * FROM outbox.read(max_events => 100000000);
	ALTER TABLE log ADD PRIMARY KEY (position);
	CREATE UNIQUE INDEX ON log (id);
	ANALYZE log;
});
note($node->safe_psql($db, q{
	SELECT type, count(*) FROM log GROUP BY type ORDER BY type;
	SELECT 'partitions', count(DISTINCT tableoid) FROM outbox.event}));

is($node->safe_psql($db, 'SELECT min(position), max(position) = count(*), max(position) = outbox.head() FROM log'),
	'1|t|t', 'positions are 1 to n without a gap');
is_zero('SELECT count(*) FROM outbox.event e FULL JOIN log l USING (id) WHERE e.id IS NULL OR l.id IS NULL',
	'every committed event has one position');
is_zero(q{
	SELECT count(*) FILTER (WHERE l.xid IS NULL AND d.changes + d.says > 0) AS missing,
		   count(*) FILTER (WHERE d.xid IS NULL) AS not_committed,
		   count(*) FILTER (WHERE l.changes <> d.changes OR l.says <> d.says) AS incomplete
	FROM done d
	FULL JOIN (SELECT xid, count(*) FILTER (WHERE type NOT LIKE 'said.%') AS changes,
					  count(*) FILTER (WHERE type LIKE 'said.%') AS says
			   FROM log WHERE type <> 'derived' GROUP BY xid) l USING (xid)},
	'exactly the committed transactions have events, and each as many as it emitted');
is_zero(q{
	SELECT count(*) FROM said s
	FULL JOIN (SELECT (data->>'token')::bigint AS token, substr(type, 6) AS kind, key
			   FROM log WHERE type LIKE 'said.%') l
	USING (token) WHERE (s.kind, s.key) IS DISTINCT FROM (l.kind, l.key)},
	'what was published stands in the log, and nothing that was rolled back');
is_zero(q{
	SELECT count(*) FILTER (WHERE version <> turn) AS out_of_order,
		   (SELECT sum(version) FROM hot) - count(*) AS lost
	FROM (SELECT (data->>'version')::int AS version,
				 row_number() OVER (PARTITION BY key ORDER BY position) AS turn
		  FROM log WHERE type = 'hot.updated') c},
	'each row\'s versions come one after another');
is_zero(q{
	SELECT count(*) FROM bulk b
	FULL JOIN (SELECT key::bigint AS id FROM log WHERE type = 'bulk' GROUP BY key
			   HAVING sum(CASE operation WHEN 'insert' THEN 1 ELSE -1 END) = 1) l USING (id)
	WHERE b.id IS NULL OR l.id IS NULL},
	'rows inserted and deleted');
is_zero(q{
	SELECT count(*) FILTER (WHERE xid IS DISTINCT FROM before) - count(DISTINCT xid) AS torn_apart,
		   count(*) FILTER (WHERE xid = before AND id < id_before) AS out_of_order
	FROM (SELECT xid, id, lag(xid) OVER w AS before, lag(id) OVER w AS id_before
		  FROM log WINDOW w AS (ORDER BY position)) t},
	'transactions do not interleave');
is_zero(q{
	SELECT count(*) FROM (SELECT * FROM log WHERE type = 'said.a') s
	FULL JOIN (SELECT * FROM log WHERE type = 'derived') d ON d.causation_id = s.id
	WHERE s.id IS NULL OR d.id IS NULL OR (d.data->>'of')::bigint <> s.id
	   OR d.correlation_id IS DISTINCT FROM s.correlation_id OR d.position < s.position},
	'a handler\'s own events come once, after their cause');

foreach my $name (@names)
{
	is_zero(qq{
		SELECT count(*) FILTER (WHERE l.id IS NULL) AS unknown,
			   count(*) FILTER (WHERE e.id IS NULL) AS missing,
			   count(*) FILTER (WHERE e.n > 1) AS repeated,
			   count(*) FILTER (WHERE e.position <> l.position OR e.key IS DISTINCT FROM l.key) AS wrong
		FROM (SELECT id, min(position) AS position, min(key) AS key, count(*) AS n
			  FROM effect_$name GROUP BY id) e
		FULL JOIN (SELECT * FROM log WHERE $wants{$name}) l USING (id)},
		"$name: exactly its events, once each");
	next if $name eq 'unordered';

	my $partition = $name eq 'strict' ? '' : 'PARTITION BY l.key';

	is_zero(qq{
		SELECT count(*) FROM (
			SELECT l.key, l.position < lag(l.position) OVER ($partition ORDER BY e.n) AS late
			FROM effect_$name e JOIN log l USING (id)) o
		WHERE late} . ($name eq 'strict' ? '' : ' AND key IS NOT NULL'),
		$name eq 'strict' ? "$name: in order" : "$name: the events of each key in order");
}
is_zero(q{
	SELECT count(*) FROM (SELECT * FROM log WHERE type LIKE 'said.%' AND (data->>'token')::bigint % 97 = 0) l
	FULL JOIN (SELECT event_id AS id, d.position, state, attempts FROM outbox.delivery d
			   JOIN outbox.subscription s ON s.id = d.subscription AND s.name = 'poison') d USING (id)
	WHERE l.id IS NULL OR d.id IS NULL OR d.state <> 'dead' OR d.position <> l.position},
	'poison: what always fails is a dead letter');
is_zero(q{SELECT count(*) FROM outbox.delivery WHERE state <> 'dead'},
	'nothing waits any more');
is($node->safe_psql($db, q{
	SELECT count(*) FROM (SELECT name, max(failed) AS failed FROM outbox.progress p
						  JOIN outbox.subscription s ON s.id = p.subscription GROUP BY name) f
	WHERE name IN ('flaky', 'flaky_batch', 'lanes', 'pulled', 'strict', 'unordered') AND failed > 0}), 6,
	'handlers and consumers that were to fail did');

my $reread = 0;
while (my $rows = watch_order($reread))
{
	$reread += $rows;
}
is(scalar(@moved), 0, 'no position ever named another event') || diag(join("\n", @moved[0 .. 9]));
is_zero('SELECT count(*) - ' . keys(%seen) . ' FROM log', 'every re-read gives the same order');
is(scalar(@torn), 0, "effects agree with progress at each of $looks moments")
  || diag(join("\n", @torn));

# No retries here, so what a connection hears has no gap.
my $notifications = 0;
my @gaps;

foreach my $positions (@heard)
{
	$notifications += @$positions;
	for my $i (1 .. $#$positions)
	{
		push @gaps, "$positions->[$i - 1], then $positions->[$i]"
		  if $positions->[$i] != $positions->[ $i - 1 ] + 1;
	}
}
is(scalar(@gaps), 0, 'a listener hears each position once, in order') || diag(join("\n", @gaps));
cmp_ok($notifications, '>', 0, 'a listener hears');
note("$notifications notifications on " . @heard . " connections, server lost $lost times");

is_zero(q{SELECT count(*) FROM pg_prepared_xacts}, 'no prepared transaction is left');
ok($node->stop('fast'), 'the server stops in peace');
done_testing();
