# The benchmark's rig works: every topic gives figures for every system that is
# installed, and the report is made of them.  The figures mean nothing here, so
# nothing waits for the disk.
use strict;
use warnings;

use File::Temp qw(tempdir);
use FindBin;
use lib $FindBin::RealBin;
use IPC::Run;
use OutboxServer;
use Test::More;

my $bench = "$FindBin::RealBin/../bench";
my $node = new_server(
	'bench',
	conf => [
		'fsync = off',
		'wal_level = logical',
		'max_replication_slots = 4',
		'max_wal_senders = 4',
		'max_worker_processes = 24',
		'outbox.max_workers = 10']);
my $figures = tempdir(CLEANUP => 1);
my ($report, $trouble) = ('', '');

local $ENV{PGHOST}     = $node->host;
local $ENV{PGPORT}     = $node->port;
local $ENV{PGUSER}     = $node->safe_psql('postgres', 'SELECT current_user');
local $ENV{PGDATABASE} = 'postgres';
local $ENV{OUT}        = $figures;
local $ENV{BENCH_SIZE} = 'tiny';
delete local $ENV{BENCH_NODE_MODULES};
delete local $ENV{PGAPPNAME};

ok( IPC::Run::run(
		[ 'bash', "$bench/run" ],
		'<', \undef, '>', \my $out, '2>', \$trouble),
	'every topic is measured')
  or diag($trouble);

ok( IPC::Run::run(
		[ 'perl', "$bench/report", $figures ],
		'<', \undef, '>', \$report, '2>', \$trouble),
	'the report is made')
  or diag($trouble);

foreach my $title (
	'Capture in bulk', 'Capture in single-row', 'Dispatch of', 'CPU of that dispatch',
	'Latency at 100', 'Latency at 5,000', 'Fan-out', 'Lanes', 'Pulling: one consumer', 'Pulling: acking',
	'Pulling: WAL', 'Pulling: from a commit', 'Backlog',
	'Footprint', 'Memory', 'Nothing to do')
{
	like($report, qr/^\Q$title\E.*\n.*\n\n(?:.*\n)+?pg_outbox.* [0-9]/m,
		"table: $title");
}
SKIP:
{
	skip 'valgrind is not installed', 1 if !grep { -x "$_/valgrind" } split(/:/, $ENV{PATH});
	like($report, qr/^Instructions of a single-row.*\n.*\n\n(?:.*\n)+?pg_outbox.* [0-9]/m,
		'table: Instructions');
}
like($report, qr/^Scale.*\n(?:.*\n)+?with much.* [0-9]/m, 'table: Scale');
like($report, qr/^Longest publish.*\n(?:.*\n)+?longest publish.* [0-9]/m, 'table: Longest publish');
like($report, qr/^Held xmin.*\n(?:.*\n)+?one transaction open.* [0-9]/m, 'table: Held xmin');
like($report, qr/^graphile-worker: skipped, .*installed/m,
	'a system that is not there is skipped, and the table says so');
my @verdicts = $report =~ /^(?:met|MISSED) /mg;
my $targets  = () = slurp("$bench/targets") =~ /^[^#\n].*\|/mg;
# a peer that is not there leaves nothing to be held against
# nor does what cannot be counted
my $uncounted = () = $report =~ /^Instructions/m ? () : slurp("$bench/targets") =~ /^[^#\n]*\| instructions \|/mg;
my $peerless = () = $report =~ /^PgQ: skipped/m ? slurp("$bench/targets") =~ /^[^#\n]*PgQ.*\|/mg : ();

# CPU comes in hundredths of a second, of which so little work may use none
cmp_ok(scalar @verdicts, '>=', $targets - $peerless - $uncounted - 1, 'the targets are held against figures');

my $plot = slurp("$figures/report.svg");
my $bars = () = $plot =~ /<rect /g;
cmp_ok($bars, '>', 100, 'the plot has its bars');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_database WHERE datname = 'bench'"),
	0, 'its database is gone');

$node->stop;
done_testing();

sub slurp
{
	my ($name) = @_;

	open(my $in, '<', $name) or die "$name: $!";
	local $/;
	return <$in>;
}
