# pg_outbox tail -f shows every event once, in order, through restarts and a
# crash of the server, while events come.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IPC::Run qw(start);
use OutboxServer;
use Test::More;
use Time::HiRes qw(sleep);

my $db = 'postgres';
my $node = new_server('tail');
$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	SELECT outbox.subscribe('bell', channel => 'bell');
	SELECT count(outbox.publish('before')) FROM generate_series(1, 2500);
	SELECT outbox.wait();
});

my %out = (plain => '', listening => '', filtered => '');
my %err = (%out);
my @connection = ('-h', $node->host, '-p', $node->port, '-d', $db);
my %tail = (
	plain     => [ '--after', 0 ],
	listening => [ '--after', 0, '--listen', 'bell' ],
	filtered  => [ '-n', 0, '--types', 'w*', '--key', 'k1' ]);
my %handle = map {
	$_ => start([ 'pg_outbox', @connection, 'tail', '-f', '--format', 'json', @{ $tail{$_} } ],
		'<', \undef, '>', \$out{$_}, '2>', \$err{$_})
} sort keys %tail;

sub positions { return $out{ $_[0] } =~ /^\{"position":(\d+),/mg }

sub wait_for
{
	my ($who, $position) = @_;

	for (1 .. 1200)
	{
		$handle{$who}->pump_nb;
		return 1 if ((positions($who))[-1] // 0) >= $position;
		sleep 0.05;
	}
	diag("$who: " . ((positions($who))[-1] // 0) . " $err{$who}");
	return 0;
}

ok(wait_for($_, 2500), "$_: sees what is there") for qw(plain listening);
# the filtered one has begun when it has seen this
for (1 .. 300)
{
	$node->safe_psql($db, q{SELECT outbox.publish('wanted', key => 'k1')});
	sleep 0.1;
	$handle{filtered}->pump_nb;
	last if positions('filtered');
}

foreach my $round (1 .. 3)
{
	$node->safe_psql($db, qq{
		SELECT count(outbox.publish('wanted', key => 'k' || i % 3)) FROM generate_series(1, 700) i});
	if ($round == 2)
	{
		$node->stop('immediate');
		sleep 0.5;
		$node->start;
	}
	else
	{
		$node->restart;
	}
	$node->safe_psql($db, q{SELECT outbox.publish('wanted', key => 'k1'), outbox.wait()});
	my $head = $node->safe_psql($db, 'SELECT outbox.head()');
	wait_until($node, $db, "SELECT outbox.wait() AND outbox.head() > $head - 1", "round $round: all has a position");
	$head = $node->safe_psql($db, 'SELECT outbox.head()');
	ok(wait_for($_, $head), "round $round: $_ goes on") for qw(plain listening);
}

$node->safe_psql($db, q{SELECT outbox.publish('wanted', key => 'k1'), outbox.publish('last'); SELECT outbox.wait()});
my $head = $node->safe_psql($db, 'SELECT outbox.head()');
ok(wait_for('filtered', $head - 1), 'the filtered one goes on');
foreach my $who (qw(plain listening))
{
	ok(wait_for($who, $head), "$who comes to the end");
	is(join(' ', positions($who)), join(' ', 1 .. $head), "$who: each event once, in order");
	like($err{$who}, qr/connection was lost.*connection is back/s, "$who: tells of the lost connection");
}
my @wanted = split /\n/, $node->safe_psql($db,
	q{SELECT position FROM outbox.read(max_events => 1000000) WHERE type = 'wanted' AND key = 'k1' ORDER BY position});
my @seen = positions('filtered');
shift @wanted while @wanted && $wanted[0] < $seen[0];
is("@seen", "@wanted", 'filtered: each event once, in order');

$_->kill_kill for values %handle;
$node->stop;
done_testing();
