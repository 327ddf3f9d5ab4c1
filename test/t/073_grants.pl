# The ready-made grants of docs/operations.md, as they stand there: each role
# can do its job, and has nothing else.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

# What each role is meant to have, beyond what everybody has.
my %granted = (
	outbox_producer => [qw(publish publish_many try_publish try_publish_many)],
	outbox_scheduler => [qw(cancel_scheduled reschedule scheduled)],
	outbox_designer => [qw(capture uncapture snapshot register_type unregister_type
		  capture_rule event_type)],
	outbox_consumer => [qw(subscribe alter_subscription unsubscribe aggregate pause resume seek
		  redrive discard receive ack nack extend release await once wait to_cloudevent
		  status dead_letter waiting aggregation event_type)],
	outbox_reader => [qw(read head oldest position_of generation generations to_cloudevent
		  event debezium_outbox event_type)],
	outbox_operator => [qw(apply_retention wait run trace trace_text trace_mermaid why_not_delivered
		  redrive discard pause resume position_of head oldest generation worker_slots
		  status dead_letter waiting aggregation worker metrics capture_rule event_type)],
	outbox_observer => [qw(worker_slots head oldest generation
		  status worker metrics capture_rule event_type)]);

my $node = new_server('granted');
$node->safe_psql('postgres', 'CREATE EXTENSION pg_outbox');
$node->safe_psql('postgres', docs_grants());

is( $node->safe_psql('postgres', q{SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles WHERE rolname LIKE 'outbox%'}),
	join(' ', sort keys %granted), 'every role is looked at');

# Whatever has a role that it is for is granted; the rest is for everybody, for the
# extension itself, or a trigger's.
my %nobodys = map { $_ => 1 } qw(duration_text trace_words current_attempt current_position
  current_subscription is_replay worker_obstacle handed_out);
is( join(' ', grep { my $name = $_; !$nobodys{$name} && !grep { $_ eq $name } map { @$_ } values %granted }
		split(/\n/, $node->safe_psql('postgres', q{
			SELECT proname::text COLLATE "C" FROM pg_proc WHERE pronamespace = 'outbox'::regnamespace
				AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
			UNION SELECT relname::text FROM pg_class WHERE relnamespace = 'outbox'::regnamespace AND relkind = 'v'
			ORDER BY 1}))),
	'', 'every function and view is granted to some role');

foreach my $role (sort keys %granted)
{
	is( $node->safe_psql('postgres', qq{
		SELECT string_agg(DISTINCT name, ' ' ORDER BY name)
		FROM (SELECT f.proname::text AS name FROM pg_proc f, aclexplode(f.proacl) a
			  WHERE f.pronamespace = 'outbox'::regnamespace AND a.grantee = '$role'::regrole AND a.privilege_type = 'EXECUTE'
			  UNION ALL
			  SELECT c.relname FROM pg_class c, aclexplode(c.relacl) a
			  WHERE c.relnamespace = 'outbox'::regnamespace AND a.grantee = '$role'::regrole AND a.privilege_type = 'SELECT') g}),
		join(' ', sort @{ $granted{$role} }),
		"$role has what it needs");
	is( $node->safe_psql('postgres', qq{
		SELECT count(*)
		FROM (SELECT a.* FROM pg_class c, aclexplode(c.relacl) a WHERE c.relnamespace = 'outbox'::regnamespace
			  UNION ALL SELECT a.* FROM pg_proc f, aclexplode(f.proacl) a WHERE f.pronamespace = 'outbox'::regnamespace
			  UNION ALL SELECT a.* FROM pg_namespace n, aclexplode(n.nspacl) a WHERE n.nspname = 'outbox') g
		WHERE grantee = '$role'::regrole AND (privilege_type NOT IN ('EXECUTE', 'SELECT') OR is_grantable)}),
		0, "$role has nothing else");
	$node->safe_psql('postgres', qq{
		CREATE ROLE a_$role LOGIN;
		GRANT $role TO a_$role;
		CREATE SCHEMA a_$role AUTHORIZATION a_$role});
}

