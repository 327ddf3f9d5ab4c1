# A relay to a web server: CloudEvents in binary, structured and batch mode,
# with an id that never changes and a signature; what the server answers is
# obeyed, and nothing is lost by it.
use strict;
use warnings;

use Digest::SHA qw(hmac_sha256_base64);
use FindBin;
use IO::Socket::INET;
use JSON::PP;
use lib $FindBin::RealBin;
use OutboxRelay;
use OutboxServer;
use Test::More;
use Time::HiRes qw(sleep time);

my $db = 'postgres';
my $sinks = qx{pg_config --pkglibdir};
chomp $sinks;
plan skip_all => 'there was no libcurl to build the sink with' if !-e "$sinks/pg_outbox/http.so";

my $node = new_server('web');
my $dir = $node->basedir;
my $port = $node->port + 3;
$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	SELECT outbox.subscribe(name, start => 'beginning') FROM unnest('{structured,binary,batch,moods}'::text[]) name;
	SELECT count(outbox.publish('Order', '{"amount": 99.50}', 'k' || i % 5, headers => '{"traceparent": "00-1"}')) FROM generate_series(1, 200) i;
	SELECT outbox.publish('Größe', '{"a": "\"é"}', 'k%1 "x"');
});
ok($node->poll_query_until($db, 'SELECT outbox.head() = 201'), 'there are events');

# ---- a web server, a process for each connection ----

sub mood { write_file("$dir/mood.new", $_[0]); rename("$dir/mood.new", "$dir/mood"); return }

# The answer to one request, by what the file says.
sub answer_to
{
	my ($body) = @_;
	my $mood = read_file("$dir/mood");

	if ($mood =~ /^hang/)
	{
		sleep 3;
		return '';
	}
	return "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n" if $mood =~ /^large/ && $body =~ /"type":"Large"/;
	return "HTTP/1.1 $1 Said\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n" if $mood =~ /^(\d+)/;
	return "HTTP/1.1 204 No Content\r\n\r\n";
}

sub serve
{
	my ($client) = @_;

	while (1)
	{
		my $head = '';
		while (my $line = <$client>)
		{
			last if $line eq "\r\n";
			$head .= $line;
		}
		my ($length) = $head =~ /^Content-Length: (\d+)/mi;
		return if !defined $length;
		read($client, my $body, $length) == $length or return;
		my $answer = answer_to($body) || return;
		open(my $log, '>>', "$dir/requests") or die;
		syswrite($log, encode_json({
			at => time, head => $head, body => $body, good => $answer =~ / 204 / ? 1 : 0 }) . "\n");
		close($log);
		syswrite($client, $answer);
	}
}

my $web = fork // die $!;
if ($web == 0)
{
	my $socket = IO::Socket::INET->new(LocalAddr => "127.0.0.1:$port", Listen => 50, ReuseAddr => 1) or POSIX::_exit(1);
	local $SIG{CHLD} = 'IGNORE';
	while (my $client = $socket->accept)
	{
		my $pid = fork;
		next if $pid;
		serve($client);
		POSIX::_exit(0);
	}
	POSIX::_exit(0);
}
END { my $status = $?; kill('KILL', $web) if $web; $? = $status; }

sub requests { return map { decode_json($_) } split /\n/, read_file("$dir/requests") }

sub configure_http
{
	my ($subscription, $settings, %more) = @_;

	return configure($node, "$dir/$subscription.conf", subscription => $subscription, sink => 'http', %more,
		sections => "[http]\nurl = 'http://127.0.0.1:$port/in'\n$settings");
}

# ---- the modes ----

mood('ok');
my $secret = 'c2VjcmV0IG9mIHRoZSB0ZXN0';
is(run_relay(configure_http('structured', "secret = whsec_$secret\nauthorization = 'Bearer x'\n"), "$dir/out", '--once'), 0, 'structured')
  || diag(read_file("$dir/out.err"));
my @got = requests();
is(scalar(@got), 201, 'a request per event');
my %newest;
my $disorder = 0;
my $unsigned = 0;
foreach (@got)
{
	my $event = decode_json($_->{body});
	my ($id) = $_->{head} =~ /^webhook-id: (\S+)\r/m;
	my ($at) = $_->{head} =~ /^webhook-timestamp: (\d+)\r/m;
	my ($signature) = $_->{head} =~ /^webhook-signature: v1,(\S+)\r/m;
	my $key = $event->{subject};

	$disorder++ if $event->{sequence} < ($newest{$key} // 0);
	$newest{$key} = $event->{sequence};
	my $expected = hmac_sha256_base64("$id.$at.$_->{body}", 'secret of the test');
	$expected .= '=' while length($expected) % 4;
	$unsigned++ if $id ne $event->{id} || $signature ne $expected;
}
is($disorder, 0, 'in order for each key');
is($unsigned, 0, 'each with its id and a signature');
like($got[0]{body}, qr/"data":\{"amount": 99\.50\}\}$/, 'numbers as they were written');
like($got[0]{head}, qr{^Content-Type: application/cloudevents\+json; charset=utf-8\r$}m, 'of the right type');
like($got[0]{head}, qr{^Authorization: Bearer x\r$}m, 'with the authorization');

