# Partitions are made and dropped whatever others have planted: event triggers
# neither run with our rights nor stop us, default privileges give nothing
# away, and what depends on one partition keeps no other.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $db = 'postgres';
my $node = new_server('planted', conf => [ 'log_min_messages = warning' ]);

# Nothing but run() and apply_retention() works here.
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
$node->safe_psql($db, q{
	CREATE ROLE owner SUPERUSER;
	CREATE ROLE operator LOGIN;
	CREATE ROLE other;
	ALTER DEFAULT PRIVILEGES FOR ROLE owner GRANT ALL ON TABLES TO PUBLIC, other;
	ALTER DEFAULT PRIVILEGES FOR ROLE owner GRANT ALL ON TYPES TO other;
	ALTER DEFAULT PRIVILEGES FOR ROLE owner GRANT ALL ON SEQUENCES TO other;
	ALTER DEFAULT PRIVILEGES FOR ROLE owner GRANT ALL ON ROUTINES TO other;
	SET ROLE owner;
	CREATE EXTENSION pg_outbox;
	RESET ROLE;
	ALTER DATABASE postgres SET outbox.partition_interval = '1s';
	GRANT EXECUTE ON PROCEDURE outbox.run TO operator;
	GRANT EXECUTE ON FUNCTION outbox.apply_retention TO operator;
	CREATE TABLE public.noted (command text, role name);
	GRANT ALL ON public.noted TO PUBLIC;
	CREATE SCHEMA planted AUTHORIZATION operator;
	CREATE VIEW part AS
		SELECT c.oid, c.relname::text AS name, c.reltype, c.relacl,
			   (regexp_match(pg_get_expr(c.relpartbound, c.oid), $$FROM \('(.*)'\) TO$$))[1]::timestamptz AS lower,
			   (regexp_match(pg_get_expr(c.relpartbound, c.oid), $$TO \('(.*)'\)$$))[1]::timestamptz AS upper
		FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = 'outbox.event'::regclass
	});


sub run_as
{
	my ($role, @commands) = @_;
	my ($code, $out, $err) = (0, '', '');
	$node->psql($db, join(";\n", @commands) . ';', stdout => \$out, stderr => \$err,
		extra_params => [ '-U', $role, '-v', 'ON_ERROR_STOP=1' ]);
	return $err;
}

# ---- event triggers ----

# the administrator's functions call by unqualified names; a role has its own in front
$node->safe_psql($db, q{
	CREATE FUNCTION public.note(text) RETURNS void LANGUAGE sql AS
		$$ INSERT INTO public.noted VALUES ($1, current_user) $$;
	CREATE FUNCTION public.careless() RETURNS event_trigger LANGUAGE plpgsql AS
		$$ BEGIN PERFORM note(tg_tag); END $$;
	CREATE EVENT TRIGGER careless_start ON ddl_command_start EXECUTE FUNCTION public.careless();
	CREATE EVENT TRIGGER careless_end ON ddl_command_end EXECUTE FUNCTION public.careless();
	CREATE EVENT TRIGGER careless_drop ON sql_drop EXECUTE FUNCTION public.careless();
	CREATE EVENT TRIGGER careless_rewrite ON table_rewrite EXECUTE FUNCTION public.careless();
	TRUNCATE public.noted});
run_as('operator', q{CREATE FUNCTION planted.note(text) RETURNS void LANGUAGE plpgsql AS
	$$ BEGIN INSERT INTO public.noted VALUES ('planted ' || $1, current_user);
	   ALTER ROLE operator SUPERUSER; END $$});
$node->safe_psql($db, 'TRUNCATE public.noted; SELECT outbox.publish($$Early$$)');
is(run_as('operator', 'SET search_path = planted, public', 'CALL outbox.run()'), '',
	'partitions are made');
cmp_ok($node->safe_psql($db, 'SELECT count(*) FROM part'), '>', 8, 'several');
$node->safe_psql($db, q{SELECT pg_sleep(1.5), outbox.publish('Late')});
$node->safe_psql($db, 'CALL outbox.run(); SELECT pg_sleep(3)');
$node->safe_psql($db, q{ALTER DATABASE postgres SET outbox.retention = 0});
is(run_as('operator', 'SET search_path = planted, public', 'SELECT outbox.apply_retention()'), '',
	'and dropped');
is($node->safe_psql($db, 'SELECT count(*) FROM outbox.event'), 0, 'all that is old');
is($node->safe_psql($db, 'SELECT * FROM public.noted'), '', 'without an event trigger');
is($node->safe_psql($db, q{SELECT rolsuper FROM pg_roles WHERE rolname = 'operator'}), 'f',
	'nobody has become superuser');
is(run_as('operator', 'SET search_path = planted, public', 'SELECT pg_sleep(1.2)',
		'CALL outbox.run()', 'CALL outbox.run()'), '', 'nor by run()');
is($node->safe_psql($db, 'SELECT * FROM public.noted'), '', 'which fires none either');

$node->safe_psql($db, q{
	DROP EVENT TRIGGER careless_start; DROP EVENT TRIGGER careless_end;
	DROP EVENT TRIGGER careless_drop; DROP EVENT TRIGGER careless_rewrite;
	CREATE FUNCTION public.fails() RETURNS event_trigger LANGUAGE plpgsql AS
		$$ BEGIN RAISE 'event trigger %', tg_event; END $$;
	CREATE EVENT TRIGGER fails_drop ON sql_drop EXECUTE FUNCTION public.fails();
	CREATE EVENT TRIGGER fails_rewrite ON table_rewrite EXECUTE FUNCTION public.fails();
	CREATE EVENT TRIGGER fails_end ON ddl_command_end EXECUTE FUNCTION public.fails()});
