# Pulling needs no session: consumers come through a PgBouncer that gives each
# transaction another one.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep);

my $pgbouncer = (grep { -x $_ } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin')[0];
plan skip_all => 'there is no pgbouncer' if !$pgbouncer;

my $node = new_server('pooled');
$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_outbox;
	SELECT outbox.subscribe('held', concurrency => 3);
	SELECT outbox.subscribe('leased', concurrency => 3);
	CREATE TABLE effect (n bigserial, subscription text, position bigint, key text,
						 pid integer DEFAULT pg_backend_pid());
	SELECT count(outbox.publish('t', key => 'k' || i % 7)) FROM generate_series(1, 300) i;
});

# two sessions for all clients; its own port, beside the server's socket
my $dir = $node->basedir;
my $port = $node->port + 1;
my $socket = $node->host;
my $user = $node->safe_psql('postgres', 'SELECT current_user');
open(my $ini, '>', "$dir/pgbouncer.ini") or die $!;
print $ini <<"END";
[databases]
postgres = host=$socket port=${\ $node->port} user=$user
[pgbouncer]
listen_addr =
listen_port = $port
unix_socket_dir = $socket
auth_type = any
pool_mode = transaction
default_pool_size = 2
logfile = $dir/pgbouncer.log
END
close($ini);
my $bouncer = fork // die "could not fork: $!";
if ($bouncer == 0)
{
	open(STDOUT, '>', "$dir/pgbouncer.out");
	open(STDERR, '>&', \*STDOUT);
	exec($pgbouncer, "$dir/pgbouncer.ini") or POSIX::_exit(1);
}
END { my $status = $?; kill('TERM', $bouncer) if $bouncer; $? = $status; }
my $connection = "host=$socket port=$port dbname=postgres user=$user";

# One hand-out: effects and ack in one transaction, or in one each.
sub hand_out
{
	my ($subscription, $lease, $begin, $commit) = @_;

	return qq{
		\\set QUIET on
		$begin
		WITH event AS MATERIALIZED (SELECT * FROM outbox.receive('$subscription', 7, $lease)),
			 done AS (INSERT INTO effect (subscription, position, key)
					  SELECT '$subscription', position, key FROM event ORDER BY position)
		SELECT max(receipt) AS receipt FROM event \\gset
		\\if :{?receipt}
			SELECT outbox.ack('$subscription', :receipt);
		\\endif
		$commit
	};
}

sub run_client
{
	my ($script) = @_;
	my $pid = fork // die "could not fork: $!";

	return $pid if $pid;
	$bouncer = 0;
	open(my $psql, '|-', 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-d', $connection)
	  or POSIX::_exit(1);
	print $psql $script for 1 .. 40;
	POSIX::_exit(close($psql) ? 0 : 1);
}

my $answers = 0;
for (1 .. 300)
{
	$answers = system("psql -X -q -c 'SELECT 1' -d '$connection' >/dev/null 2>&1") == 0;
	last if $answers;
	sleep 0.1;
}
die "pgbouncer does not answer" if !$answers;
my @clients = map {
	(   run_client(hand_out('held', 'NULL', 'BEGIN;', 'COMMIT;')),
		run_client(hand_out('leased', "'1 minute'", '', '')))
} 1 .. 3;
my $failed = 0;
for my $client (@clients)
{
	waitpid($client, 0);
	$failed++ if $? != 0;
}
is($failed, 0, 'all clients went through');

for my $subscription (qw(held leased))
{
	is( $node->safe_psql('postgres', qq{
			SELECT count(*), count(DISTINCT position), count(*) FILTER (WHERE position < before)
			FROM (SELECT position, lag(position) OVER (PARTITION BY key ORDER BY n) AS before
				  FROM effect WHERE subscription = '$subscription') e}),
		'300|300|0', "$subscription: each event once, in order for each key");
}
is( $node->safe_psql('postgres', q{
		SELECT name, lag, delivered FROM outbox.status ORDER BY name}),
	"held|0|300\nleased|0|300", 'all was acked');
cmp_ok($node->safe_psql('postgres', 'SELECT count(DISTINCT pid) FROM effect'),
	'<=', 2, 'six clients shared two sessions');

# to wait is one statement, which PgBouncer need not understand
sub await
{
	my ($timeout) = @_;
	my $ready = `psql -XAtq -d '$connection' -c "CALL outbox.await('leased', '$timeout')"`;

	chomp $ready;
	return $ready;
}
is(await('10 ms'), 'f', 'nothing to wait for');
$node->safe_psql('postgres', "SELECT outbox.publish('t')");
is(await('1 minute'), 't', 'a client waits through the pool');

kill('TERM', $bouncer);
waitpid($bouncer, 0);
$bouncer = 0;
$node->stop;
done_testing();
