# docs/postgres_exporter.yaml exports every metric of outbox.metrics, with its
# name, labels and value, read by a role that has what the docs grant it.
use strict;
use warnings;

use Cwd qw(abs_path);
use FindBin;
use HTTP::Tiny;
use IO::Socket::INET;
use lib $FindBin::RealBin;
use OutboxServer;
use POSIX ();
use Test::More;

my $exporter = (grep { -x $_ }
	map { ("$_/prometheus-postgres-exporter", "$_/postgres_exporter") } split(/:/, $ENV{PATH}), '/usr/bin')[0];
plan skip_all => 'there is no postgres_exporter' if !$exporter;

my $node = new_server('exported');
install_orders($node, 'postgres');
$node->safe_psql('postgres', q{
	CREATE ROLE watchman LOGIN;
	GRANT SELECT ON outbox.metrics TO watchman;
	GRANT EXECUTE ON FUNCTION outbox.worker_slots TO watchman;
	CREATE FUNCTION fails(event jsonb) RETURNS void LANGUAGE sql AS 'SELECT 1/0';
	SELECT outbox.subscribe('quick "one"', '{orders.*}', 'quick_handler');
	SELECT outbox.subscribe('fails', '{orders.*}', 'fails', max_attempts => 1);
	SELECT outbox.subscribe('paused', '{orders.*}', 'quick_handler');
	SELECT outbox.pause('paused')});
insert_orders($node, 'postgres', 10);
is($node->safe_psql('postgres', 'SELECT outbox.wait()'), 't', 'events are handled');

my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'tcp', Listen => 1)
  or die "no port: $!";
my $port = $socket->sockport;
close($socket);

my $pid = fork // die "could not fork: $!";
if ($pid == 0)
{
	$ENV{DATA_SOURCE_NAME} =
	  sprintf('host=%s port=%d user=watchman dbname=postgres sslmode=disable', $node->host, $node->port);
	open(STDOUT, '>', $node->basedir . '/exporter.log');
	open(STDERR, '>&', \*STDOUT);
	exec($exporter, '--extend.query-path=' . abs_path("$FindBin::RealBin/../../docs/postgres_exporter.yaml"),
		'--disable-default-metrics', '--disable-settings-metrics', '--no-collector.database', '--no-collector.bgwriter',
		"--web.listen-address=127.0.0.1:$port")
	  or POSIX::_exit(1);
}
END { my $status = $?; kill('TERM', $pid) if $pid; $? = $status; }

my $page;
foreach (1 .. 600)
{
	$page = HTTP::Tiny->new(timeout => 30)->get("http://127.0.0.1:$port/metrics");
	last if $page->{success} && $page->{content} =~ /^outbox_/m;
	last if waitpid($pid, POSIX::WNOHANG) != 0;
	select(undef, undef, undef, 0.1);
}
ok($page->{success}, 'the exporter answers') or diag($page->{content});

# name{labels in order} => value; the labels that the exporter adds left out
my (%exported, %type);
foreach (split /\n/, $page->{content})
{
	$type{$1} = $2 if /^# TYPE (outbox_\w+) (\w+)/;
	next if !/^(outbox_\w+)\{(.*)\} (\S+)$/;
	my ($name, $labels, $value) = ($1, $2, $3);
	my %label = $labels =~ /(\w+)="((?:[^"\\]|\\.)*)"/g;

	is($label{datname}, 'postgres', "$name names the database") if !$type{"$name seen"}++;
	# what there is not
	next if $value eq 'NaN';
	$exported{ $name . join(',', map { "$_=$label{$_}" } grep { !/^(?:datname|server)$/ } sort keys %label) } = $value + 0;
}
delete @type{ grep { / seen$/ } keys %type };

my %expected = map { split /\|/ } split /\n/, $node->safe_psql('postgres', q{
	SELECT name || coalesce((SELECT string_agg(key || '=' || replace(value, '"', '\"'), ',' ORDER BY key) FROM jsonb_each_text(labels)), ''), value
	FROM outbox.metrics});
is(join("\n", sort keys %exported), join("\n", sort keys %expected), 'every metric is exported');

my @moving = grep { /_seconds|worker_processes|_size_bytes|_segments|scheduled_events/ } keys %expected;
delete @exported{@moving};
delete @expected{@moving};
is_deeply(\%exported, \%expected, 'with its value') or diag(explain(\%exported));
is_deeply(
	[ sort grep { $type{$_} eq 'counter' } keys %type ],
	[ sort grep { /_total$/ } keys %type ],
	'what ends in _total is a counter');

kill('TERM', $pid);
waitpid($pid, 0);
undef $pid;
$node->stop;
done_testing();
