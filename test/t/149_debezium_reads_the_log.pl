# docs/debezium.md: a reader of the WAL, with the publication and the options
# that stand there, gets each committed event once and nothing else, as a row of
# outbox.event, while partitions come and go.
use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use FindBin;
use lib $FindBin::RealBin;
use IPC::Run;
use OutboxServer;
use Test::More;
use Time::HiRes qw(sleep);

my $root = abs_path(dirname(__FILE__) . '/../..');
my $docs = slurp("$root/docs/debezium.md");
my ($recipe) = $docs =~ /^```sql\n(.*?)^```/ms;
my %option = map { /^([^=]+)=(.*)$/ } split /\n/, ($docs =~ /^```properties\n(.*?)^```/ms)[0];

my $node = new_server('decoded', conf => [
	'wal_level = logical', 'max_wal_senders = 5', 'max_replication_slots = 5',
	'outbox.partition_interval = 1s', 'outbox.retention = 1s' ]);
$node->safe_psql('postgres', $recipe);
$node->safe_psql('postgres', "SELECT pg_create_logical_replication_slot('$option{'slot.name'}', '$option{'plugin.name'}')");

# the consumer
my $stream = $node->basedir . '/stream';
my $reader = IPC::Run::start([
		'pg_recvlogical', '-h', $node->host, '-p', $node->port, '-U', 'debezium', '-d', 'postgres',
		'-S', $option{'slot.name'}, '-o', 'proto_version=1', '-o', "publication_names=$option{'publication.name'}",
		'-F', '0', '-f', $stream, '--start' ],
	'>', '/dev/null', '2>', $node->basedir . '/recvlogical.err');

# events of all kinds, also of transactions that come to nothing; what was seen
# of the log is kept, since retention drops it meanwhile
$node->safe_psql('postgres', q{
	CREATE TABLE seen AS SELECT * FROM outbox.event;
	CREATE TABLE item (id integer PRIMARY KEY, a text);
	SELECT outbox.capture('item');
});
for my $round (1 .. 4)
{
	$node->safe_psql('postgres', qq{
		INSERT INTO item SELECT n, repeat('long', 2000) FROM generate_series($round * 100, $round * 100 + 9) n;
		UPDATE item SET a = E'new\\nline' WHERE id >= $round * 100;
		BEGIN;
		SELECT outbox.publish('Kept', '{"a": ["\xc3\xa9", {"b": null}]}', key => '$round', headers => '{"tenant": "t"}');
		SAVEPOINT s;
		SELECT outbox.publish('Lost');
		ROLLBACK TO s;
		SELECT outbox.publish('Kept', source => 'shop');
		COMMIT;
		BEGIN;
		SELECT outbox.publish('Lost');
		INSERT INTO item VALUES (0);
		ROLLBACK;
		SELECT count(outbox.publish('Many', key => 'k' || n)) FROM generate_series(1, 100) n;
		INSERT INTO seen SELECT * FROM outbox.event e WHERE NOT EXISTS (SELECT FROM seen s WHERE s.id = e.id);
	});
	$node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM outbox.event WHERE time > now() - interval '1 second'}, 'f');
}
# on a slow machine, of all events
wait_until($node, 'postgres', q{SELECT coalesce(outbox.oldest(), outbox.head() + 1) > 100}, 'retention drops partitions meanwhile');
my $end = $node->safe_psql('postgres', 'SELECT pg_current_wal_lsn()');
wait_until($node, 'postgres',
	"SELECT confirmed_flush_lsn >= '$end' FROM pg_replication_slots WHERE slot_name = '$option{'slot.name'}'",
	'the consumer has read all');
$reader->signal('INT');
$reader->finish;

my ($tables, @rows) = decode(slurp($stream));
is(join(' ', sort keys %$tables), $option{'table.include.list'}, 'the only table with rows is the one that the connector includes');
is(join("\n", map { "$_->{id} $_->{type}" } @rows),
	$node->safe_psql('postgres', q{SELECT id || ' ' || type FROM seen ORDER BY id}),
	'each committed event once, and no other');

# what the router makes of them
my %field = map { /^transforms\.outbox\.table\.field\.event\.(\w+)$/ ? ($1 => $option{$_}) : () } keys %option;
my @additional = map { (split /:/)[0] } split /,/, $option{'transforms.outbox.table.fields.additional.placement'};
my $route = $option{'transforms.outbox.route.by.field'};
is(join(' ', grep { !exists $rows[0]{$_} } values %field, @additional, $route), '', 'the options name columns');
my $topic = $option{'transforms.outbox.route.topic.replacement'};
my $message = sub {
	my ($row) = @_;
	return join('|', $topic =~ s/\$\{routedByValue\}/$row->{$route}/r, map { $_ // '' } @{$row}{ @field{qw(key payload)}, @additional });
};
is( join("\n", map { $message->($_) } grep { $_->{type} ne 'Many' } @rows),
	$node->safe_psql('postgres', q{
		SELECT concat_ws('|', 'outbox.event.' || source, coalesce(key, ''), data, type, time, correlation_id, headers)
		FROM seen WHERE type <> 'Many' ORDER BY id}),
	'a message has topic, key, data and headers of its event');
is( $node->safe_psql('postgres', q{
		SELECT count(*) FROM pg_publication_tables WHERE pubname = 'outbox' AND (schemaname, tablename) = ('outbox', 'event')}),
	'1', 'the publication is of the log as a whole');
$node->stop;
done_testing();

sub slurp
{
	my $path = shift;

	open(my $in, '<:raw', $path) or die "could not read $path: $!\n";
	local $/;
	return <$in> // '';
}

# What pgoutput has sent: the relations that have rows, and the inserted rows.
# It describes a row's partition as well.  pg_recvlogical puts a line's end
# behind each message.
sub decode
{
	my ($bytes) = @_;
	my (%relation, %named, @found);
	my $at = 0;
	my $take = sub { my $n = shift; my $part = substr($bytes, $at, $n); $at += $n; return $part; };
	my $number = sub { return unpack('N', $take->(4)) };
	my $string = sub { my $to = index($bytes, "\0", $at); my $s = $take->($to - $at); $at++; return $s; };

	while ($at < length $bytes)
	{
		my $kind = $take->(1);
		if ($kind eq 'B') { $take->(8 + 8 + 4); }
		elsif ($kind eq 'C') { $take->(1 + 8 + 8 + 8); }
		elsif ($kind eq 'Y') { $take->(4); $string->(); $string->(); }
		elsif ($kind eq 'R')
		{
			my $id = $number->();
			my $name = join('.', $string->(), $string->());
			$take->(1);
			my @columns;
			for (1 .. unpack('n', $take->(2)))
			{
				$take->(1);
				push @columns, $string->();
				$take->(8);
			}
			$relation{$id} = { name => $name, columns => \@columns };
		}
		elsif ($kind eq 'I')
		{
			my $relation = $relation{ $number->() };
			my %row;
			$named{ $relation->{name} } = 1;
			$take->(1);
			my $count = unpack('n', $take->(2));
			for my $i (0 .. $count - 1)
			{
				my $form = $take->(1);
				$row{ $relation->{columns}[$i] } = $form eq 't' ? $take->($number->()) : undef;
			}
			push @found, \%row;
		}
		else
		{
			die "unexpected message '$kind' at byte $at";
		}
		$take->(1) eq "\n" or die "a message does not end at byte $at";
	}
	return (\%named, @found);
}
