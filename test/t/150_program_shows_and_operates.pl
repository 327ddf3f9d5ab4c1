# The program pg_outbox shows what the views show and does what the functions
# do, for people and for programs; its documentation has what its help has.
use strict;
use warnings;

use Cwd qw(abs_path);
use FindBin;
use lib $FindBin::RealBin;
use IPC::Run qw(run);
use JSON::PP;
use OutboxServer;
use Test::More;

my $root = abs_path("$FindBin::RealBin/../..");
my $db = 'postgres';
my $node = new_server('program');
my @connection = ('-h', $node->host, '-p', $node->port, '-d', $db);
$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	CREATE FUNCTION fail(event outbox.event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF event.type = 'Bad' THEN
			RAISE EXCEPTION E'no\nluck with %', event.key USING ERRCODE = 'OB002', DETAIL = 'none at all';
		END IF;
	END $$;
	SELECT outbox.subscribe('Kunden "A"', handler => 'fail');
	SELECT outbox.publish('Good', '{"amount": 99.50, "name": "Zoë"}', '17');
	SELECT outbox.publish('Bad', '{}', E'1\x1b[31m8');
	SELECT outbox.publish('Good', '{"big": 12345678901234567890.10}');
	SELECT outbox.wait();
});

# Exit code, stdout and stderr.
sub program
{
	my ($out, $err) = ('', '');

	run ['pg_outbox', @_], '<', \'', '>', \$out, '2>', \$err;
	return ($? >> 8, $out, $err);
}

sub is_program
{
	my ($arguments, $code, $out, $err, $name) = @_;
	my ($got_code, $got_out, $got_err) = program(@connection, @$arguments);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($got_code, $code, "$name: exit code") or diag($got_err);
	ref $out ? like($got_out, $out, $name) : is($got_out, $out, $name);
	like($got_err, $err, "$name: stderr") if defined $err;
	return $got_out;
}

# ---- what it shows ----

my ($code, $out, $err) = program(@connection, 'tail', '--format', 'json');
my @events = map { decode_json($_) } split /\n/, $out;
is($code, 0, 'tail');
is(join(' ', map { $_->{position} } @events), '1 2 3', 'tail shows all events of a short log, in order');
like($out, qr/"amount": 99\.50.*"big": 12345678901234567890\.10/s, 'numbers are as they were written');
is($events[0]{data}{name}, "Zo\x{eb}", 'and texts');
is($events[1]{key}, "1\x1b[31m8", 'programs get a key as it is');

