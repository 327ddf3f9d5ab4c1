# A model of a pull subscription, and consumers that do everything in any
# order: receive, also more under one receipt, with leases that run out, ack and
# nack at any positions, give back, roll back, redrive, discard, seek, divide
# lanes.  Whatever they do: order per key holds,
# what was acked is not handed out again, attempts are right, nothing is lost
# and nothing is stuck.
#
# PULL_MODEL_SEED repeats a run, PULL_MODEL_SECONDS lets it go on for longer,
# PULL_MODEL_CONNSTR has it run on a server that there is.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IO::Handle;
use IPC::Open2;
use OutboxServer;
use Test::More;
use Time::HiRes qw(sleep time);

my $seconds = $ENV{PULL_MODEL_SECONDS} // 15;
my $seed = $ENV{PULL_MODEL_SEED} // int(time() * 1000) % 1000000;
my $max_attempts = 3;
srand($seed);
diag("PULL_MODEL_SEED=$seed");

my ($node, $connstr);
if ($ENV{PULL_MODEL_CONNSTR})
{
	$connstr = $ENV{PULL_MODEL_CONNSTR};
}
else
{
	$node = new_server('pull_model', conf => ['outbox.poll_interval = 100ms']);
	$node->safe_psql('postgres', 'CREATE EXTENSION pg_outbox');
	$connstr = $node->connstr('postgres');
}

# ---- sessions ----

sub open_session
{
	my ($out, $in);
	my $pid = open2($out, $in, 'sh', '-c', 'exec psql -XAtq -d "$0" 2>&1', $connstr);
	my $session = { pid => $pid, out => $out, in => $in };

	$in->autoflush(1);
	ask($session, '\set VERBOSITY sqlstate');
	return $session;
}

# The lines that a command gives; an error is one "ERROR:  SQLSTATE".
sub ask
{
	my ($session, $command) = @_;
	my @lines;

	print { $session->{in} } "$command\n\\echo :end:\n";
	while (defined(my $line = readline($session->{out})))
	{
		chomp $line;
		return @lines if $line eq ':end:';
		push @lines, $line if $line ne '';
	}
	die "a session ended after: $command\n@lines\n";
}

# For what must not fail.
sub demand
{
	my ($session, $command) = @_;
	my @lines = ask($session, $command);

	die "$command: @lines\n" if grep { /ERROR/ } @lines;
	return @lines;
}

# ---- the model ----

my ($s, $control, @sessions, @broken, @story);
my ($name, $config, %event, @log, %out, $acks, $rounds, %seen);

# What one does not understand later is what happened before.
sub remember
{
	push @story, "@_";
	shift @story if @story > 400;
	return;
}

sub broken
{
	push @broken, "@_";
	remember("BROKEN: @_");
	return;
}

sub pick { return $_[ int(rand(@_)) ]; }

# Of two events, must the later one wait for the earlier?
sub waits
{
	my ($earlier, $later) = @_;

	return 1 if $config->{ordering} eq 'strict';
	return $config->{ordering} eq 'key' && $event{$earlier}{key} ne '' &&
	  $event{$earlier}{key} eq $event{$later}{key};
}

# pending: to be handed out; acked, dead, gone
sub set_state
{
	my ($session, $position, %change) = @_;
	my $e = $event{$position};

	push @{ $session->{undo} }, [ $position, {%$e} ] if $session->{undo};
	@$e{ keys %change } = values %change;
	return;
}

# The hand-out has run out, is acked to its end, or was taken back.
sub forget_handout { my ($receipt) = @_; delete $out{$receipt}; return; }

sub check_row
{
	my ($position, $rows) = @_;
	my $e = $event{$position};

	return broken("position $position is not the subscription's") if !$e || !$e->{wanted};
	broken("position $position is handed out though $e->{state}") if $e->{state} ne 'pending';
	for my $receipt (keys %out)
	{
		my $o = $out{$receipt};

		broken("position $position is handed out also under receipt $receipt")
		  if grep { $_ == $position } @{ $o->{positions} };
	}
	my %with = map { $_ => 1 } @$rows;
	for my $earlier (@log)
	{
		last if $earlier >= $position;
		next if !waits($earlier, $position) || $with{$earlier};
		broken("position $position is handed out before $earlier")
		  if $event{$earlier}{state} eq 'pending' ||
		  ($event{$earlier}{state} eq 'dead' && $event{$earlier}{blocks});
	}
	return;
}

