# Idempotency keys under load, with a window so short that the tables of keys
# change all the time: no key is emitted twice within it, whatever the kind of
# transaction; through a crash and prepared transactions; and what is past the
# window takes no storage.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $window = 4;
my $node = new_server('keys',
	conf => ["outbox.idempotency_window = ${window}s", 'max_prepared_transactions = 20', 'log_statement = none']);

$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_outbox;
	CREATE TABLE result (key text, id bigint);
	CREATE FUNCTION emit(key text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO result VALUES (key, outbox.publish('T', jsonb_build_object('asked', clock_timestamp()),
			key => key, idempotency_key => key));
	EXCEPTION WHEN serialization_failure THEN
	END $$;
	CREATE TABLE done (consumer text, id bigint, asked timestamptz, at timestamptz DEFAULT clock_timestamp());
});

# some keys are asked for all the time, so that sessions meet at them; the others
# at any age
my $key = '\set k random_zipfian(1, 5000, 1.2)';
my %script = (
	plain => "$key
		SELECT emit('k' || :k);",
	repeatable => "$key
		BEGIN ISOLATION LEVEL REPEATABLE READ;
		SELECT count(*) FROM pg_class;
		SELECT emit('k' || :k);
		COMMIT;",
	savepoint => "$key
		BEGIN;
		SAVEPOINT s;
		SELECT emit('k' || :k);
		ROLLBACK TO s;
		SELECT emit('k' || :k);
		COMMIT;",
	rolled_back => "$key
		BEGIN;
		SELECT emit('k' || :k);
		ROLLBACK;",
	prepared => "$key
		BEGIN;
		SELECT emit('k' || :k);
		PREPARE TRANSACTION 'p:client_id';
		COMMIT PREPARED 'p:client_id';",
	once => "$key
		INSERT INTO done (consumer, id, asked) SELECT 'c', :k, asked
		FROM (SELECT clock_timestamp() AS asked OFFSET 0) t WHERE outbox.once('c', :k);");

# Starts pgbench, which ends at the first error, with all the scripts.
sub load
{
	my ($seconds) = @_;
	my @files;

	foreach my $name (sort keys %script)
	{
		my $file = $node->basedir . "/$name.pgbench";

		open(my $out, '>', $file) or die "could not write $file: $!";
		print $out $script{$name};
		close $out;
		push @files, '-f', $file;
	}
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	my @command = ('pgbench', '-n', '-c', 6, '-T', $seconds, @files, 'postgres');
	return IPC::Run::start(\@command, '>', '/dev/null', '2>', $node->logfile . '.pgbench');
}

sub slurp_log
{
	open(my $in, '<', $node->logfile . '.pgbench') or return '';
	local $/ = undef;
	return <$in>;
}

require IPC::Run;
my $turns = q{SELECT coalesce(max(turn), 0) FROM outbox.seen_turn};
my $first = load(60);
$node->poll_query_until('postgres', "SELECT ($turns) >= 2");
kill_hard($node, $node->safe_psql('postgres',
		q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() LIMIT 1}));
$first->finish;
wait_for_recovery($node);
$node->safe_psql('postgres', "ROLLBACK PREPARED '$_'")
  foreach split /\n/, $node->safe_psql('postgres', 'SELECT gid FROM pg_prepared_xacts');

my $before = $node->safe_psql('postgres', $turns);
ok(load(14)->finish, 'nothing failed') || diag(slurp_log());
cmp_ok($node->safe_psql('postgres', $turns), '>', $before + 1, 'tables have changed under load');

# a key's time is between that when it was asked for and that of its event
is( $node->safe_psql('postgres', qq{
		SELECT count(*) FILTER (WHERE "time" - before < interval '1 s' * $window)
		FROM (SELECT "time", lag((data->>'asked')::timestamptz) OVER (PARTITION BY key ORDER BY id) AS before
			  FROM outbox.event) e}),
	0, 'no key twice within the window');
is( $node->safe_psql('postgres', qq{
		SELECT count(*) FILTER (WHERE at - before < interval '1 s' * $window)
		FROM (SELECT at, lag(asked) OVER (PARTITION BY consumer, id ORDER BY at) AS before
			  FROM done) e}),
	0, 'nor an event seen');
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM outbox.event'), '>', 60, 'but after it, again');
is( $node->safe_psql('postgres', q{
		SELECT count(*) FROM result r LEFT JOIN outbox.event e USING (id, key) WHERE e.id IS NULL}),
	0, 'everybody got the id of an event that there is');

# an open transaction keeps its key, and others' tables going
$node->safe_psql('postgres', q{
	BEGIN; SELECT emit('open'); PREPARE TRANSACTION 'open'});
my $other = $node->background_psql('postgres');
$other->query_until(qr/waiting/, "\\echo waiting\nSELECT emit('open');\n");
wait_until($node, 'postgres',
	"SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted",
	'another session waits for a prepared transaction');
$node->safe_psql('postgres', "ROLLBACK PREPARED 'open'");
wait_until($node, 'postgres', "SELECT count(*) = 1 FROM outbox.event WHERE key = 'open'",
	'and emits after its rollback');
$other->quit;

# all is forgotten in the end
wait_until($node, 'postgres', q{
	SELECT pg_relation_size('outbox.seen_0') + pg_relation_size('outbox.seen_1')
		   + pg_relation_size('outbox.seen_2') = 0}, 'nothing is stored past the window');

$node->stop;
done_testing();
