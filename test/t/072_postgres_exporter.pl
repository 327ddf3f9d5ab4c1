# docs/sql_exporter.yml and docs/postgres_exporter.yaml export every metric of
# outbox.metrics, with its name, labels and value, read by a role that has what
# the docs grant it.  Of sql_exporter, which no package has, the queries are run
# here as it would.
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

my $docs = abs_path("$FindBin::RealBin/../../docs");
my $pid;
END { my $status = $?; kill('TERM', $pid) if $pid; $? = $status; }

sub free_port
{
	my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'tcp', Listen => 1)
	  or die "no port: $!";

	return $socket->sockport;
}

# The page of postgres_exporter.
sub scrape
{
	my $port = free_port();
	# each version has other collectors of its own
	my @without = map { "--no-$_" } `$exporter --help 2>&1` =~ /--(?:\[no-\])?(collector\.\w+)(?=\s)/g;
	my $page;

	$pid = fork // die "could not fork: $!";
	if ($pid == 0)
	{
		$ENV{DATA_SOURCE_NAME} =
		  sprintf('host=%s port=%d user=watchman dbname=postgres sslmode=disable', $node->host, $node->port);
		open(STDOUT, '>', $node->basedir . '/exporter.log');
		open(STDERR, '>&', \*STDOUT);
		exec($exporter, "--extend.query-path=$docs/postgres_exporter.yaml",
			'--disable-default-metrics', '--disable-settings-metrics', @without,
			"--web.listen-address=127.0.0.1:$port")
		  or POSIX::_exit(1);
	}
	foreach (1 .. 600)
	{
		$page = HTTP::Tiny->new(timeout => 30)->get("http://127.0.0.1:$port/metrics");
		last if $page->{success} && $page->{content} =~ /^outbox_/m;
		last if waitpid($pid, POSIX::WNOHANG) != 0;
		select(undef, undef, undef, 0.1);
	}
	kill('TERM', $pid);
	waitpid($pid, 0);
	undef $pid;
	ok($page->{success}, 'the exporter answers') or diag($page->{content});
	return $page->{content};
}

# What sql_exporter would make of its configuration: a page.
sub evaluate
{
	my (%query, @metrics, $query);

	open(my $in, '<', "$docs/sql_exporter.yml") or die "could not read sql_exporter.yml: $!";
	while (<$in>)
	{
		next if /^\s*#/;
		if (/^      - query_name: (\w+)$/) { $query = $1; }
		elsif (/^      - metric_name: (\w+)$/) { push @metrics, { name => $1 }; }
		elsif (/^          (.*)$/) { $query{$query} .= "$1\n"; }
		elsif (/^        (type|query_ref): (\w+)$/ && @metrics) { $metrics[-1]{$1} = $2; }
		elsif (/^        (help): "([^"]+)"$/) { $metrics[-1]{$1} = $2; }
		elsif (/^        (key_labels|values): \[([\w, ]+)\]$/) { $metrics[-1]{$1} = [ split(/, /, $2) ]; }
		elsif (/^    metrics:$/) { undef $query; }
		elsif (/^      / && !/^        query: \|$/) { fail("sql_exporter.yml, line $.: $_"); }
	}
	close($in);

	my $page = '';
	my %used;
	foreach my $metric (@metrics)
	{
		ok($metric->{help}, "sql_exporter: $metric->{name} has a help");
		is("@{ $metric->{values} }", $metric->{name}, "sql_exporter: $metric->{name} is a column");
		$used{ $metric->{query_ref} }++;
		my ($name, $sql) = ($metric->{name}, $query{ $metric->{query_ref} });
		my $labels = join(q( || ',' || ),
			map { sprintf(q('%s="' || replace("%s", '"', '\"') || '"'), $_, $_) } @{ $metric->{key_labels} });
		my $rows = $node->safe_psql('postgres',
			"SET SESSION AUTHORIZATION watchman; SELECT '$name' || '{' || $labels || '} ' || $name FROM ($sql) q");
		my $empty = $node->safe_psql('postgres',
			"SELECT count(*) FROM ($sql) q WHERE $name IS NULL");
		is($empty, 0, "sql_exporter: $name is never NULL");
		$page .= "# TYPE $metric->{name} $metric->{type}\n$rows\n";
	}
	is(join(' ', sort keys %used), join(' ', sort keys %query), 'sql_exporter: every query is used');
	return $page;
}

sub check_exporter
{
	my ($name, $page) = @_;

	# name{labels in order} => value; the labels that the exporter adds left out
	my (%exported, %type, %seen);
	foreach (split /\n/, $page)
	{
		$type{$1} = $2 if /^# TYPE (outbox_\w+) (\w+)/;
		next if !/^(outbox_\w+)\{(.*)\} (\S+)$/;
		my ($metric, $labels, $value) = ($1, $2, $3);
		my %label = $labels =~ /(\w+)="((?:[^"\\]|\\.)*)"/g;

		is($label{datname}, 'postgres', "$name: $metric names the database") if !$seen{$metric}++;
		# what there is not
		next if $value eq 'NaN';
		$exported{ $metric . join(',', map { "$_=$label{$_}" } grep { !/^(?:datname|server)$/ } sort keys %label) } = $value + 0;
	}

	my %expected = map { split /\|/ } split /\n/, $node->safe_psql('postgres', q{
		SELECT name || coalesce((SELECT string_agg(key || '=' || replace(value, '"', '\"'), ',' ORDER BY key) FROM jsonb_each_text(labels)), ''), value
		FROM outbox.metrics});
	is(join("\n", sort keys %exported), join("\n", sort keys %expected), "$name: every metric is exported");

	my @moving = grep { /_seconds|worker_processes|_size_bytes|_segments|scheduled_events/ } keys %expected;
	delete @exported{@moving};
	delete @expected{@moving};
	is_deeply(\%exported, \%expected, "$name: with its value") or diag(explain(\%exported));
	is_deeply(
		[ sort grep { $type{$_} eq 'counter' } keys %type ],
		[ sort grep { /_total$/ } keys %type ],
		"$name: what ends in _total is a counter");
	return;
}

check_exporter('sql_exporter', evaluate());
SKIP:
{
	skip 'there is no postgres_exporter', 1 if !$exporter;
	check_exporter('postgres_exporter', scrape());
}

$node->stop;
done_testing();