$node->safe_psql($db, q{SELECT pg_sleep(1.5), outbox.publish('Again')});
$node->safe_psql($db, 'SELECT pg_sleep(2)');
is(run_as('operator', 'CALL outbox.run()', 'CALL outbox.run()', 'SELECT outbox.apply_retention()'), '',
	'event triggers that fail stop nothing');
is($node->safe_psql($db, q{SELECT max(upper) > now() + interval '8 s' FROM part}), 't',
	'there are partitions ahead');
is($node->safe_psql($db, q{SELECT count(*) FROM part WHERE upper < now() - interval '3 s'}), 0,
	'and none that is old');

# ---- rights ----

is($node->safe_psql($db, q{
	SELECT count(*) FROM pg_class p, unnest('{select,insert,update,delete,truncate,references,trigger}'::text[]) r (privilege)
	WHERE p.relnamespace = 'outbox'::regnamespace AND p.relkind IN ('r', 'p', 'v')
	  AND has_table_privilege('other', p.oid, r.privilege)}), 0,
	'default privileges give nobody a right on a table');
is($node->safe_psql($db, q{
	SELECT count(*) FROM pg_proc f, aclexplode(f.proacl) a
	WHERE f.pronamespace = 'outbox'::regnamespace AND a.grantee = 'other'::regrole}), 0,
	'nor on a function');
is($node->safe_psql($db, q{
	SELECT string_agg(c.relname, ' ' ORDER BY c.relname) FROM pg_class c
	WHERE c.relnamespace = 'outbox'::regnamespace AND c.relkind IN ('r', 'p')
	  AND has_type_privilege('other', c.reltype, 'usage')}), 'event',
	'the row type of outbox.event is the only one that others can use');
$node->safe_psql($db, q{DROP EVENT TRIGGER fails_drop; DROP EVENT TRIGGER fails_rewrite; DROP EVENT TRIGGER fails_end});
my $newest = $node->safe_psql($db, 'SELECT max(name) FROM part');
# as a restore leaves it
$node->safe_psql($db, "GRANT USAGE ON TYPE outbox.$newest, outbox.delivery TO PUBLIC, other");
is(run_as('operator', 'CALL outbox.run()'), '', 'a session that has not seen the partitions yet');
is($node->safe_psql($db, qq{
	SELECT has_type_privilege('other', 'outbox.$newest', 'usage'), has_type_privilege('other', 'outbox.delivery', 'usage')}),
	'f|f', 'takes back what a dump does not know');
isnt(run_as('operator',
		"CREATE TABLE planted.t (c outbox.${newest}[])"),
	'', 'nor its array type');

# ---- what depends on a partition ----

$node->safe_psql($db, q{SELECT pg_sleep(0.5), outbox.publish('Viewed')});
$node->safe_psql($db, 'CALL outbox.run()');
my $viewed = $node->safe_psql($db, q{SELECT tableoid::regclass FROM outbox.event WHERE type = 'Viewed'});
is(run_as('operator', "CREATE VIEW planted.v AS SELECT * FROM $viewed"), '',
	'a view on a partition can be made by anyone');
$node->safe_psql($db, q{SELECT pg_sleep(1.5), outbox.publish('Next')});
$node->safe_psql($db, q{ALTER DATABASE postgres SET outbox.retention = '1h'});
$node->safe_psql($db, 'CALL outbox.run()');
$node->safe_psql($db, q{ALTER DATABASE postgres SET outbox.retention = 0});
my $next = $node->safe_psql($db, q{SELECT tableoid::regclass FROM outbox.event WHERE type = 'Next'});
$node->safe_psql($db, "CREATE TABLE composite (c $next, d ${next}[])");
my $warnings = run_as('postgres', q{SELECT pg_sleep(1.5), outbox.publish('Last')}, 'CALL outbox.run()',
	'SELECT pg_sleep(2)', 'CALL outbox.run()');
like($warnings, qr/was emptied, and could not be dropped\s+DETAIL:  .*view planted\.v/,
	'the view is named');
like($warnings, qr/DETAIL:  column [cd] of table (?:public\.)?composite depends/, 'as is the column');
is($node->safe_psql($db, 'SELECT count(*) FROM outbox.event'), 0, 'all events are gone');
is($node->safe_psql($db, q{SELECT count(*) FROM outbox.read()}), 0, 'for readers, too');
is($node->safe_psql($db, q{SELECT count(*) FROM part WHERE upper < now() - interval '2 s'}), 2,
	'and all partitions but those two');
my $undroppable = q{SELECT value FROM outbox.metrics WHERE name = 'outbox_log_undroppable_partitions'};
is($node->safe_psql($db, $undroppable), 2, 'which outbox.metrics counts');
is(run_as('operator', 'CALL outbox.run()'), '', 'which is not tried again and again');
$node->safe_psql($db, 'DROP VIEW planted.v; DROP TABLE composite');
is($node->safe_psql($db, $undroppable), 0, 'as long as there are such');
is(run_as('operator', 'CALL outbox.run()'), '', 'when nothing depends on them');
is($node->safe_psql($db, q{SELECT count(*) FROM part WHERE upper < now() - interval '2 s'}), 0,
	'they go');

$node->stop;
done_testing();
