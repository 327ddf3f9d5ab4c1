# What outbox.to_cloudevent() makes is valid by CloudEvents' own package and
# the specification's schema in it, whatever the events are made of.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IPC::Run qw(run);
use OutboxServer;
use Test::More;

my $version = '10.0.0';

# a command that is not there makes run() die
plan skip_all => 'there is no node'
  if !eval { run([ 'node', '--version' ], '>', '/dev/null', '2>', '/dev/null') };

my $node = new_server('cloudevents', conf => ["shared_preload_libraries = ''"]);
my $dir = $node->basedir;
my $said = '';
my $has_package = eval { run(
	[ 'npm', 'install', '--prefix', $dir, '--no-save', '--ignore-scripts', '--no-audit',
		'--no-fund', '--fetch-retries=1', '--fetch-timeout=30000', "cloudevents\@$version" ],
	'>', \$said, '2>', \$said) };

$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_outbox;
	CREATE FUNCTION random_text(pool text, shortest int, longest int, seed bigint) RETURNS text LANGUAGE sql AS $$
		SELECT coalesce(string_agg(substr(pool, 1 + (random() * (length(pool) - 1))::int, 1), ''), '')
		FROM generate_series(1, shortest + (random() * (longest - shortest))::int) AS g
	$$;
	SELECT setseed(0.42);
	-- what URIs have a meaning for, in and out of place; letters of all kinds
	-- and lengths; what no string may have
	CREATE TABLE pool AS SELECT n, pool FROM (VALUES
		(0, 'abcXYZ019.-_~:/?#[]@!$&''()+,;=% '),
		(1, E'a:/?#@%[]0F'),
		(2, E'é水\U0001F600ß\u00a0\u2028"\\\\<>^`{|}ab'),
		(3, E'\x01\x1f\x7f\u0080\u009f\ufdd0\uffff\U0001FFFEab\t\n'),
		(4, 'orders.publichttps:/')) AS v (n, pool);
	SELECT count(outbox.publish(
		type => random_text(translate(pool, '*', ''), 1, 20, i),
		data => CASE i % 6 WHEN 0 THEN '{"a": [1, {"b": null}]}' WHEN 1 THEN '"text"' WHEN 2 THEN '1.5'
			WHEN 3 THEN 'null' WHEN 4 THEN '[]' ELSE to_jsonb(random_text(pool, 0, 9, i)) END,
		key => CASE WHEN random() < 0.8 THEN random_text(pool, 0, 12, i) END,
		source => random_text(pool, 0, 20, i),
		headers => CASE WHEN random() < 0.5 THEN '{}' ELSE jsonb_build_object('traceparent', random_text(pool, 0, 9, i)) END))
	FROM generate_series(1, 4000) i JOIN pool ON n = i % 5;
	BEGIN;
	SET LOCAL outbox.traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
	SET LOCAL outbox.correlation_id = E'request 1\n';
	SELECT outbox.publish('Traced');
	COMMIT;
	CREATE TABLE "Täble: ""x""/y" (id int PRIMARY KEY);
	SELECT outbox.capture('"Täble: ""x""/y"');
	INSERT INTO "Täble: ""x""/y" VALUES (1);
	CALL outbox.run();
});

my $events = $node->safe_psql('postgres',
	'SELECT outbox.to_cloudevent(e) FROM outbox.event e ORDER BY id');
my ($out, $err) = ('', '');
run(['node', "$FindBin::RealBin/cloudevents.js", $dir], '<', \$events, '>', \$out, '2>', \$err);

is($out, $has_package ? "checked 4002 with the package\n" : "checked 4002\n", 'they are valid')
  or diag($err);
is( $node->safe_psql('postgres', q{
		SELECT count(*), count(DISTINCT c->>'id'), bool_and((c->>'sequence')::bigint = "position")
		FROM (SELECT outbox.to_cloudevent(e) AS c, row_number() OVER (ORDER BY id) AS "position"
			  FROM outbox.event e) c}),
	'4002|4002|t', 'ids are unique, sequences are positions');

# the checker finds what is wrong
foreach my $wrong (
	'"source": "1a:b"', '"source": "a b"', '"source": ""', '"subject": ""', '"time": "infinity"',
	'"bad_name": "x"', '"type": "a\u0001"', '"sequence": 1')
{
	my $event = $events =~ s/\n.*//sr;

	$event =~ s/^\{/{$wrong, /;
	$event =~ s/, ("\w+": )(?:"[^"]*")(?=.*)/index($wrong, $1) == 0 ? '' : $&/ge;
	$out = '';
	run(['node', "$FindBin::RealBin/cloudevents.js", $dir], '<', \$event, '>', \$out);
	like($out, qr/: \{.*\nchecked 1/s, "$wrong is found");
}

SKIP:
{
	skip "the package cloudevents could not be installed: $said", 1 if !$has_package;
	pass("checked by cloudevents $version");
}
$node->stop;
done_testing();
