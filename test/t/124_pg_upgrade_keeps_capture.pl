# What was captured before pg_upgrade is captured afterwards, with and without
# --link: also of tables below, whose triggers no dump has.
use strict;
use warnings;

use File::Temp;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;

use OutboxServer;

sub upgrade
{
	my ($mode, @options) = @_;
	my $old = new_server("old_$mode");

	$old->safe_psql('postgres', q{
		CREATE EXTENSION pg_outbox;
		CREATE TABLE doc (id integer PRIMARY KEY, note text);
		CREATE TABLE invoice (total integer) INHERITS (doc);
		CREATE TABLE paid (at date) INHERITS (invoice);
		CREATE TABLE invoice2 () INHERITS (doc);
		SELECT outbox.capture('doc', key => '{id}', replicated => true);
		SELECT outbox.capture('doc', key => '{id}', operations => '{insert}', type => 'Noted', condition => 'new.note IS NOT NULL');
		CREATE TABLE part (id integer, day integer, PRIMARY KEY (id, day)) PARTITION BY LIST (day);
		CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
		CREATE TABLE part_2 PARTITION OF part FOR VALUES IN (2) PARTITION BY LIST (id);
		CREATE TABLE part_21 PARTITION OF part_2 FOR VALUES IN (1);
		SELECT outbox.capture('part');
		INSERT INTO paid VALUES (1, 'before', 5, '2020-01-01');
		TRUNCATE part_1;
		SELECT outbox.wait()});
	my $before = $old->safe_psql('postgres', 'SELECT * FROM outbox.capture_rule ORDER BY 1, 2');
	my $head = $old->safe_psql('postgres', 'SELECT outbox.head()');
	is($head, '3', "$mode: events before");
	$old->stop;

	my $new = new_server("new_$mode", stopped => 1);
	my $directory = File::Temp->newdir();
	chomp(my $bin = `pg_config --bindir`);
	# where it writes scripts and logs
	chdir $directory->dirname or die $!;
	my $upgraded = $old->command_ok([ "$bin/pg_upgrade", '-b', $bin, '-B', $bin, '-d', $old->data_dir,
			'-D', $new->data_dir, '-s', $old->host, '-p', $old->port, '-P', $new->port, @options ], "$mode: pg_upgrade");
	chdir '/' or die $!;

	$new->start;
	wait_until($new, 'postgres', 'SELECT bool_and(enabled) AND count(*) = 3 FROM outbox.capture_rule',
		"$mode: all triggers are there again");
	is($new->safe_psql('postgres', 'SELECT * FROM outbox.capture_rule ORDER BY 1, 2'), $before, "$mode: the rules are the same");
	$new->safe_psql('postgres', q{
		INSERT INTO invoice VALUES (2, 'after', 5);
		UPDATE invoice SET total = 6, note = NULL WHERE id = 2;
		DELETE FROM invoice WHERE id = 2;
		INSERT INTO paid (id) VALUES (3);
		INSERT INTO invoice2 (id) VALUES (4);
		INSERT INTO part VALUES (1, 1), (1, 2);
		TRUNCATE part_1;
		TRUNCATE part_21;
		TRUNCATE invoice;
		TRUNCATE doc, part;
		SELECT outbox.wait()});
	is($new->safe_psql('postgres', qq{
			SELECT concat_ws(' ', type, key, headers ->> 'partition') FROM outbox.read($head) ORDER BY position}),
		join("\n",
			'Noted 2 public.invoice',
			'doc.inserted 2 public.invoice',
			'doc.updated 2 public.invoice',
			'doc.deleted 2 public.invoice',
			'doc.inserted 3 public.paid',
			'doc.inserted 4 public.invoice2',
			'part.inserted 1,1 public.part_1',
			'part.inserted 1,2 public.part_21',
			'part.truncated public.part_1',
			'part.truncated public.part_21',
			'doc.truncated public.invoice',
			'doc.truncated public.paid',
			'doc.truncated',
			'part.truncated'), "$mode: what is captured, once");
	$new->stop;
	return;
}

upgrade('copy');
upgrade('link', '--link');

# somebody who works on a table is not waited for, nor waits; later it is mended
subtest 'tables that are locked are given their rules later' => sub
{
	my $node = new_server('locked');

	# the sequencer has looked once before its second round begins
	$node->safe_psql('postgres', 'CREATE EXTENSION pg_outbox');
	$node->safe_psql('postgres', "SELECT outbox.publish('Round'); SELECT outbox.wait(timeout => '1 minute')") for 1 .. 2;
	$node->safe_psql('postgres', q{
		CREATE TABLE base (id integer PRIMARY KEY);
		CREATE TABLE child () INHERITS (base);
		CREATE TABLE other () INHERITS (base);
		SELECT outbox.capture('base', key => '{id}');
		-- as after pg_upgrade
		ALTER EVENT TRIGGER outbox_capture_follow_ddl DISABLE;
		ALTER TABLE child NO INHERIT base;
		ALTER TABLE other NO INHERIT base;
		ALTER EVENT TRIGGER outbox_capture_follow_ddl ENABLE ALWAYS;
		ALTER TABLE child ADD COLUMN a integer;
		ALTER TABLE other ADD COLUMN a integer;
		ALTER EVENT TRIGGER outbox_capture_follow_ddl DISABLE;
		ALTER TABLE child INHERIT base;
		ALTER TABLE other INHERIT base;
		ALTER EVENT TRIGGER outbox_capture_follow_ddl ENABLE ALWAYS});
	is($node->safe_psql('postgres', 'SELECT enabled FROM outbox.capture_rule'), 'f', 'rules are missing');
	# a lock that survives the restart
	$node->safe_psql('postgres', q{
		BEGIN; LOCK TABLE child IN ROW EXCLUSIVE MODE; PREPARE TRANSACTION 'at work'});
	$node->restart;
	wait_until($node, 'postgres', q{SELECT count(*) = 2 FROM pg_trigger WHERE tgrelid = 'other'::regclass}, 'one table');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_trigger WHERE tgrelid = 'child'::regclass}), '0', 'not the other');
	$node->safe_psql('postgres', q{INSERT INTO other VALUES (1)});
	is($node->safe_psql('postgres', "SELECT outbox.wait(timeout => '1 minute'), outbox.head()"), 't|3', 'events get positions meanwhile');
	$node->safe_psql('postgres', q{COMMIT PREPARED 'at work'});
	wait_until($node, 'postgres', 'SELECT enabled FROM outbox.capture_rule', 'then the other as well');
	$node->stop;
};

done_testing();
