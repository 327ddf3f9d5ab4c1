# LISTEN outbox_head: whoever has come to the end of the log hears at once that
# it has grown; there is one notification for each wake-up, and none where
# nobody listens.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use OutboxWire;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = new_server('listeners');

$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_outbox;
	SELECT outbox.subscribe('p', start => 'beginning')});

my $producer = OutboxWire->new($node, 'postgres');
my $consumer = OutboxWire->new($node, 'postgres');

# publishes one by one, each when the one before has its position
sub publish
{
	my ($count) = @_;

	for (1 .. $count)
	{
		my $head = $producer->value('SELECT outbox.head()');

		$producer->query(q{SELECT outbox.publish('T')});
		until_true(sub { $producer->value('SELECT outbox.head()') > $head });
	}
	return;
}

sub until_true
{
	my ($condition) = @_;
	my $end = time() + 60;

	while (!$condition->())
	{
		die 'it does not become true' if time() > $end;
		sleep 0.001;
	}
	return;
}

# takes all that there is, and so says that it waits
sub drain
{
	my $events = 0;

	while (my @rows = $consumer->query(q{SELECT position, receipt FROM outbox.receive('p', lease => '1 minute')}))
	{
		$consumer->query("SELECT outbox.ack('p', $rows[0][1])");
		$events += @rows;
	}
	return $events;
}

# notifications that come until there are none for a while
sub hear
{
	my @heard;

	while (my $notification = $consumer->notification(0.5))
	{
		push @heard, $notification;
	}
	return @heard;
}

sub xids
{
	return $producer->value('SELECT pg_snapshot_xmax(pg_current_snapshot())');
}

# a transaction that notifies has an id: beside those of events and segments
sub ids_for
{
	my ($count) = @_;
	my $before = xids();

	publish($count);
	return xids() - $before;
}

cmp_ok(ids_for(100), '<=', 240, 'nobody listens: nobody notifies');
$consumer->query('BEGIN');
$consumer->query('LISTEN outbox_head');
$consumer->query('ROLLBACK');
cmp_ok(ids_for(100), '<=', 240, 'who rolls it back does not listen');

$consumer->query('LISTEN outbox_head');
drain();
hear();
drain();
publish(1);
my $heard = $consumer->notification(30);
is($heard->{channel}, 'outbox_head', 'who listens hears');
is($heard->{payload}, $producer->value('SELECT outbox.head()'), 'the last position');
is(drain(), 1, 'and finds it');

# 100 events, and nobody says that he waits
my $start = time();
publish(100);
my @heard = hear();
my $seconds = time() - $start;
cmp_ok(scalar @heard, '>=', 2, 'one who does not come to the end hears again');
cmp_ok(scalar @heard, '<=', 2 + 10 * $seconds, 'but not of each event');
is($heard[-1]{payload}, $producer->value('SELECT outbox.head()'), 'the last one tells of all');

# from the commit to the consumer, 100 events a second; readers of the log too
my %late;
foreach my $way ('receive', 'read')
{
	my $after = $producer->value('SELECT outbox.head()');

	drain();
	$consumer->query("SELECT FROM outbox.read($after)");
	hear();
	for (1 .. 200)
	{
		$producer->query(q{SELECT outbox.publish('T')});
		my $committed = time();
		my $notification = $consumer->notification(10) or die 'nobody tells';

		push @{ $late{$way} }, 1000 * ($notification->{at} - $committed);
		$after = $notification->{payload};
		$way eq 'receive' ? drain() : $consumer->query("SELECT FROM outbox.read($after)");
		sleep 0.008;
	}
	my @sorted = sort { $a <=> $b } @{ $late{$way} };
	diag(sprintf '%s: woken %.2f ms after the commit (p50), %.2f (p99)', $way, $sorted[100], $sorted[197]);
	cmp_ok($sorted[100], '<', 50, "$way: consumers wake at once");
	cmp_ok(scalar hear(), '<=', 3, "$way: one notification for each wake-up");
}

# those who listen no more
foreach my $end ('UNLISTEN outbox_head', 'UNLISTEN *', 'DISCARD ALL')
{
	$consumer->query('LISTEN outbox_head');
	$consumer->query($end);
	cmp_ok(ids_for(50), '<=', 120, "$end ends it");
}
$consumer->query('LISTEN outbox_head');
$consumer->query('BEGIN; SAVEPOINT a; UNLISTEN *; ROLLBACK TO a; COMMIT');
publish(1);
ok($consumer->notification(30), 'an UNLISTEN that is undone does not');
$consumer->close;
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()});
cmp_ok(ids_for(50), '<=', 120, 'nor does a session that has ended');

# the channel is nobody else's
my (undef, undef, $error) = $node->psql('postgres', q{SELECT outbox.subscribe('mine', channel => 'outbox_head')});
like($error, qr/channel "outbox_head" is reserved/, 'no subscription may use it');

# without workers
$node->safe_psql('postgres', 'ALTER SYSTEM SET outbox.max_workers = 0');
$node->restart;
$consumer = OutboxWire->new($node, 'postgres');
$producer = OutboxWire->new($node, 'postgres');
$consumer->query('LISTEN outbox_head');
$producer->query(q{SELECT outbox.publish('T')});
$producer->query('CALL outbox.run()');
$heard = $consumer->notification(30);
is($heard->{payload}, $producer->value('SELECT outbox.head()'), 'run() tells, too');

$node->stop;
done_testing();
