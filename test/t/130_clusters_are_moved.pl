# A whole cluster is moved by pg_upgrade, with and without --link, or by
# pg_dumpall: the log, its positions, what subscriptions have done, whose they
# are, capture rules and all that guards the log are there, and it goes on.
use strict;
use warnings;

use File::Temp;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;

use OutboxServer;

BEGIN
{
	require IPC::Run;
}

# What must be the same afterwards.
my $state = q{
	SELECT "position", id, type, key, data FROM outbox.read() ORDER BY 1;
	SELECT * FROM outbox.capture_rule ORDER BY 1, 2;
	SELECT name, owner, state, "position", delivered, dead FROM outbox.status ORDER BY 1;
	SELECT type, contract, registered_by FROM outbox.event_type ORDER BY 1;
	SELECT key, deliver_at FROM outbox.scheduled ORDER BY 1;
	SELECT relname, tgname, tgenabled FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid
	WHERE relnamespace = 'outbox'::regnamespace AND NOT tgisinternal
	  -- partitions may be made meanwhile
	  AND NOT (relname LIKE 'event_p%' AND tgenabled = 'A') ORDER BY 1, 2;
	SELECT evtname, evtenabled FROM pg_event_trigger ORDER BY 1;
	SELECT typname, typowner::regrole FROM pg_type
	WHERE typnamespace = 'outbox'::regnamespace AND NOT typisdefined ORDER BY 1};

# Of what stands for subscriptions: it goes with the extension.
my $attached = q{
	SELECT count(*) FROM pg_depend
	WHERE classid = 'pg_type'::regclass AND refobjid = 'outbox.subscription'::regclass AND deptype = 'a'
	  AND objid IN (SELECT oid FROM pg_type WHERE NOT typisdefined)};

sub fill
{
	my ($node) = @_;

	install_orders($node, 'postgres');
	$node->safe_psql('postgres', q{
		CREATE ROLE shop LOGIN;
		GRANT EXECUTE ON FUNCTION outbox.subscribe, outbox.register_type TO shop;
		GRANT ALL ON effect TO shop;
		GRANT CREATE ON SCHEMA public TO shop;
		SELECT outbox.subscribe('quick', '{orders.*}', 'quick_handler');
		SET ROLE shop;
		CREATE FUNCTION fails(event outbox.event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
		SELECT outbox.subscribe('dead', '{bad}', 'fails', max_attempts => 1);
		SELECT outbox.subscribe('pull', '{other}');
		SELECT outbox.register_type('other', $$data->>'n' IS NOT NULL$$);
		RESET ROLE;
		SELECT outbox.publish('bad'), outbox.publish('other', '{"n": 1}');
		SELECT outbox.publish('later', key => 'l', deliver_at => '2999-12-31')});
	insert_orders($node, 'postgres', 10);
	# the workers' state, and not one in between
	$node->safe_psql('postgres', "SELECT outbox.wait('quick'), outbox.wait('dead')");
	return $node->safe_psql('postgres', $state);
}

sub goes_on
{
	my ($node, $before, $title) = @_;

	$node->safe_psql('postgres', "SELECT outbox.wait('quick')");
	is($node->safe_psql('postgres', $state), $before, "$title: everything is there");
	$node->safe_psql('postgres', "INSERT INTO orders (id, amount) SELECT i, i FROM generate_series(101, 120) i");
	is($node->safe_psql('postgres', "SELECT outbox.wait('quick')"), 't', "$title: new events are delivered");
	is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT id) FROM effect WHERE handler = 'quick'"), '30|30',
		"$title: each one once, and nothing old again");
	is( $node->safe_psql('postgres', q{
			SELECT count(*) - count(DISTINCT id), count(*) - count(DISTINCT "position"), max("position") FROM outbox.read()}),
		'0|0|32', "$title: no id and no position is given twice");
	is($node->safe_psql('postgres', q{SELECT "position", key FROM outbox.receive('pull')}) =~ /^\d+\|/ ? 1 : 0, 1,
		"$title: who pulls goes on");
	is($node->safe_psql('postgres', $attached), 3, "$title: what stands for subscriptions goes with the extension");

	my ($code, $out, $err) = $node->psql('postgres', 'DROP ROLE shop');
	like($err, qr/owner of type outbox\."subscription dead"/, "$title: its subscriptions are their owner's");
	($code, $out, $err) = $node->psql('postgres', q{SET session_replication_role = replica; DELETE FROM outbox.event});
	like($err, qr/cannot change "outbox\.event"/, "$title: the log is guarded");
	$node->safe_psql('postgres', 'DROP EXTENSION pg_outbox CASCADE');
	return;
}

sub upgrade
{
	my ($mode, @options) = @_;
	my $old = new_server("old_$mode");
	my $before = fill($old);
	my $new = new_server("new_$mode", stopped => 1);
	my $directory = File::Temp->newdir();
	chomp(my $bin = `pg_config --bindir`);

	$old->stop;
	# where it writes scripts and logs
	chdir $directory->dirname or die $!;
	$old->command_ok([ "$bin/pg_upgrade", '-b', $bin, '-B', $bin, '-d', $old->data_dir,
			'-D', $new->data_dir, '-s', $old->host, '-p', $old->port, '-P', $new->port, @options ], "$mode: pg_upgrade");
	chdir '/' or die $!;
	$new->start;
	goes_on($new, $before, $mode);
	$new->stop;
	return;
}

sub dumpall
{
	my ($title, @options) = @_;
	my $old = new_server("from_$title");
	my $before = fill($old);
	my $new = new_server("to_$title");
	my $file = $old->basedir . '/all.sql';
	my ($out, $err) = ('', '');

	$old->command_ok([ 'pg_dumpall', '-d', $old->connstr('postgres'), '-f', $file, @options ], "$title: pg_dumpall");
	$old->stop;
	# the role that restores is there
	ok(IPC::Run::run([ 'psql', '-X', '-q', '-d', $new->connstr('postgres'), '-f', $file ], '>', \$out, '2>', \$err)
		  && $err !~ /ERROR:  (?!role "\w+" already exists)/, "$title: restores") || diag($err);
	goes_on($new, $before, $title);
	$new->stop;
	return;
}

upgrade('copy');
upgrade('link', '--link');
dumpall('plain');
dumpall('inserts', '--inserts');
done_testing();