is_program([ 'tail', '-n', 2 ], 0, qr/^2  .*  Bad  1\\x1b\[31m8  \{\}\n3  .*  Good  -  \{"big": 12345678901234567890\.10\}\n$/,
	qr/^$/, 'tail: text has no control characters');
is_program([ 'tail', '--types', 'B*', 'X', '--format', 'json' ], 0, qr/^\{"position":2,.*\}\n$/, undef, 'tail: types');
is_program([ 'tail', '--types', 'B*', '--types', 'G*', '-n', 1 ], 0, qr/^3 .*\n$/, undef, 'tail: more types');
is_program([ 'tail', '-n', 1, '--types=B*' ], 0, qr/^2 .*\n$/, undef, 'tail: the last one of a type is looked for');
is_program([ 'tail', '--key', '17' ], 0, qr/^1 .*\n$/, undef, 'tail: key');
is_program([ 'tail', '--after', 2 ], 0, qr/^3 .*\n$/, undef, 'tail: after a position');
is_program([ 'tail', '--after', 9 ], 0, '', qr/ends at position 3/, 'tail: a position that is not given yet is told');
is_program([ 'tail', '--since', '2100-01-01' ], 0, '', undef, 'tail: since a time that has not come');
is_program([ 'tail', '--since', '2000-01-01' ], 0, qr/^1 .*\n2 .*\n3 .*\n$/, undef, 'tail: since');
is_program([ 'tail', '-n', 0 ], 0, '', undef, 'tail: none');
($code, $out) = program(@connection, 'tail', '--format', 'cloudevents');
is( $out, $node->safe_psql($db, "SET timezone = 'UTC'; SELECT outbox.to_cloudevent(e) FROM outbox.event e ORDER BY id") . "\n",
	'tail: CloudEvents');

is_program(['status'], 0, qr/^name +kind .*\nKunden "A" +function +active +3 +0 /, undef, 'status');
($code, $out) = program(@connection, 'status', '--format', 'json');
is_deeply([ @{ decode_json($out) }{qw(name dead lag)} ], [ 'Kunden "A"', 1, 0 ], 'status: json');

is_program([ 'dead', 'Kunden "A"' ], 0,
	qr/^2  Bad  1\\x1b\[31m8  attempts: 1, .*\n    no\\nluck with 1\\x1b\[31m8\n    none at all\n$/, undef, 'dead');
($code, $out) = program(@connection, 'dead', 'Kunden "A"', '--format=json');
is(decode_json($out)->{error}, "no\nluck with 1\x1b[31m8", 'dead: json');
is_program([ 'dead', 'nobody' ], 1, '', qr/subscription "nobody" does not exist/, 'dead: an unknown subscription');

my $id = $events[1]{id};
is_program([ 'why', $id ], 0, qr/^Event $id, "Bad" .*is at position 2\.\nKunden "A": dead/, undef, 'why');
is_program([ 'why', 'x' ], 1, '', qr/must be a number/, 'why: no number');
is_program([ 'trace', $events[0]{correlation_id} ], 0, qr/^Good 17 \(position 1, id \d+\)\n  > Kunden "A": delivered/, undef, 'trace');
is_program([ 'trace', '--event', $id, '--format', 'mermaid' ], 0, qr/^flowchart/, undef, 'trace: mermaid');
is(decode_json(is_program([ 'trace', '--event', $id, '--format', 'json' ], 0, qr/^\{/, undef, 'trace: json'))->{state},
	'dead', 'trace: the state');
is_program([ 'trace', '--event', 999999 ], 1, '', qr/event 999999 is not in the log/, 'trace: an unknown event');
is_program([ 'trace', 'none' ], 1, '', qr/no events of the correlation "none"/, 'trace: an unknown correlation');
is_program(['trace'], 1, '', qr/either a correlation or --event/, 'trace: nothing');

# ---- what it does ----

is_program([ 'redrive', 'Kunden "A"', 3 ], 1, '', qr/ERROR:.*3/, 'redrive: what is no dead letter');
is_program([ 'redrive', 'Kunden "A"', 2 ], 0, "1 dead letter is due again\n", undef, 'redrive');
wait_until($node, $db, q{SELECT dead = 1 AND retrying = 0 FROM outbox.status}, 'it has failed again');
is_program([ 'seek', 'Kunden "A"', 1, '--dry-run' ], 0,
	qr/^subscription "Kunden "A"" would go on at position 1;/, undef, 'seek: dry run');
is($node->safe_psql($db, 'SELECT position FROM outbox.status'), 3, 'changes nothing');
$node->safe_psql($db, q{SELECT outbox.pause('Kunden "A"')});
is_program([ 'seek', 'Kunden "A"', 2 ], 0, qr/ goes on at position 2;/, undef, 'seek');
is($node->safe_psql($db, 'SELECT position FROM outbox.status'), 1, 'does');
is_program([ 'seek', 'Kunden "A"', '1999-12-31 23:00' ], 0, qr/ goes on at position 1;/, undef, 'seek: a time');
is_program([ 'seek', 'Kunden "A"', 77 ], 1, '', qr/ERROR:.*77/, 'seek: a position that is not there');
is_program([ 'discard', 'Kunden "A"' ], 0, "1 dead letter was discarded\n", undef, 'discard');
is_program([ 'dead', 'Kunden "A"' ], 0, "There are no dead letters.\n", undef, 'dead: none');

# ---- how it ends ----

is_program([ 'dance' ], 1, '', qr/there is no command "dance"/, 'an unknown command');
is_program([], 1, '', qr/a command is missing/, 'no command');
is_program([ 'status', 'x' ], 1, '', qr/too many arguments/, 'too many arguments');
is_program([ 'dead' ], 1, '', qr/an argument is missing/, 'too few');
is_program([ 'tail', '--format', 'xml' ], 1, '', qr/one of text\|json\|cloudevents/, 'an unknown format');
is_program([ 'tail', '-n', 1, '--after', 1 ], 1, '', qr/only one of/, 'two beginnings');
is_program([ 'tail', '--colour' ], 1, '', qr/unrecognized option/, 'an unknown option');
($code, $out, $err) = program('status', '-h', $node->host, '-p', $node->port + 1, '-d', $db);
is($code, 2, 'no connection');
is($out . ($err =~ /^pg_outbox: error: (?:connection|could not connect) to server/), 1, 'says so');
$node->safe_psql($db, 'CREATE DATABASE bare');
($code, $out, $err) = program('-h', $node->host, '-p', $node->port, 'status', '-d', 'bare');
is($code, 1, 'no extension');
like($err, qr/the extension pg_outbox is not in database "bare"/, 'says so');
{
	local $ENV{PGDATABASE} = "host=${\ $node->host} port=${\ $node->port}";
	local $ENV{PGSERVICEFILE} = $node->basedir . '/service.conf';
	open(my $file, '>', $ENV{PGSERVICEFILE}) or die $!;
	print $file "[shop]\nhost=${\ $node->host}\nport=${\ $node->port}\ndbname=$db\n";
	close($file);
	($code) = program('-d', 'service=shop', 'status');
	is($code, 0, 'a service');
	delete $ENV{PGDATABASE};
	local $ENV{PGSERVICE} = 'shop';
	($code) = program('status');
	is($code, 0, 'a service of the environment');
	($code) = program('status', '-d', 'bare');
	is($code, 1, 'an option overrules it');
}
SKIP:
{
	skip 'there is no /dev/full', 1 if !-c '/dev/full';
	open(my $full, '>', '/dev/full') or die $!;
	run [ 'pg_outbox', @connection, 'tail' ], '>', $full, '2>', \$err;
	is($? >> 8, 1, 'a full disk is an error');
}

# ---- what it says about itself ----

my $docs = do { local $/; open(my $in, '<', "$root/docs/program.md") or die $!; <$in> };
($code, my $help) = program('--help');
is($code, 0, 'help');
like($help, qr/Exit codes/, 'has exit codes');
is((program('--version'))[1], 'pg_outbox ' . $node->safe_psql($db, q{SELECT default_version FROM pg_available_extensions WHERE name = 'pg_outbox'}) . "\n", 'version');
my ($commands) = $help =~ /Commands:\n(.*?)\n\n/s;
my $completion = (program('completion'))[1];
foreach my $command ($commands =~ /^  (\w+)/mg)
{
	my $text = (program($command, '--help'))[1];
	my ($section) = $docs =~ /^## $command\n(.*?)(?=^## |\z)/ms;
	my ($own) = $text =~ /^Options:\n(.*?)\n\n/ms;
	my @missing = grep { ($section // '') !~ /`$_/ && ($section // '') !~ /, `$_/ } ($own // '') =~ /(--[a-z-]+)/g;
	my @unknown = grep { ($own // '') !~ /$_\b/ } ($section // '') =~ /^\| (?:`-\w`, )?`(--[a-z-]+)/mg;

	ok(defined $section, "$command: is in the documentation");
	is("@missing", '', "$command: with all options");
	is("@unknown", '', "$command: and no others");
	is((program('help', $command))[1], $text, "$command: help");
	like($completion, qr/\b$command\b/, "$command: bash completes it");
}
is(system('bash', '-n', '-c', $completion), 0, 'bash understands the completion');
is( qx{bash -c 'source <(pg_outbox completion); COMP_WORDS=(pg_outbox -d x trace --format ""); COMP_CWORD=5; _pg_outbox; echo "\${COMPREPLY[*]}"'},
	"text mermaid json\n", 'and completes with it');

$node->stop;
done_testing();
