# The recipe of docs/operations.md for forgetting a person: what was sealed for a
# subject can be read by all consumers until its key is gone, and by nobody after
# that; neither the log nor a dump of it has the data or the key.
use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $node = new_server('forgetting');
my $db = 'postgres';

# the recipe is the section's first example
open my $docs, '<', abs_path(dirname(__FILE__) . '/../..') . '/docs/operations.md' or die $!;
my $text = do { local $/; <$docs> };
my ($recipe) = $text =~ /^## Forgetting a person\n.*?^```sql\n(.*?)^```$/ms or die 'no recipe';

plan skip_all => 'pgcrypto is not installed'
  if $node->safe_psql($db, q{SELECT count(*) FROM pg_available_extensions WHERE name = 'pgcrypto'}) eq '0';
$node->safe_psql($db, "CREATE EXTENSION pg_outbox; $recipe");
$node->safe_psql($db, q{
	CREATE TABLE seen (handler text, key text, name text);
	CREATE FUNCTION note(e outbox.event) RETURNS void LANGUAGE sql AS $$
		INSERT INTO public.seen VALUES (outbox.current_subscription(), e.key, secret.unseal(e.data)->>'name') $$;
	SELECT outbox.subscribe('handler', handler => 'note');
	SELECT outbox.subscribe('pulled', start => 'beginning');
	SELECT outbox.publish('Moved', secret.seal('ada', '{"name": "Ada Lovelace"}'), 'a');
	SELECT outbox.publish('Moved', secret.seal('alan', '{"name": "Alan Turing"}'), 'b');
	SELECT outbox.publish('Moved', secret.seal('ada', '{"name": "Ada Lovelace"}'), 'a')});
$node->safe_psql($db, 'SELECT outbox.wait()');

sub seen
{
	return $node->safe_psql($db, 'DELETE FROM seen; SELECT outbox.seek($$handler$$, 1); SELECT outbox.wait($$handler$$);
		SELECT string_agg(key || coalesce(name, $$ forgotten$$), $$,$$ ORDER BY key, name) FROM seen') =~ s/.*\n//sr;
}

sub pulled
{
	return $node->safe_psql($db, q{
		BEGIN;
		SELECT string_agg(coalesce(secret.unseal(r.data)->>'name', 'forgotten'), ',' ORDER BY position) AS names,
		       max(receipt) AS receipt
		FROM outbox.receive('pulled', lease => '1 minute') r \gset
		SELECT outbox.release('pulled', :receipt) \g /dev/null
		COMMIT;
		SELECT :'names'});
}

is(seen(), 'aAda Lovelace,aAda Lovelace,bAlan Turing', 'handlers read it');
is(pulled(), 'Ada Lovelace,Alan Turing,Ada Lovelace', 'and so do consumers');
is($node->safe_psql($db, q{SELECT count(*) FROM outbox.event WHERE to_jsonb(event)::text ~ 'Ada|Turing'}), '0',
	'the log has it sealed');
is($node->safe_psql($db, q{SELECT count(DISTINCT data->>'sealed') FROM outbox.event}), '3',
	'and the same data sealed twice does not look the same');

my $key = $node->safe_psql($db, q{SELECT key FROM secret.subject_key WHERE subject = 'ada'});
$node->safe_psql($db, q{SELECT secret.forget('ada')});
$node->safe_psql($db, 'VACUUM secret.subject_key');
is(seen(), 'a forgotten,a forgotten,bAlan Turing', 'a replay reads nothing of a forgotten subject');
is(pulled(), 'forgotten,Alan Turing,forgotten', 'nor does a consumer');
$node->command_ok([ 'pg_dump', '-f', $node->basedir . '/dump', '-d', $node->connstr($db) ], 'a dump is made');
open my $file, '<', $node->basedir . '/dump' or die $!;
my $dump = do { local $/; <$file> };
unlike($dump, qr/Ada Lovelace|\Q$key\E/, 'it has neither the data nor the key');
like($dump, qr/"sealed"/, 'but the events');

my (undef, undef, $error) = $node->psql($db, q{SELECT secret.seal('ada', '{}')});
like($error, qr/subject ada is forgotten/, 'nothing is sealed for a forgotten subject by mistake');

# a key that another producer is just making
my $session = $node->background_psql($db);
$session->query_safe(q{BEGIN; SELECT outbox.publish('Moved', secret.seal('eve', '{"name": "Eve"}'), 'e')});
my $other = $node->background_psql($db);
$other->{stdin} .= q{SELECT outbox.publish('Moved', secret.seal('eve', '{"name": "Eve"}'), 'e');} . "\n";
$other->{run}->pump_nb;
wait_until($node, $db, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'seal'},
	'another producer waits for the key');
$session->query_safe('COMMIT');
$other->quit;
$session->quit;
is($node->safe_psql($db, q{SELECT count(*) FROM outbox.event WHERE key = 'e' AND secret.unseal(data)->>'name' = 'Eve'}),
	'2', 'both have the same one');

$node->stop;
done_testing();