sub receive
{
	my ($session, $limit, $lease, $under) = @_;
	my @rows = demand($session,
		"SELECT position || ':' || receipt || ':' || attempt FROM outbox.receive('$name', $limit, " .
		  ($lease ? "'$lease'" : 'NULL') . ', ' . ($under // 'NULL') . ');');

	return if !@rows;
	my @positions = map { /^(\d+):/ } @rows;
	my ($receipt) = $rows[0] =~ /:(\d+):/;
	my $o = $under ? $out{$under} : undef;
	remember(($under ? 'go on' : 'receive') . " $limit: receipt $receipt of @positions");
	broken("receipt $receipt: not in order") if "@positions" ne join(' ', sort { $a <=> $b } @positions);
	broken("receipt $receipt: more than $limit") if @positions > $limit;
	broken("receipt $receipt in place of $under") if $under && $receipt != $under;
	check_row($_, [ @positions, $o ? @{ $o->{positions} } : () ]) for @positions;
	for my $row (@rows)
	{
		my ($position, $attempt) = $row =~ /^(\d+):\d+:(\d+)$/;

		broken("position $position: attempt $attempt after $event{$position}{attempts}")
		  if $attempt != $event{$position}{attempts} + 1;
		$seen{$position}++;
	}
	$rounds++;
	if ($o)
	{
		$o->{positions} = [ sort { $a <=> $b } @{ $o->{positions} }, @positions ];
		@$o{qw(total left)} = ($o->{positions}, $o->{positions});
		return $receipt;
	}

	# what it has now, no other receipt has: those have run out
	my %now = map { $_ => 1 } @positions;
	for my $other (keys %out)
	{
		forget_handout($other) if grep { $now{$_} } @{ $out{$other}{positions} };
	}
	$out{$receipt} = { positions => [@positions], session => $lease ? undef : $session,
		total => [@positions], left => [@positions] };
	$session->{held} = $out{$receipt} if !$lease;
	return $receipt;
}

# Free lanes find out what became of their last hand-outs when somebody asks.
sub settle
{
	demand($control, "DO \$\$
		DECLARE
			one bigint;
			all_of_them bigint[] := '{}';
		BEGIN
			FOR i IN 1 .. 4 LOOP
				SELECT receipt INTO one FROM outbox.receive('$name', 1, '1 hour');
				EXIT WHEN one IS NULL;
				all_of_them := all_of_them || one;
			END LOOP;
			FOREACH one IN ARRAY all_of_them LOOP
				PERFORM outbox.release('$name', one);
			END LOOP;
		END \$\$;");
	return;
}

# The hand-out has ended without a word for what is left: one event is to blame.
sub blame
{
	my ($receipt) = @_;
	my @left = @{ $out{$receipt}{positions} };

	forget_handout($receipt);
	if (@left == 1)
	{
		remember("position $left[0] is to blame");
		fail_event($control, $left[0], 0);
	}
	settle();
	return;
}

sub fail_event
{
	my ($session, $position, $final) = @_;
	my $attempts = $event{$position}{attempts} + 1;

	set_state($session, $position, attempts => $attempts,
		$attempts < $max_attempts && !$final ? () :
		  (state => 'dead', blocks => $config->{on_exhausted} eq 'block'));
	return;
}

# Only a receipt that has nothing left gives way to the next one.
sub is_refused
{
	my ($receipt, @lines) = @_;

	return 0 if !grep { /ERROR/ } @lines;
	broken("receipt $receipt: @lines")
	  if "@lines" !~ /OB004/ || @{ $out{$receipt}{positions} };
	remember("receipt $receipt: @lines");
	forget_handout($receipt);
	return 1;
}

sub ack
{
	my ($session, $receipt, $up_to) = @_;
	my $o = $out{$receipt};
	my @lines = ask($session,
		"SELECT outbox.ack('$name', $receipt" . (defined $up_to ? ", $up_to" : '') . ');');

	return if is_refused($receipt, @lines);
	my @acked = grep { !defined $up_to || $_ <= $up_to } @{ $o->{positions} };
	remember("ack $receipt: @acked");
	for my $position (@acked)
	{
		set_state($session, $position, state => 'acked', attempts => 0);
		$acks++;
	}
	$o->{positions} = [ grep { $event{$_}{state} eq 'pending' } @{ $o->{positions} } ];
	note_left($session, $o);
	forget_handout($receipt) if !@{ $o->{positions} };
	return;
}

# What is in doubt if the transaction is undone: what it has not acked, or all.
sub note_left
{
	my ($session, $o) = @_;

	$o->{left} = @{ $o->{positions} } && !$session->{savepoint} ?
	  [ @{ $o->{positions} } ] : $o->{total};
	return;
}

# Some of it, in any order.
sub ack_some
{
	my ($session, $receipt, @positions) = @_;
	my $o = $out{$receipt};
	my %acked = map { $_ => 1 } @positions;
	my @lines = ask($session,
		"SELECT outbox.ack('$name', $receipt, positions => '{" . join(',', @positions) . "}');");

	return if is_refused($receipt, @lines);
	remember("ack $receipt: @positions");
	set_state($session, $_, state => 'acked', attempts => 0) for @positions;
	$acks += @positions;
	$o->{positions} = [ grep { !$acked{$_} } @{ $o->{positions} } ];
	note_left($session, $o);
	forget_handout($receipt) if !@{ $o->{positions} };
	return;
}

sub nack
{
	my ($session, $receipt, @positions) = @_;
	my $o = $out{$receipt};
	my $final = rand() < 0.1 ? 1 : 0;
	my $more = $final ? ', final => true' : rand() < 0.3 ? ", delay => '2 ms'" : '';
	my $at = @positions == 1 ? $positions[0] : 'NULL';
	my %failed = map { $_ => 1 } @positions;

	$more .= ", positions => '{" . join(',', @positions) . "}'" if @positions > 1;
	my @lines = ask($session, "SELECT outbox.nack('$name', $receipt, $at, 'by chance'$more);");
	return if is_refused($receipt, @lines);
	remember("nack $receipt at @positions$more");
	fail_event($session, $_, $final) for @positions;
	$o->{positions} = [ grep {
		my $other = $_;
		!$failed{$other} && !grep { $other > $_ && waits($_, $other) } @positions
	} @{ $o->{positions} } ];
	return;
}

# Any of them, one at least.
sub some
{
	my (@list) = @_;
	my $one = pick(@list);

	return sort { $a <=> $b } grep { $_ == $one || rand() < 0.3 } @list;
}

sub give_back
{
	my ($receipt) = @_;

	remember("release $receipt");
	demand($control, "SELECT outbox.extend('$name', $receipt, '2 hours');") if rand() < 0.3;
	demand($control, "SELECT outbox.release('$name', $receipt);");
	forget_handout($receipt);
	return;
}

# Ends a transaction that held hand-outs.
sub end_transaction
{
	my ($session, $how) = @_;

	remember($how);
	demand($session, "$how;");
	if ($how eq 'ROLLBACK')
	{
		for my $undo (reverse @{ $session->{undo} })
		{
			$event{ $undo->[0] } = $undo->[1];
		}
		$acks = $session->{acks};
	}
	$session->{undo} = undef;
	$session->{savepoint} = 0;
	for my $receipt (keys %out)
	{
		my $holder = $out{$receipt}{session};

		next if !$holder || $holder != $session;
		$how eq 'COMMIT' ? blame($receipt) : forget_handout($receipt);
	}
	my $held = delete $session->{held};
	if ($held && $how eq 'ROLLBACK')
	{
		my @left = @{ $held->{left} };

		remember("in doubt: @left");
		fail_event($control, $left[0], 0) if @left == 1;
		settle();
		check_rows();
	}
	return;
}

# ---- what consumers and operators do ----

sub publish
{
	my $count = rand() < 0.1 ? 80 : 1 + int(rand(12));
	my @values = map { sprintf("(%d, %s, %d)", $_, rand() < 0.1 ? 'NULL::text' : "'" . pick(qw(x y z)) . "'", int(rand(5))) } 1 .. $count;
	my $last = @log ? $log[-1] : $control->{start};

	demand($control, "SELECT count(outbox.publish('t', jsonb_build_object('n', n), key))
		FROM (VALUES " . join(', ', @values) . ") v (i, key, n);");
	for (1 .. 10000)
	{
		my ($head) = demand($control, 'SELECT outbox.head();');
		last if $head >= $last + $count;
		sleep 0.001;
	}
	for my $line (demand($control,
		"SELECT position || ':' || coalesce(key, '') || ':' || (data->>'n') FROM outbox.read($last);"))
	{
		my ($position, $key, $n) = split(/:/, $line, 3);
		push @log, $position;
		$event{$position} = { key => $key, attempts => 0,
			wanted => !$config->{filter} || $n > 0,
			state => !$config->{filter} || $n > 0 ? 'pending' : 'gone' };
	}
	remember("publish up to $log[-1]");
	return;
}

# One hand-out, and what becomes of it.
sub consume
{
	my ($session, %option) = @_;
	my $holding = rand() < 0.3;
	my $lease = $holding ? undef : '1 hour';
	my $receipt;

	if ($holding)
	{
		demand($session, 'BEGIN' . (rand() < 0.2 ? ' ISOLATION LEVEL REPEATABLE READ;' : ';'));
		@$session{qw(undo acks)} = ([], $acks);
	}
	$receipt = receive($session, pick(1, 1, 2, 3, 5, 10, 100), $lease);
	for (1 .. int(rand(5)))
	{
		last if !$receipt || !$out{$receipt} || !@{ $out{$receipt}{positions} };
		my $user = $holding ? $session : pick(@sessions);
		my $position = pick(@{ $out{$receipt}{positions} });
		my $dice = rand();

		if ($dice < 0.4) { nack($user, $receipt, $position); }
		elsif ($dice < 0.5) { nack($user, $receipt, some(@{ $out{$receipt}{positions} })); }
		elsif ($dice < 0.6) { ack($user, $receipt, $position); }
		elsif ($dice < 0.75) { ack_some($user, $receipt, some(@{ $out{$receipt}{positions} })); }
		elsif ($dice < 0.9) { receive($user, pick(1, 3, 10), $lease, $receipt); }
		elsif ($holding)
		{
			# what is undone by a savepoint, was not
			my @before = (scalar @{ $session->{undo} }, $acks, [ @{ $out{$receipt}{positions} } ]);
			my $o = $out{$receipt};

			demand($session, 'SAVEPOINT s;');
			$session->{savepoint} = 1;
			pick(\&ack, \&nack)->($session, $receipt, $position);
			demand($session, 'ROLLBACK TO s;');
			while (@{ $session->{undo} } > $before[0])
			{
				my $undo = pop @{ $session->{undo} };
				$event{ $undo->[0] } = $undo->[1];
			}
			$acks = $before[1];
			$out{$receipt} = $o;
			$o->{positions} = $before[2];
			remember("undone: receipt $receipt has @{ $o->{positions} }");
		}
	}
	ack($holding ? $session : pick(@sessions), $receipt)
	  if $receipt && $out{$receipt} && rand() < ($option{ack} // 0.5);
	end_transaction($session, rand() < 0.75 ? 'COMMIT' : 'ROLLBACK') if $holding;
	return $receipt;
}

# Goes on with a hand-out that is out.
sub go_on
{
	my $receipt = pick(keys %out) // return;
	my @positions = @{ $out{$receipt}{positions} };
	my $dice = rand();

	if (!@positions || $dice < 0.15) { ack(pick(@sessions), $receipt); }
	elsif ($dice < 0.3) { ack(pick(@sessions), $receipt, pick(@positions)); }
	elsif ($dice < 0.5) { ack_some(pick(@sessions), $receipt, some(@positions)); }
	elsif ($dice < 0.7) { receive(pick(@sessions), pick(1, 3, 10), pick(undef, '1 hour'), $receipt); }
	elsif ($dice < 0.8) { give_back($receipt); }
	elsif ($dice < 0.9) { nack(pick(@sessions), $receipt, some(@positions)); }
	else { nack(pick(@sessions), $receipt, pick(@positions)); }
	return;
}

# The lease of a hand-out runs out; waiting an hour for it would take too long.
sub run_out
{
	my ($receipt) = @_;

	remember("receipt $receipt runs out");
	demand($control, "UPDATE outbox.progress SET lease_until = clock_timestamp() - interval '1 second'
		WHERE receipt = $receipt AND lease_until > clock_timestamp();");
	my @lines = ask($control, "SELECT outbox.ack('$name', $receipt);");
	broken("receipt $receipt ran out and can be acked: @lines") if "@lines" !~ /OB004/;
	blame($receipt);
	return;
}

sub redrive
{
	my @dead = grep { $event{$_}{state} eq 'dead' } @log;
	my $position = rand() < 0.2 ? undef : pick(@dead);
	my $function = rand() < 0.7 ? 'redrive' : 'discard';

	return if !@dead;
	remember("$function " . ($position // 'all'));
	my ($count) = demand($control, "SELECT outbox.$function('$name'" . ($position ? ", $position" : '') . ');');
	for my $p ($position // @dead)
	{
		set_state($control, $p, state => $function eq 'redrive' ? 'pending' : 'gone', attempts => 0);
	}
	return;
}

# Dead letters before the new place stay; what comes after is delivered again.
sub seek_somewhere
{
	my $to = pick(@log[ ($#log > 40 ? $#log - 40 : 0) .. $#log ]);

	remember("seek $to");
	demand($control, "SELECT outbox.seek('$name', $to);");
	demand($control, "SELECT outbox." . pick('discard', 'redrive') . "('$name', $_);")
	  for grep { $event{$_}{state} eq 'dead' && $_ >= $to } @log;
	demand($control, "SELECT outbox.discard('$name');");
	for my $position (@log)
	{
		my $e = $event{$position};

		set_state($control, $position, attempts => 0,
			state => $position >= $to && $e->{wanted} ? 'pending' :
			  $e->{state} eq 'pending' || $e->{state} eq 'dead' ? 'gone' : $e->{state});
	}
	%out = ();
	return;
}

sub divide
{
	my $lanes = 1 + int(rand(4));

	return if $config->{ordering} eq 'strict' || $lanes == $config->{concurrency};
	$config->{concurrency} = $lanes;
	remember("divide into $lanes");
	demand($control, "SELECT outbox.alter_subscription('$name', concurrency => $lanes);");
	%out = ();
	return;
}

# ---- what must hold ----

# The first that is open of a key is tried next; those behind it are parked.
sub check_rows
{
	my %first;

	for my $line (demand($control, "SELECT d.position || ':' || d.state || ':' || d.attempts
			FROM outbox.delivery d JOIN outbox.subscription s ON s.id = d.subscription
			WHERE s.name = '$name' AND d.open ORDER BY d.position;"))
	{
		my ($position, $state, $attempts) = split(/:/, $line);
		my $e = $event{$position};
		my $group = $config->{ordering} eq 'strict' ? 'all' :
		  $config->{ordering} eq 'none' || $e->{key} eq '' ? $position : $e->{key};
		my $is_first = !exists $first{$group};

		$first{$group} //= $position;
		broken("position $position is $state behind $first{$group}") if !$is_first && $state eq 'retry';
		broken("position $position is parked behind nothing") if $is_first && $state eq 'parked';
		broken("position $position has $attempts attempts, not $e->{attempts}")
		  if $attempts != $e->{attempts};
		broken("position $position is open but $e->{state}")
		  if $e->{state} ne 'pending' && !($e->{state} eq 'dead' && $e->{blocks});
	}
	my @dead = demand($control, "SELECT position FROM outbox.dead_letter
		WHERE subscription = '$name' ORDER BY position;");
	my @expected = grep { $event{$_}{state} eq 'dead' } @log;
	broken("dead letters: @dead, not @expected") if "@dead" ne "@expected";
	return;
}

# Everything comes to its end, sooner or later.
sub drain
{
	my $end = time() + 5;

	remember('drain');
	for my $receipt (sort { $a <=> $b } keys %out)
	{
		rand() < 0.5 ? run_out($receipt) : ack(pick(@sessions), $receipt);
	}
	while (grep { $event{$_}{state} eq 'pending' } @log)
	{
		my $receipt = receive(pick(@sessions), 100, '1 hour');

		if ($receipt)
		{
			ack(pick(@sessions), $receipt);
			next;
		}
		my @dead = grep { $event{$_}{state} eq 'dead' && $event{$_}{blocks} } @log;
		if (@dead)
		{
			demand($control, "SELECT outbox.redrive('$name');");
			set_state($control, $_, state => 'pending', attempts => 0)
			  for grep { $event{$_}{state} eq 'dead' } @log;
			next;
		}
		if (time() > $end || @broken)
		{
			broken('stuck: ' . join(' ', grep { $event{$_}{state} eq 'pending' } @log));
			last;
		}
		sleep 0.002;
	}
	# each lane reads on to the end
	for (1 .. 4)
	{
		broken('more than there is') if receive(pick(@sessions), 1, '1 hour');
	}
	check_rows();
	my ($status) = demand($control,
		"SELECT lag || ' ' || retrying || ' ' || parked || ' ' || delivered FROM outbox.status WHERE name = '$name';");
	broken("status: $status, not 0 0 0 $acks") if $status ne "0 0 0 $acks";
	return;
}

# ---- runs ----

sub step
{
	my $dice = rand();

	if ($dice < 0.12) { publish(); }
	elsif ($dice < 0.65) { consume(pick(@sessions)); }
	elsif ($dice < 0.80) { go_on(); }
	elsif ($dice < 0.92) { run_out(pick(keys %out)) if %out; }
	elsif ($dice < 0.96) { redrive(); }
	elsif ($dice < 0.965) { seek_somewhere() if @log; }
	elsif ($dice < 0.975) { divide(); }
	elsif ($dice < 0.99) { check_rows(); }
	else { sleep 0.003; }
	return;
}

# A subscription's life.
sub run
{
	my ($number) = @_;
	my $ordering = pick(qw(key key key strict none));

	$name = "model_$number";
	$config = {
		ordering => $ordering,
		on_exhausted => pick('dead_letter', 'block'),
		concurrency => $ordering eq 'strict' ? 1 : pick(1, 1, 3),
		filter => rand() < 0.3,
	};
	(%event, %out, @log) = ();
	@story = ("$name: " . join(', ', map { "$_ $config->{$_}" } sort keys %$config));
	$acks = 0;
	($control->{start}) = demand($control, 'SELECT outbox.head();');
	demand($control, "SELECT outbox.subscribe('$name', ordering => '$ordering',
		concurrency => $config->{concurrency}, on_exhausted => '$config->{on_exhausted}',
		filter => " . ($config->{filter} ? q{$$(data->>'n')::integer > 0$$} : 'NULL') . ",
		max_attempts => $max_attempts, backoff => '1 ms', max_backoff => '4 ms');");
	publish();
	for my $i (1 .. 250)
	{
		step();
		drain() if $i % 125 == 0;
		last if @broken;
	}
	demand($control, "SELECT outbox.unsubscribe('$name');");
	return;
}

$control = open_session();
@sessions = map { open_session() } 1 .. 3;
my $end = time() + $seconds;
my $number = int(rand(1000000));
my $runs = 0;
$rounds = 0;
while (time() < $end && !@broken)
{
	run($number++);
	$runs++;
}
diag("$runs subscriptions, $rounds hand-outs");
ok($rounds > 50, 'consumers got something');
if (!ok(!@broken, 'order, attempts and ends are as promised, nothing is stuck or repeated'))
{
	diag($_) for @story, '', @broken;
}
for my $session ($control, @sessions)
{
	close($session->{in});
	waitpid($session->{pid}, 0);
}
$node->stop if $node;
done_testing();