# Runs as a role of that kind; what it prints, or its error.
sub as_role
{
	my ($role, $sql) = @_;
	my ($out, $err) = ('', '');

	my $code = $node->psql('postgres', $sql, stdout => \$out, stderr => \$err,
		extra_params => [ '-U', "a_$role", '-v', 'ON_ERROR_STOP=1' ]);
	return $code == 0 ? $out : $err;
}

# Everybody's job, in the order of an event's life.
is(as_role('outbox_designer', q{
	CREATE TABLE a_outbox_designer.orders (id int PRIMARY KEY, amount numeric);
	GRANT INSERT ON a_outbox_designer.orders TO PUBLIC;
	GRANT USAGE ON SCHEMA a_outbox_designer TO PUBLIC;
	SELECT outbox.capture('a_outbox_designer.orders');
	SELECT outbox.register_type('Paid', $$ data ? 'amount' $$, 'an order was paid');
	SELECT count(*) FROM outbox.capture_rule, outbox.event_type}), "orders\n0\n1", 'a designer captures and registers');
is(as_role('outbox_consumer', q{
	CREATE TABLE a_outbox_consumer.effect (type text, who name DEFAULT current_user);
	CREATE FUNCTION a_outbox_consumer.handle(event outbox.event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF event.type = 'Bad' THEN RAISE 'bad'; END IF;
		INSERT INTO a_outbox_consumer.effect VALUES (event.type);
	END $$;
	SELECT outbox.subscribe('handled', handler => 'a_outbox_consumer.handle', max_attempts => 1);
	SELECT outbox.subscribe('pulled')}), "\n", 'a consumer subscribes');
is(as_role('outbox_producer', q{
	SELECT outbox.publish('Paid', '{"amount": 1}') > 0, outbox.publish('Bad') > 0;
	SELECT outbox.publish_many('[{"type": "Free"}]');
	INSERT INTO a_outbox_designer.orders VALUES (1, 1)}), "t|t\n1", 'a producer publishes and writes');
like(as_role('outbox_producer', "SELECT outbox.publish('Paid')"), qr/breaches its contract/, 'and keeps contracts');
is(as_role('outbox_producer', "SELECT outbox.publish('Later', deliver_at => now() + interval '1 day')"), '', 'also for later');
is(as_role('outbox_scheduler', 'SELECT type, outbox.cancel_scheduled(id) FROM outbox.scheduled'), 'Later|t', 'which a scheduler cancels');
is(as_role('outbox_consumer', q{
	SELECT outbox.wait('handled');
	SELECT string_agg(type || ' ' || who, ',' ORDER BY type) FROM a_outbox_consumer.effect;
	BEGIN;
	SELECT count(*), outbox.ack('pulled', min(receipt)) FROM outbox.receive('pulled');
	COMMIT;
	SELECT name, state, delivered, dead FROM outbox.status WHERE name = 'handled';
	SELECT type, error FROM outbox.dead_letter;
	SELECT outbox.discard('handled');
	SELECT outbox.pause('pulled'), outbox.resume('pulled'), outbox.seek('pulled', to_position => 1)}),
	join("\n", 't', 'Free a_outbox_consumer,Paid a_outbox_consumer,orders.inserted a_outbox_consumer', '4|', 'handled|active|3|1', 'Bad|bad', '1', '||1'),
	'a consumer handles, pulls, and deals with dead letters');
is(as_role('outbox_reader', q{
	SELECT count(*), outbox.head(), outbox.oldest(), outbox.generation() FROM outbox.read();
	SELECT bool_and(outbox.position_of(id) > 0 AND outbox.to_cloudevent(e) ? 'sequence') FROM outbox.event e;
	SELECT count(*) FROM outbox.debezium_outbox}), "4|4|1|1\nt\n4", 'a reader reads');
is(as_role('outbox_operator', q{
	SELECT outbox.apply_retention() >= 0, outbox.wait('handled');
	CALL outbox.run();
	SELECT count(*) > 0 FROM outbox.trace('1');
	SELECT outbox.trace_text('1') <> '', outbox.trace_mermaid('1') <> '', outbox.why_not_delivered(1) <> '';
	SELECT count(*) FROM outbox.status;
	SELECT count(*) > 0 FROM outbox.worker;
	SELECT count(*) > 0 FROM outbox.metrics}), "t|t\nt\nt|t|t\n2\nt\nt", 'an operator operates');
like(as_role('outbox_operator', "SELECT outbox.pause('handled')"), qr/must be a member of the owner/, 'not on the subscriptions of others');
$node->safe_psql('postgres', 'GRANT a_outbox_consumer TO a_outbox_operator');
is(as_role('outbox_operator', "SELECT outbox.pause('handled'), outbox.resume('handled')"), '|', 'unless it is a member');
is(as_role('outbox_observer', q{
	SELECT count(*), outbox.head() FROM outbox.status;
	SELECT count(*) > 0 FROM outbox.worker;
	SELECT count(*) > 0 FROM outbox.metrics;
	SELECT count(*) FROM outbox.capture_rule;
	SELECT count(*) FROM outbox.event_type}), "2|4\nt\nt\n1\n1", 'an observer watches');

# nobody reaches what is not theirs, by whatever way
my @ways = (
	'SELECT * FROM outbox.event', 'SELECT * FROM outbox.event_default', 'SELECT * FROM outbox.read()',
	'SELECT * FROM outbox.subscription', 'SELECT * FROM outbox.delivery', 'SELECT * FROM outbox.registered_type',
	"DELETE FROM outbox.event", "UPDATE outbox.subscription SET owner = 10", "SELECT setval('outbox.event_id_seq', 1)",
	"SELECT nextval('outbox.event_id_seq')", 'CREATE TABLE outbox.mine ()', 'DROP VIEW outbox.status',
	"COPY outbox.event TO STDOUT", "SET outbox.retention = 0", "SET outbox.strict_types = on",
	'SELECT * FROM outbox.schedule', "SELECT outbox.capture('outbox.event')", "SELECT outbox.refuse_change()", "SELECT outbox.types_changed()");
foreach my $role (sort keys %granted)
{
	my @open = grep { as_role($role, $_) !~ /ERROR:/ } @ways;

	# from 19 on COPY reads partitioned tables, too
	@open = grep { !/outbox\.(?:event|event TO STDOUT|read\(\))$/ } @open if $role eq 'outbox_reader';
	is("@open", '', "$role gets no further");
}

# A view shows what it is meant to, also to a function that tells of all rows
# that it is called with.
$node->safe_psql('postgres', q{
	SELECT outbox.publish('Secret', '{"secret": 1}');
	SELECT outbox.publish('Bad', '{"dead": 1}');
	SELECT outbox.wait()});
my ($out, $err);
$node->psql('postgres', q{
	CREATE FUNCTION a_outbox_operator.tells(data jsonb) RETURNS boolean LANGUAGE plpgsql STRICT COST 0.0000001 AS
		$$ BEGIN RAISE NOTICE 'seen: %', data; RETURN true; END $$;
	-- all rows at once, for those who may not look them up one by one
	SET enable_nestloop = off;
	SET enable_indexscan = off;
	SET enable_bitmapscan = off;
	SELECT count(*) FROM outbox.dead_letter WHERE a_outbox_operator.tells(data)},
	stdout => \$out, stderr => \$err, extra_params => [ '-U', 'a_outbox_operator' ]);
like($err, qr/seen: \{"dead": 1\}/, 'dead letters are seen');
unlike($err, qr/secret/, 'and no other events');

$node->stop;
done_testing();

# The block of the documentation that makes the roles.
sub docs_grants
{
	my $path = "$FindBin::RealBin/../../docs/operations.md";

	open(my $in, '<', $path) or die "could not read $path: $!\n";
	local $/;
	my ($block) = <$in> =~ /^```sql\n((?:(?!^```).)*CREATE ROLE outbox_producer.*?)^```/ms;
	return $block // die "no grants in $path\n";
}
