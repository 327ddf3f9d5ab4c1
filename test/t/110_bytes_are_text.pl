# What enters the log is text of the database's encoding, wherever it comes
# from: settings of a connection, which are read before the encoding is known;
# those of a role, which databases of other encodings share; names of roles.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $node = new_server('bytes');

for my $database (qw(postgres other))
{
	$node->safe_psql('postgres',
		"CREATE DATABASE other ENCODING LATIN1 LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
	  if $database eq 'other';
	$node->safe_psql($database, 'CREATE EXTENSION pg_outbox');
}
is($node->safe_psql('postgres', 'SHOW server_encoding'), 'UTF8', 'the encoding here');
$node->safe_psql('postgres', q{
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA outbox TO PUBLIC;
	CREATE TABLE public.captured (id integer PRIMARY KEY, c "char");
	SELECT outbox.capture('public.captured');
	GRANT ALL ON public.captured TO PUBLIC});

sub with_options
{
	my ($options, $sql) = @_;

	local $ENV{PGOPTIONS} = $options;
	my ($code, $out, $err) = $node->psql('postgres', $sql);
	return $err;
}

for my $case (
	[ "-c outbox.correlation_id=a\xff", 'outbox.correlation_id' ],
	[ "-c outbox.correlation_id=\xc3", 'outbox.correlation_id' ],
	[ "-c outbox.headers={\"a\":\"\xff\"}", 'outbox.headers' ],
	[ "-c outbox.headers={\"\xe9\":1}", 'outbox.headers' ])
{
	my ($options, $name) = @$case;

	for my $sql (q{SELECT outbox.publish('A')},
		q{SELECT outbox.publish('A', deliver_at => now() + '1 day')},
		q{SELECT outbox.publish_many('[{"type": "A"}]')},
		q{INSERT INTO public.captured VALUES (1)})
	{
		like(with_options($options, $sql),
			qr/invalid byte sequence for encoding "UTF8" in setting "$name"/,
			"$name from PGOPTIONS: $sql");
	}
	is(with_options($options, qq{SET $name = ''; SELECT outbox.publish('Fine')}), '',
		"$name: set anew it counts");
}
my $trace = '01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
like(with_options("-c outbox.traceparent=$trace-\xff\xc3", 'SELECT 1'),
	qr/invalid value for parameter "outbox.traceparent"/, 'a traceparent is ASCII');
is(with_options("-c outbox.traceparent=$trace-more", q{SELECT outbox.publish('Fine')}), '',
	'a later version of it');

# a role's, in another encoding
$node->safe_psql('other', qq{SET client_encoding = latin1; CREATE ROLE guest LOGIN;
	ALTER ROLE guest SET outbox.correlation_id = '\xe9'});
my ($code, $out, $err) =
  $node->psql('postgres', q{SELECT outbox.publish('A')}, extra_params => [ '-U', 'guest' ]);
like($err, qr/invalid byte sequence .* in setting "outbox.correlation_id"/, 'ALTER ROLE ... SET');

# the name of a role, where no application_name is given
$node->safe_psql('other', qq{SET client_encoding = latin1; CREATE ROLE "caf\xe9" LOGIN});
($code, $out, $err) = $node->psql('postgres',
	q{SET application_name = ''; SELECT outbox.publish('Named')},
	extra_params => [ '-U', "caf\xe9" ]);
is($err, '', 'a role whose name is no text here publishes');
is($node->safe_psql('postgres', q{SELECT source FROM outbox.event WHERE type = 'Named'}),
	'caf?', 'its name is shown without it');

# a column of a type that holds any byte, which later versions show as ASCII
($code, $out, $err) = $node->psql('postgres',
	q{INSERT INTO public.captured VALUES (2, U&'\00e9'::"char")});
like($err, qr/^$|invalid byte sequence for encoding "UTF8" in a column/,
	'a "char" of a byte that is no character');

# the log is read in every encoding, and restored
is($node->safe_psql('postgres', q{SELECT count(*) FROM outbox.event WHERE type = 'A'}), '0',
	'nothing else has entered');
is($node->safe_psql('postgres', q{SET client_encoding = latin1;
	SELECT count(e::text) > 4 FROM outbox.event e}), 't', 'the log can be read');

# cancelled by somebody else, an event has not failed; one that says so itself has
$node->safe_psql('postgres', q{
	CREATE TABLE public.calls (key text, n integer);
	CREATE FUNCTION public.waits(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF e.key = 'forged' THEN
			RAISE 'not now' USING ERRCODE = 'query_canceled';
		END IF;
		IF NOT EXISTS (SELECT FROM public.calls WHERE key = e.key) THEN
			PERFORM pg_sleep(600);
		END IF;
	END $$;
	SELECT outbox.subscribe('waits', '{W}', handler => 'public.waits', max_attempts => 1, timeout => '0');
	SELECT outbox.publish('W', key => 'cancelled')});
wait_until($node, 'postgres', "SELECT count(*) > 0 FROM pg_stat_activity
	WHERE backend_type = 'pg_outbox dispatcher' AND wait_event = 'PgSleep'", 'a handler sleeps');
$node->safe_psql('postgres', "INSERT INTO public.calls VALUES ('cancelled', 1);
	SELECT pg_cancel_backend(pid) FROM pg_stat_activity
	WHERE backend_type = 'pg_outbox dispatcher' AND wait_event = 'PgSleep'");
wait_until($node, 'postgres', "SELECT delivered = 1 FROM outbox.status WHERE name = 'waits'",
	'it is called again');
is($node->safe_psql('postgres', "SELECT failed, dead FROM outbox.status WHERE name = 'waits'"),
	'0|0', 'without an attempt more');
$node->safe_psql('postgres', q{SELECT outbox.publish('W', key => 'forged')});
wait_until($node, 'postgres', "SELECT count(*) = 1 FROM outbox.dead_letter WHERE error = 'not now'",
	'a handler that raises the code of a cancel fails');

# a database that does not say what its bytes are: CloudEvents are in UTF-8
$node->safe_psql('postgres',
	"CREATE DATABASE bytes ENCODING SQL_ASCII LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
$node->safe_psql('bytes', q{
	CREATE EXTENSION pg_outbox;
	SELECT outbox.publish('T', jsonb_build_object('a', E'caf\xe9'), E'k\xe9', E's\xe9');
	SELECT outbox.publish('T', jsonb_build_object('a', E'caf\xc3\xa9'), E'k\xc3\xa9', E's\xc3\xa9');
	SELECT outbox.publish('T', jsonb_build_object('a', repeat(E'\xff', 100)), E'\xf0\x9f')});
sub attributes
{
	my ($id, $expression) = @_;

	return $node->safe_psql('bytes',
		"SELECT $expression FROM (SELECT outbox.to_cloudevent(e) AS c FROM outbox.event e WHERE id = $id) c");
}
is(attributes(1, q{c->>'subject', c->>'source', c ? 'data'}), 'k%E9|s%E9|f', 'bytes that are no UTF-8 are escaped');
is(attributes(1, q{decode(c->>'data_base64', 'base64') = E'\\\\x7b2261223a2022636166e9227d'::bytea, c->>'datacontenttype'}),
	't|application/json', 'and the data is told as bytes');
is(attributes(2, q{c->>'subject' = E'k\xc3\xa9', c->'data'->>'a' = E'caf\xc3\xa9', c ? 'data_base64'}), 't|t|f',
	'those that are stay text');
is(attributes(3, q{c->>'subject', position(E'\n' in c->>'data_base64'), length(decode(c->>'data_base64', 'base64'))}),
	'%F0%9F|0|109', 'also where a character is cut off');

done_testing();
