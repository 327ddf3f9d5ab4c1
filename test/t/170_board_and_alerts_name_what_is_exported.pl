# docs/alerts.yaml and docs/grafana.json name only metrics and labels that the
# exporters export; promtool accepts every rule and query, and each alert fires
# when it should and is silent otherwise.  t/072_postgres_exporter.pl shows that
# docs/sql_exporter.yml, which is read here, has all that there is.
use strict;
use warnings;

use Cwd qw(abs_path);
use File::Temp qw(tempdir);
use FindBin;
use JSON::PP;
use Test::More;

my $docs = abs_path("$FindBin::RealBin/../../docs");
my $dir  = tempdir(CLEANUP => 1);
my ($promtool) = grep { -x $_ } map { "$_/promtool" } split(/:/, $ENV{PATH}), '/usr/bin';

my %labels = exported();
my %rule   = rules();
my @board  = board();

foreach (sort keys %rule)
{
	check_names("alert $_", $rule{$_});
}
check_names("panel \"$_->[0]\"", $_->[1]) foreach @board;

my $shown = join(' ', map { $_->[1] } @board);
is(join(' ', grep { $shown !~ /\b$_\b/ } sort keys %labels), '', 'the board shows every metric');

SKIP:
{
	skip 'there is no promtool', 1 if !$promtool;
	promtool_accepts('check', 'rules', "$docs/alerts.yaml");
	write_file("$dir/board.yaml", board_as_rules());
	promtool_accepts('check', 'rules', "$dir/board.yaml");
	write_file("$dir/test.yaml", alert_tests());
	promtool_accepts('test', 'rules', "$dir/test.yaml");
}
done_testing();

sub slurp
{
	my $path = shift;

	open(my $in, '<', $path) or die "could not read $path: $!\n";
	local $/;
	return <$in>;
}

sub write_file
{
	my ($path, $text) = @_;

	open(my $out, '>', $path) or die "could not write $path: $!\n";
	print $out $text;
	close($out) or die "could not write $path: $!\n";
	return;
}

sub promtool_accepts
{
	my $said = `"$promtool" @_ 2>&1`;

	is($?, 0, "promtool @_[0, 1]: " . ($_[2] =~ s{.*/}{}r)) or diag($said);
	return;
}

# metric => {label => 1}, with what Prometheus adds
sub exported
{
	my (%labels, $name);

	foreach (split /\n/, slurp("$docs/sql_exporter.yml"))
	{
		$name = $1 if /^ +- metric_name: (\w+)$/;
		$labels{$name} = { map { $_ => 1 } split(/, /, $1), 'instance', 'job' }
		  if defined $name && /^ +key_labels: \[(.*)\]$/;
	}
	cmp_ok(scalar keys %labels, '>', 15, 'the exported metrics are found');
	return %labels;
}

# alert => expression; each rule is on lines of its own
sub rules
{
	my (%rule, $name);

	foreach (split /\n/, slurp("$docs/alerts.yaml"))
	{
		$name = $1 if /^ +- alert: (\w+)$/;
		$rule{$name} = $1 if defined $name && /^ +expr: (.+)$/;
	}
	cmp_ok(scalar keys %rule, '>', 5, 'the rules are found');
	return %rule;
}