unlink("$dir/requests");
is(run_relay(configure_http('binary', "mode = binary\n"), "$dir/out", '--once'), 0, 'binary');
@got = requests();
is(scalar(@got), 201, 'a request per event');
my ($last) = grep { $_->{head} =~ /^ce-id: 1-201\r$/m } @got;
is($last->{body}, '{"a": "\"é"}', 'the data are the body');
like($last->{head}, qr/^ce-type: Gr%C3%B6%C3%9Fe\r$/m, 'attributes are headers, encoded');
like($last->{head}, qr/^ce-subject: k%251%20%22x%22\r$/m, 'all of it');
like($last->{head}, qr/^ce-specversion: 1\.0\r$/m, 'by the specification');

unlink("$dir/requests");
is(run_relay(configure_http('batch', "mode = batch\nbatch = 50\n"), "$dir/out", '--once'), 0, 'batch');
@got = requests();
is(join(' ', map { scalar @{ decode_json($_->{body}) } } @got), '50 50 50 50 1', 'arrays');
is(join(' ', map { $_->{id} } map { @{ decode_json($_->{body}) } } @got), join(' ', map { "1-$_" } 1 .. 201), 'in order');
like($got[0]{head}, qr{^Content-Type: application/cloudevents-batch\+json\r$}m, 'of the right type');

# ---- what it answers ----

sub good_ids { return map { $_->{id} } map { ref $_ eq 'ARRAY' ? @$_ : $_ } map { decode_json($_->{body}) } grep { $_->{good} } requests() }
sub publish { my ($type, $count) = @_; $node->safe_psql($db, "SELECT count(outbox.publish('$type', key => 'k' || i % 5)) FROM generate_series(1, $count) i"); return }
sub all_is_acked { my ($head) = @_; return $node->poll_query_until($db, "SELECT outbox.head() = $head AND lag = 0 FROM outbox.status WHERE name = 'moods'") }

unlink("$dir/requests");
my $relay = start_relay(configure_http('moods', "mode = batch\nbatch = 20\ntimeout = 1s\n"), "$dir/moods");
ok(all_is_acked(201), 'it runs');
mood('503');
publish('Order', 30);
ok(wait_for(sub { read_file("$dir/moods.err") =~ /HTTP status 503/ }), '503: is told');
sleep 3;
my @late = map { $_->{at} } grep { !$_->{good} } requests();
cmp_ok($late[1] - $late[0], '>=', 2, 'Retry-After is obeyed') if @late > 1;
mood('hang');
ok(wait_for(sub { read_file("$dir/moods.err") =~ /Timeout was reached/ }), 'no answer: is told');
mood('ok');
ok(all_is_acked(231), 'later it goes on');
mood('large');
$node->safe_psql($db, q{SELECT outbox.publish('Order', key => 'k'), outbox.publish('Large', key => 'l'), outbox.publish('Order', key => 'm'), outbox.publish('Large')});
ok(all_is_acked(235), '413: others go on');
is($node->safe_psql($db, q{SELECT position, error ~ 'HTTP status 413' FROM outbox.dead_letter ORDER BY 1}), "233|t\n235|t", 'the one is a dead letter');
mood('410');
publish('Order', 10);
ok(wait_for(sub { read_file("$dir/moods.err") =~ /HTTP status 410/ }), '410: is told');
cmp_ok($node->safe_psql($db, q{SELECT lag FROM outbox.status WHERE name = 'moods'}), '>', 0, 'and nothing is skipped');
is(stop_relay($relay, 'TERM'), 0, 'it is stopped');
kill('KILL', $web);
waitpid($web, 0);
is(run_relay("$dir/moods.conf", "$dir/check", '--check'), 0, 'a check speaks to nobody');
my %good = map { $_ => 1 } good_ids();
is(join(' ', grep { !$good{"1-$_"} } 1 .. 235), '233 235', 'nothing was lost');

write_file("$dir/wrong.conf", read_file("$dir/moods.conf") =~ s/batch$/bunch/mr . "colour = red\n");
is(run_relay("$dir/wrong.conf", "$dir/wrong"), 1, 'a wrong mode');
like(read_file("$dir/wrong.err"), qr/"mode" is one of/, 'is told');

$node->stop;
done_testing();
