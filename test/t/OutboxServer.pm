# What the TAP tests share: servers with workers, and waiting for states.
package OutboxServer;

use strict;
use warnings;

use Exporter 'import';
use Test::More;

BEGIN
{
	# PostgreSQL's own modules use it
	require IPC::Run;

	# the module's name and its methods' changed in 15
	if (!eval { require PostgreSQL::Test::Cluster; require PostgreSQL::Test::Utils; 1 })
	{
		require PostgresNode;
		require TestLib;
	}
}

our @EXPORT = qw(new_node new_server install_orders insert_orders wait_until
  wait_for_effects effects_are_exact worker_pid wait_for_worker
  wait_for_new_worker wait_for_recovery quick kill_hard server_log by_hand client);

sub new_node
{
	my ($name) = @_;

	return PostgreSQL::Test::Cluster->can('new')
	  ? PostgreSQL::Test::Cluster->new($name)
	  : PostgresNode->get_new_node($name);
}

# What PostgreSQL's modules say when a server does not start would end all other
# files, too.
{
	no warnings 'redefine';
	*Test::Builder::BAIL_OUT = sub { die "$_[1]\n" };
}

# A server with the library preloaded; it survives crashes, unlike those of
# PostgreSQL's own tests.
sub new_server
{
	my ($name, %option) = @_;
	my $node = new_node($name);

	# as tools/lib.sh does it, whatever the locale of the environment
	$node->init(
		allows_streaming => $option{standby} // 0,
		extra            => [ '--encoding=UTF8', '--no-locale' ]);
	$node->append_conf(
		'postgresql.conf', join("\n",
			"shared_preload_libraries = 'pg_outbox'",
			"fsync = on",
			"restart_after_crash = on",
			"max_worker_processes = 20",
			"max_prepared_transactions = 10",
			@{ $option{conf} // [] },
			''));
	$node->start unless $option{stopped};
	return $node;
}

# A captured table, a table of effects and handlers that write to it.
sub install_orders
{
	my ($node, $database) = @_;

	$node->safe_psql($database, q{
		CREATE EXTENSION IF NOT EXISTS pg_outbox;
		CREATE TABLE orders (id serial PRIMARY KEY, amount integer);
		SELECT outbox.capture('orders');
		CREATE TABLE effect (
			number bigserial, handler text, id integer,
			role name DEFAULT session_user, at timestamptz DEFAULT clock_timestamp());
		CREATE TABLE nap (seconds float);
		INSERT INTO nap VALUES (0);
		GRANT ALL ON orders, effect, nap TO public;
		GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO public;
		GRANT ALL ON SCHEMA public TO public;

		CREATE FUNCTION quick_handler(event jsonb) RETURNS void LANGUAGE sql AS $$
			INSERT INTO public.effect (handler, id)
			VALUES ('quick', (event->'data'->>'id')::integer) $$;
		CREATE FUNCTION slow_handler(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO public.effect (handler, id)
			VALUES ('slow', (event->'data'->>'id')::integer);
			PERFORM pg_sleep(seconds) FROM public.nap;
		END $$;
	});
	return;
}

sub insert_orders
{
	my ($node, $database, $count) = @_;

	$node->safe_psql($database,
		"INSERT INTO orders (amount) SELECT generate_series(1, $count)");
	return;
}

# Waits until the query says true; reports it as a test.
sub wait_until
{
	my ($node, $database, $query, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($node->poll_query_until($database, $query), $name);
}

# Waits until a handler has seen that many orders.
sub wait_for_effects
{
	my ($node, $database, $handler, $count, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until($node, $database,
		"SELECT count(DISTINCT id) >= $count FROM effect WHERE handler = '$handler'",
		$name);
}

# Every order once, and none that is not there.
sub effects_are_exact
{
	my ($node, $database, $handler, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(
		$node->safe_psql($database, qq{
			SELECT count(*) FILTER (WHERE o.id IS NULL) AS unknown,
				   count(*) FILTER (WHERE n IS NULL) AS missing,
				   count(*) FILTER (WHERE n > 1) AS repeated
			FROM orders o
			FULL JOIN (SELECT id, count(*) AS n FROM effect
					   WHERE handler = '$handler' GROUP BY id) e USING (id)}),
		'0|0|0', $name);
}

# The process id of a worker ('' if there is none).
sub worker_pid
{
	my ($node, $database, $role) = @_;

	return $node->safe_psql($database,
		"SELECT pid FROM pg_stat_activity
		 WHERE backend_type = 'pg_outbox $role'
		   AND (datname = current_database() OR datname IS NULL) LIMIT 1");
}

sub wait_for_worker
{
	my ($node, $database, $role, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until($node, $database,
		"SELECT count(*) > 0 FROM pg_stat_activity
		 WHERE backend_type = 'pg_outbox $role'
		   AND (datname = current_database() OR datname IS NULL)", $name);
}

sub wait_for_new_worker
{
	my ($node, $database, $role, $old, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until($node, $database,
		"SELECT count(*) > 0 FROM pg_stat_activity
		 WHERE backend_type = 'pg_outbox $role' AND pid <> $old
		   AND (datname = current_database() OR datname IS NULL)", $name);
}

# Statements that must not wait for a handler: they fail after a minute, while
# the handlers of these tests take many, and PostgreSQL itself gives up on a
# busy database after 5 seconds.  Not sooner, since some of them checkpoint, and
# the disk may be somebody else's.
sub quick
{
	my ($node, $database, $statement, $name) = @_;
	my ($out, $err) = ('', '');

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $code = $node->psql($database, $statement,
		stdout => \$out, stderr => \$err,
		extra_params => ['-v', 'ON_ERROR_STOP=1'],
		connstr => $node->connstr($database) . " options='-c statement_timeout=60s'");
	return ok($code == 0, $name) || diag($err);
}

# After a crash, until connections are accepted again.  A psql that is refused
# meanwhile would break the pipe that its query is to be written to.
sub wait_for_recovery
{
	my ($node) = @_;

	for (1 .. 1800)
	{
		return 1
		  if system('pg_isready', '-q', '-h', $node->host, '-p', $node->port) == 0;
		select(undef, undef, undef, 0.1);
	}
	return 0;
}

# What the server has logged, from an offset on.
sub server_log
{
	my ($node, $since) = @_;
	my $log = PostgreSQL::Test::Utils->can('slurp_file')
	  ? PostgreSQL::Test::Utils::slurp_file($node->logfile)
	  : TestLib::slurp_file($node->logfile);

	return substr($log, $since // 0);
}

# Statements that write to the named tables of ours, which refuse that to
# everyone once the log has events.
sub by_hand
{
	my ($node, $database, $tables, $statements) = @_;
	my @tables = split / /, $tables;

	# which would let nobody disable the triggers
	$node->safe_psql($database, join("\n",
		'ALTER EVENT TRIGGER outbox_capture_follow_ddl DISABLE;',
		(map { "ALTER TABLE outbox.$_ DISABLE TRIGGER refuse_load;" } @tables),
		"$statements;",
		(map { "ALTER TABLE outbox.$_ ENABLE ALWAYS TRIGGER refuse_load;" } @tables),
		'ALTER EVENT TRIGGER outbox_capture_follow_ddl ENABLE ALWAYS;'));
	return;
}

# Runs a client program of this installation, for the node; returns whether it
# succeeded, and its output.
sub client
{
	my ($node, @command) = @_;
	my ($out, $err) = ('', '');

	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	delete local $ENV{PGDATABASE};
	my $ok = IPC::Run::run(\@command, '>', \$out, '2>', \$err);
	return ($ok, $out . $err);
}

# SIGKILL, after which the whole server restarts.
sub kill_hard
{
	my ($node, $pid) = @_;
	my $killed;

	# 0 would be ourselves
	return 0 if !$pid;
	$killed = kill('KILL', $pid) == 1;

	# once the postmaster has seen it, and not before, it takes no connections
	for (1 .. 1800)
	{
		last if !kill(0, $pid);
		select(undef, undef, undef, 0.01);
	}
	return $killed;
}

1;
