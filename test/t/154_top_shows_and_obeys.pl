# pg_outbox top shows the subscriptions on one screen, obeys its keys, and goes
# on after a lost connection: tried in tmux.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxRelay;
use OutboxServer;
use Test::More;
use Time::HiRes qw(sleep);

my $db = 'postgres';
my $node = new_server('top');
my $dir = $node->basedir;
$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	CREATE FUNCTION fail(event outbox.event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF event.type = 'Bad' THEN RAISE EXCEPTION E'no \x1b[31mluck' USING ERRCODE = 'OB002'; END IF;
	END $$;
	SELECT outbox.subscribe('email', handler => 'fail');
	SELECT outbox.subscribe('reports');
	SELECT outbox.subscribe('Zo'||chr(235)||' '||chr(28450), '{Other}', channel => 'c');
	SELECT count(outbox.publish('Good')) FROM generate_series(1, 7);
	SELECT outbox.publish('Bad', key => 'k');
});
ok($node->poll_query_until($db, q{SELECT outbox.head() = 8 AND bool_and(lag = 0 OR name = 'reports') AND sum(dead) = 1 FROM outbox.status}), 'there is something to see');

my @program = ('pg_outbox', '-h', $node->host, '-p', $node->port, '-d', $db, 'top');
my $once = qx{LC_ALL=C.UTF-8 @program --once};
my @screen = (
	'SUBSCRIPTION             KIND      STATE           LAG   RATE/s   WAITING   RETRY  PARKED    DEAD  LAST ERROR',
	'reports                  pull      active            8        -  HH:MM:SS       0       0       0',
	"Zo\xc3\xab \xe6\xbc\xa2                   channel   active            0        -                 0       0       0",
	'email                    function  active            0        -                 0       0       1  no \x1b[31mluck');
is($once =~ s/\d\d:\d\d:\d\d/HH:MM:SS/gr =~ s/^workers: .*$/workers: all/mr,
	join("\n", "pg_outbox top  HH:MM:SS  database postgres  head 8  by lag", 'workers: all', '', @screen, ''), 'once');

my $tmux = (grep { -x $_ } map { "$_/tmux" } split(/:/, $ENV{PATH}))[0];
my $linked = qx{ldd "\$(command -v pg_outbox)"} =~ /ncurses/;
SKIP:
{
	skip 'there is no tmux', 1 if !$tmux;
	skip 'there was no ncurses', 1 if !$linked;
	local $ENV{LC_ALL} = 'C.UTF-8';
	local $ENV{TMUX_TMPDIR} = $node->host;
	my @tmux = ($tmux, '-L', 'top', '-f', '/dev/null');
	# the pane stays when the program ends, to be looked at
	is(system(@tmux, 'new-session', '-d', '-x', 130, '-y', 12, "@program -s 1; echo ended with \$?; sleep 100"), 0, 'a terminal');
	my $screen = sub {
		open(my $in, '-|', @tmux, 'capture-pane', '-p') or die $!;
		local $/;
		return (<$in> // '') =~ s/\d\d:\d\d:\d\d/HH:MM:SS/gr =~ s/ +$//gmr;
	};
	my $press = sub { system(@tmux, 'send-keys', @_); return };
	my $shows = sub {
		my ($what, $name) = @_;
		my $found = wait_for(sub { $screen->() =~ $what });

		ok($found, $name) || diag($screen->());
		return;
	};

	$shows->(qr/^reports +pull +active +8 +0 +HH:MM:SS/m, 'rates, once they are known');
	is($screen->() =~ s/^workers: .*$/workers: all/mr, join("\n",
		'pg_outbox top  HH:MM:SS  database postgres  head 8 (0/s)  by lag', 'workers: all', '',
		(map { s/       -  /       0  /r } @screen), '', '', '', '',
		'q quit  s sort  up/down choose  p pause  r resume  d dead letters', ''), 'the screen');
	$press->('p');
	$shows->(qr/^reports +pull +paused .*^reports is paused$/ms, 'p pauses');
	is($node->safe_psql($db, q{SELECT state FROM outbox.status WHERE name = 'reports'}), 'paused', 'it does');
	$press->('r');
	$shows->(qr/^reports +pull +active .*^reports goes on$/ms, 'r resumes');
	$press->('s');
	$shows->(qr/by name.*^Zo.*^email.*^reports/ms, 's sorts by name');
	$press->('s', 's');
	$shows->(qr/by dead letters.*^email/ms, 'and by dead letters');
	$press->('Up', 'Up', 'd');
	$shows->(qr/\A1 dead letters of email\n8  Bad  k  1  no \\x1b\[31mluck\n.*^any key goes back$/ms, 'd shows dead letters');
	$press->('x');
	$shows->(qr/by dead letters/, 'any key goes back');
	$node->restart;
	$node->safe_psql($db, q{SELECT outbox.publish('Good')});
	$shows->(qr/head 9 \(0\/s\)/, 'it goes on after a restart of the server');
	system(@tmux, 'resize-window', '-x', 50, '-y', 6);
	$shows->(qr/^SUBSCRIPTION +KIND +STATE\nemail +function +active\nq quit/m, 'a small terminal');
	$press->('q');
	$shows->(qr/ended with 0/, 'q ends it');
	system(@tmux, 'kill-server');
}

$node->stop;
done_testing();
