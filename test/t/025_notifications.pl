# What a subscription to a channel says: valid JSON under 8,000 bytes, whatever
# the event, one notification each, in position order, and at commit.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $node = new_server('channels', conf => ["shared_preload_libraries = ''", "wal_writer_delay = 10s", "autovacuum = off"]);

$node->safe_psql('postgres', 'CREATE EXTENSION pg_outbox');

# Calls run() in a session that listens; each notification as [channel, payload].
sub notifications
{
	my ($channels, $commands) = @_;
	my $out = $node->safe_psql('postgres',
		join('', map { "LISTEN $_;\n" } @$channels) . $commands . "\nSELECT 'end';\n");

	return map { /^Asynchronous notification "(.*?)" with payload "(.*)" received from/s ? [ $1, $2 ] : () }
	  split /(?=^Asynchronous notification )/m, $out;
}

# Asks PostgreSQL about a payload.
sub ask
{
	my ($payload, $expression) = @_;

	return $node->safe_psql('postgres',
		"WITH n AS (SELECT \$payload\$$payload\$payload\$::text AS t, \$payload\$$payload\$payload\$::jsonb AS j) SELECT $expression FROM n");
}

$node->safe_psql('postgres', q{
	SELECT outbox.subscribe('plain', channel => 'plain');
	SELECT outbox.subscribe('whole', channel => 'Who"le', payload => 'event', types => '{Whole*}');
	SELECT outbox.subscribe('same', channel => 'plain', types => '{Twice}')});

my @got = notifications(
	[ 'plain', '"Who""le"' ], q{
	SELECT outbox.publish('Plain', '{"a": 1}', 'k', 's') > 0;
	SELECT outbox.publish('WholeEvent', '{"a": "ö\"\\\\\u0001"}', NULL, headers => '{"h": 1}') > 0;
	CALL outbox.run();});
is(scalar(@got), 3, 'one notification for each event and subscription');
is(join(',', map { $_->[0] } @got), 'plain,plain,Who"le', 'on their channels');
is(ask($got[0][1], "(SELECT string_agg(k, ',' ORDER BY k COLLATE \"C\") FROM jsonb_object_keys(j) k)"),
	'id,key,position,source,time,type', 'a reference has no data');
is(ask($got[0][1], "j->>'position', j->>'id', j->>'type', j->>'key', j->>'source', (j->>'time')::timestamptz <= now()"),
	'1|1|Plain|k|s|t', 'and says which event');
is(ask($got[1][1], "j->'key' = 'null'"), 't', 'no key is null');
is(ask($got[2][1], "j->'data' = (SELECT data FROM outbox.read() WHERE type = 'WholeEvent')"), 't', 'a whole event has its data');
is(ask($got[2][1], "j->>'headers', j->>'correlation_id', j->'causation_id', j ? 'truncated'"),
	'{"h": 1}|2|null|f', 'and the rest');

# what is too long is left out, largest first; position and id always stand
@got = notifications(
	[ 'plain', '"Who""le"' ], q{
	SELECT outbox.publish('WholeLong', jsonb_build_object('a', repeat('x', 9000)), 'k') > 0;
	SELECT outbox.publish('WholeLong', jsonb_build_object('a', repeat('x', 5000)), 'k', headers => jsonb_build_object('h', repeat('y', 5500))) > 0;
	SELECT outbox.publish('WholeLong', '{}', repeat('"', 2000), repeat('\', 200)) > 0;
	SET outbox.correlation_id = '} . ("\x01" x 2000) . q{';
	SELECT outbox.publish('WholeLong', '{}', repeat('"', 2000), repeat('\', 200)) > 0;
	SELECT outbox.publish('WholeFits', to_jsonb(repeat('x', 7000)), 'k') > 0;
	SELECT outbox.publish('WholeEscapes', to_jsonb(repeat(chr(1), 3000)), 'k') > 0;
	RESET outbox.correlation_id;
	CALL outbox.run();});
is(scalar(@got), 12, 'long ones are notified');
is(join(',', map { ask($_->[1], 'octet_length(t) < 8000') } @got), join(',', ('t') x 12), 'all of them short enough');
my @whole = grep { $_->[0] ne 'plain' } @got;
is( join(' ', map { ask($_->[1], "concat(j->'truncated', (SELECT ',' || string_agg(m, ',' ORDER BY m) FROM unnest('{position,id,type,key,source,time,data,headers,correlation_id,causation_id}'::text[]) m WHERE NOT j ? m))") } @whole),
	'true,data true,headers  true,correlation_id true,correlation_id true,correlation_id,data', 'the largest are left out');

# equal notifications of one transaction do not collapse, for positions differ
@got = notifications(['plain'], q{
	SELECT outbox.publish_many('[{"type": "Twice"}, {"type": "Twice"}]');
	CALL outbox.run();});
is(scalar(@got), 4, 'none is swallowed by another');
is(join(',', map { ask($_->[1], "j->>'position'") } @got), '9,10,9,10', 'each in position order');

# a million bytes to a channel is nobody's failure
is( $node->safe_psql('postgres', q{
	SELECT string_agg(concat_ws(' ', name, lag, dead, failed), ', ' ORDER BY name) FROM outbox.status}),
	'plain 0 0 0, same 0 0 0, whole 0 0 0', 'nothing failed');

# notifications are sent by commit, not before
my ($code, $out) = $node->psql('postgres', q{
	LISTEN plain;
	BEGIN; SELECT outbox.publish('Gone'); ROLLBACK;
	CALL outbox.run();
	SELECT 'end'});
unlike($out, qr/Asynchronous/, 'nobody hears of what was rolled back');

# their commit does not wait for the disk, a handler's does
sub unflushed
{
	my ($options) = @_;

	$node->safe_psql('postgres', 'SELECT outbox.unsubscribe(name) FROM outbox.status');
	$node->safe_psql('postgres', "SELECT outbox.subscribe('s', $options)");
	# now and then something else flushes, or writes a little
	return scalar(
		grep {
			$node->safe_psql('postgres', q{
				SELECT outbox.publish('Plain') > 0;
				CALL outbox.run();
				SELECT pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn() > 100}) =~ /t$/
		} 1 .. 5);
}

$node->safe_psql('postgres',
	'CREATE FUNCTION handler(event outbox.event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$');
cmp_ok(unflushed("channel => 'plain'"), '>=', 4, 'a notification waits for no flush but that of its position');
cmp_ok(unflushed("channel => 'plain', filter => 'true'"), '<=', 1, "what calls the owner's code does");
cmp_ok(unflushed("handler => 'handler'"), '<=', 1, 'as a handler does');
cmp_ok(unflushed("handler => 'handler', types => '{Other}'"), '>=', 4, 'unless nothing matches');
$node->safe_psql('postgres', 'ALTER DATABASE postgres SET synchronous_commit = off');
cmp_ok(unflushed("handler => 'handler'"), '>=', 4, 'or its owner does not ask for it');

$node->stop;
done_testing();
