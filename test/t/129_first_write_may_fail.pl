# The first write to what was restored makes it fit together.  If that write is
# rolled back, the next one does it, so that no new event is skipped.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

# without workers, so that our sessions are the first
my $node = new_node('restored');

$node->init;
$node->append_conf('postgresql.conf', "fsync = off\nmax_prepared_transactions = 10");
$node->start;

my $dump = $node->basedir . '/dump';
my $database;
my $number = 0;

sub sql
{
	return $node->safe_psql($database, join("\n", @_));
}

# Events are left out, so the subscription stands beyond the log's end.
sub restore
{
	$database = 'r' . ++$number;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	my ($ok, $out) = client($node, 'pg_restore', '-d', $database, $dump);
	ok($ok, 'a restore without events') || diag($out);
	return;
}

sub is_served
{
	my ($title) = @_;

	sql("INSERT INTO orders VALUES (101, 1), (102, 1)");
	sql("SELECT outbox.resume('quick')");
	sql("INSERT INTO orders VALUES (103, 1)");
	sql('CALL outbox.run()');
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(sql("SELECT string_agg(id::text, ',' ORDER BY id) FROM effect WHERE handler = 'quick' AND id > 100"),
		'101,102,103', "$title: new events are handled");
	is(sql("SELECT state FROM outbox.status"), 'active', "$title: the subscription is active");
	is(sql("SELECT count(*) FROM outbox.schema_version WHERE source = 'public.orders'"), 1, "$title: the table's version is known");
	is(sql('SELECT count(*) FROM outbox.generation WHERE generation = 0'), 0, "$title: and that is settled");
	return;
}

$database = 'postgres';
install_orders($node, $database);
sql("SELECT outbox.subscribe('quick', '{orders.*}', 'quick_handler')");
insert_orders($node, $database, 10);
sql('CALL outbox.run()');
is(sql('SELECT outbox.head()'), 10, 'the source has events');
my ($ok, $out) = client($node, 'pg_dump', '-Fc', '-f', $dump, (map { "--exclude-table-data=outbox.$_" }
			qw(event* segment generation schema_version)), $database);
ok($ok, 'a dump without them') || diag($out);

restore();
is_served('written to');

restore();
sql('BEGIN; INSERT INTO orders VALUES (50, 1); ROLLBACK');
is_served('rolled back');

restore();
sql('BEGIN; INSERT INTO orders VALUES (50, 1); ROLLBACK') for 1 .. 3;
is_served('rolled back again and again');

restore();
sql('BEGIN; SAVEPOINT s; INSERT INTO orders VALUES (50, 1); ROLLBACK TO s; INSERT INTO orders VALUES (100, 1); COMMIT');
is_served('rolled back to a savepoint');

restore();
sql("BEGIN; INSERT INTO orders VALUES (50, 1); PREPARE TRANSACTION 'first'");
sql("ROLLBACK PREPARED 'first'");
is_served('rolled back when it was prepared');

# somebody who writes at the same time waits, and does what was undone
restore();
my $first = IPC::Run::start(['psql', '-X', '-q', '-A', '-t', '-d', $node->connstr($database)],
	'<', \my $in, '>', \my $out, '2>', \my $err);
$in = "BEGIN; INSERT INTO orders VALUES (50, 1); SELECT 'written';\n";
$first->pump until $out =~ /written/ || !$first->pumpable;
my $second = IPC::Run::start(['psql', '-X', '-q', '-d', $node->connstr($database), '-c', 'INSERT INTO orders VALUES (100, 1)'],
	'>', \my $out2, '2>', \my $err2);
wait_until($node, $database, "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted", 'the second waits for the first');
$in .= "ROLLBACK;\n\\q\n";
$first->finish;
ok($second->finish, 'and writes then') || diag($err2);
is_served('rolled back while somebody waits');

# the server crashes before the first transaction ends
restore();
sql('CHECKPOINT');
$first = IPC::Run::start(['psql', '-X', '-q', '-A', '-t', '-d', $node->connstr($database)],
	'<', \my $in3, '>', \my $out3, '2>', \my $err3);
$in3 = "BEGIN; INSERT INTO orders VALUES (50, 1); SELECT 'written';\n";
$first->pump until $out3 =~ /written/ || !$first->pumpable;
# what others log takes the log of the counter along
$node->safe_psql('postgres', 'CREATE TABLE durable ()');
$node->stop('immediate');
$first->kill_kill;
$node->start;
is_served('crashed');

# a counter that is set by hand in a log that is at work
$database = 'postgres';
sql("SELECT outbox.alter_subscription('quick', concurrency => 3)");
sql("SELECT setval('outbox.event_id_seq', 1)");
sql('BEGIN; INSERT INTO orders VALUES (50, 1); ROLLBACK');
sql("SELECT outbox.alter_subscription('quick', concurrency => 2)");
is_served('set back by hand');

$node->stop;
done_testing();