# pairs of a title and an expression
sub board
{
	my $board = decode_json(slurp("$docs/grafana.json"));
	my (@found, %id);

	foreach my $variable (grep { $_->{type} eq 'query' } @{ $board->{templating}{list} })
	{
		my ($metric, $label) = $variable->{query} =~ /^label_values\((.*), (\w+)\)$/;

		push @found, [ "variable $variable->{name}", "count by ($label) ($metric)" ];
	}
	foreach my $panel (@{ $board->{panels} })
	{
		ok(!$id{ $panel->{id} }++, "panel $panel->{id} is there once");
		push @found, map { [ $panel->{title}, $_->{expr} ] } @{ $panel->{targets} // [] };
	}
	cmp_ok(scalar @found, '>', 20, 'the queries are found');
	return @found;
}

sub check_names
{
	my ($where, $expression) = @_;
	my @wrong;

	while ($expression =~ /\b(outbox_\w+)(?:\{([^}]*)\})?/g)
	{
		my ($metric, $matchers) = ($1, $2 // '');

		push @wrong, $metric if !$labels{$metric};
		push @wrong, map { "$metric\{$_}" } grep { !$labels{$metric}{$_} } $matchers =~ /(\w+) *(?:=~|=|!=|!~) *"/g;
	}
	is("@wrong", '', "$where names what is exported");
	return;
}

# The queries of the board as recording rules, with its variables replaced.
sub board_as_rules
{
	my $text   = "groups:\n  - name: board\n    rules:\n";
	my $number = 0;

	foreach (@board)
	{
		my $expression = $_->[1] =~ s/\$__rate_interval/5m/gr =~ s/\$(?:datname|subscription)\b/.*/gr;

		$number++;
		$text .= "      - record: board:query$number\n        expr: '" . ($expression =~ s/'/''/gr) . "'\n";
	}
	return $text;
}

# What makes each alert fire, in a database "bad" beside one that is well.
sub alert_tests
{
	my $bad   = 'datname="bad"';
	my %fires = (
		OutboxSubscriptionStopped => [ [ "outbox_subscription_state{$bad,subscription=\"s\",state=\"broken\"}", '1x90' ] ],
		OutboxSubscriptionLate    => [ [ "outbox_subscription_oldest_pending_seconds{$bad,subscription=\"s\"}", '100+60x90' ] ],
		OutboxSubscriptionWithoutWorker => [ [ "outbox_subscription_without_worker{$bad,subscription=\"s\"}", '1x90' ] ],
		OutboxDeadLetters => [ [ "outbox_subscription_dead_events{$bad,subscription=\"s\"}", '0x85 1 2 3 4 5' ] ],
		OutboxRetriesContinue => [ [ "outbox_subscription_retrying_events{$bad,subscription=\"s\"}", '1x90' ] ],
		OutboxScheduleOverdue => [ [ "outbox_scheduled_overdue_seconds{$bad}", '61+60x90' ] ],
		OutboxNoSequencer     => [ [ "outbox_log_head_position{$bad}", '7x90' ] ],
		OutboxWorkersMissing  => [ [ "outbox_worker_processes{$bad,role=\"dispatcher\",state=\"starved\"}", '1x90' ] ],
		OutboxPartitionCannotBeDropped => [ [ "outbox_log_undroppable_partitions{$bad}", '1x90' ] ],
		OutboxMetricsMissing           => []);
	my $good = 'datname="good"';
	my @well = (
		[ "outbox_subscription_state{$good,subscription=\"s\",state=\"active\"}", '1x90' ],
		[ "outbox_subscription_state{$good,subscription=\"s\",state=\"broken\"}", '0x90' ],
		[ "outbox_subscription_oldest_pending_seconds{$good,subscription=\"s\"}", '3x90' ],
		[ "outbox_subscription_without_worker{$good,subscription=\"s\"}",         '0x90' ],
		[ "outbox_subscription_dead_events{$good,subscription=\"s\"}",            '9x40 3x50' ],
		[ "outbox_subscription_retrying_events{$good,subscription=\"s\"}",        '5x80 0 5 5 5 5 5 5 5 5 5' ],
		[ "outbox_scheduled_overdue_seconds{$good}",                              '0x90' ],
		[ "outbox_log_head_position{$good}",                                      '1+1x90' ],
		[ "outbox_worker_processes{$good,role=\"sequencer\",state=\"idle\"}",     '1x90' ],
		[ "outbox_worker_processes{$good,role=\"dispatcher\",state=\"busy\"}",    '4x90' ],
		[ "outbox_log_undroppable_partitions{$good}",                             '0x90' ]);
	my $text = "rule_files: ['$docs/alerts.yaml']\nevaluation_interval: 1m\ntests:\n";

	is(join(' ', sort keys %fires), join(' ', sort keys %rule), 'every alert is tried');
	foreach my $alert (sort keys %fires)
	{
		my @series = @{ $fires{$alert} };

		# an alert on metrics that are missing has none beside it
		$text .= series(@series ? (@series, @well) : ());
		$text .= "    promql_expr_test:\n";
		$text .= expects("ALERTS{alertname=\"$alert\",alertstate=\"firing\"}", 1);
		$text .= series(@well) . "    promql_expr_test:\n";
		$text .= expects("ALERTS{alertname=\"$alert\",alertstate=\"firing\"}", 0);
	}
	return $text;
}

# One test of promtool begins: its input.
sub series
{
	my $text = "  - interval: 1m\n    input_series:" . (@_ ? "\n" : " []\n");

	$text .= "      - series: '$_->[0]'\n        values: '$_->[1]'\n" foreach @_;
	return $text;
}

# After 90 minutes the query counts so many.
sub expects
{
	my ($query, $count) = @_;

	return "      - expr: 'count($query) or vector(0)'\n        eval_time: 90m\n"
	  . "        exp_samples:\n          - labels: '{}'\n            value: $count\n";
}
