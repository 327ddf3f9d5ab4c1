# Every SQL example of README.md and docs/ runs, and shows what it says; every
# link within them leads somewhere; a program is the one that the tests run.
#
# The blocks of a file are run in their order, in one session and a fresh
# database.  What counts:
#
#   ```sql         must not fail
#   ```sql error   must fail
#   ```text        right behind such a block: what psql prints for it, or for
#                  "error" the message; a line "..." stands for any lines
#   <!-- sql       hidden from readers: run like ```sql
#   -->
#
# A block right behind "<!-- file PATH -->" is that file, word for word.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use FindBin;
use lib $FindBin::RealBin;
use IPC::Run qw(run);
use OutboxServer;
use Test::More;

my $root = abs_path(dirname(__FILE__) . '/../..');
my @files = grep { -e "$root/$_" } 'README.md',
  map { s{^\Q$root\E/}{}r } sort glob("$root/docs/*.md");

check_links();
check_tests();
check_programs();

my $node = new_server('docs');
my @roles = roles();

foreach my $file (@files)
{
	my @blocks = read_blocks("$root/$file");

	next if !@blocks;
	subtest $file => sub {
		$node->safe_psql('postgres', 'CREATE DATABASE docs');
		run_blocks($file, @blocks);
		$node->safe_psql('postgres', 'DROP DATABASE docs WITH (FORCE)');

		# roles are the server's, not the database's
		foreach my $role (roles())
		{
			$node->safe_psql('postgres', qq{DROP ROLE "$role"})
			  if !grep { $_ eq $role } @roles;
		}
	};
}

$node->stop;
done_testing();

# Links to files of ours, and to headings in them.
sub check_links
{
	my @broken;

	foreach my $file (@files)
	{
		my $text = slurp("$root/$file") =~ s/^```.*?^```//gmsr;

		while ($text =~ /\]\(([^)#:\s]*)(?:#([^)\s]*))?\)/g)
		{
			my ($path, $anchor) = ($1, $2);
			my $to =
			  $path eq '' ? "$root/$file" : dirname("$root/$file") . "/$path";

			push @broken, "$file: $path"
			  if !-e $to;
			push @broken, "$file: $path#$anchor"
			  if -e $to && defined $anchor && !grep { $_ eq $anchor } anchors($to);
		}
	}
	is("@broken", '', 'links lead somewhere');
	return;
}

# The tests that stand for the guarantees.
sub check_tests
{
	my %ending = (sql => '.sql', specs => '.spec', t => '');
	my @missing;

	foreach (slurp("$root/docs/guarantees.md") =~ m{`((?:sql|specs|t)/\w+(?:\.pl)?)`}g)
	{
		my ($folder) = m{^(\w+)/};
		push @missing, $_ if !-e "$root/test/$_$ending{$folder}";
	}
	is("@missing", '', 'the tests that are named exist');
	return;
}

# The programs of test/clients are all in docs/clients.md.
sub check_programs
{
	my (%shown, @different);

	foreach my $file (@files)
	{
		my $text = slurp("$root/$file");

		while ($text =~ /^<!-- file (\S+) -->\n```\w*\n(.*?)^```$/gms)
		{
			$shown{$1} = 1;
			push @different, "$file: $1" if !-e "$root/$1" || slurp("$root/$1") ne $2;
		}
	}
	push @different, grep { !$shown{$_} }
	  map { s{^\Q$root\E/}{}r } glob("$root/test/clients/shop.sql $root/test/clients/*/{shop,Shop,pull,lease}.*"
		  . " $root/test/clients/*/shop/*.{go,cs} $root/test/clients/*/src/bin/shop.*");
	is("@different", '', 'programs are shown as they are');
	return;
}

sub anchors
{
	my $path = shift;

	return map { lc(s/[^\w -]//gr) =~ s/ /-/gr } slurp($path) =~ /^#+ +(.*?) *$/gm;
}

sub slurp
{
	my $path = shift;

	open(my $in, '<', $path) or die "could not read $path: $!\n";
	local $/;
	return <$in>;
}

sub roles
{
	return split /\n/,
	  $node->safe_psql('postgres', 'SELECT rolname FROM pg_roles ORDER BY 1');
}

# A list of {line, sql, fails, expected}.
sub read_blocks
{
	my $path = shift;
	my (@blocks, $current, $end, $last);
	my $line = 0;

	open(my $in, '<', $path) or die "could not read $path: $!\n";
	while (<$in>)
	{
		$line++;
		if (defined $current)
		{
			if ($_ =~ $end)
			{
				undef $current;
			}
			else
			{
				$$current .= $_;
			}
		}
		elsif (/^```sql( error)?\s*$/ || /^<!-- sql\s*$/)
		{
			push @blocks, { line => $line, sql => '', fails => defined $1 };
			$current = \$blocks[-1]{sql};
			$end     = /^```/ ? qr/^```\s*$/ : qr/^-->\s*$/;
			$last    = $line;
		}
		elsif (/^```text\s*$/ && defined $last)
		{
			$blocks[-1]{expected} = '';
			$current = \$blocks[-1]{expected};
			$end     = qr/^```\s*$/;
		}
		elsif (/^```(\S*)/)
		{
			my $ignored = '';

			$current = \$ignored;
			$end     = qr/^```\s*$/;
			undef $last;
		}
		elsif (/\S/)
		{
			undef $last;
		}
	}
	close $in;
	die "$path: a block is not closed\n" if defined $current;
	return @blocks;
}

# Runs them in one psql, which prints a mark before each to both its outputs.
sub run_blocks
{
	my ($file, @blocks) = @_;
	my $script = "\\set VERBOSITY default\n";
	my ($out, $err) = ('', '');

	foreach my $i (0 .. $#blocks)
	{
		$script .= "\\echo =$i=\n\\warn =$i=\n";
		$script .= "\\set ON_ERROR_STOP " . ($blocks[$i]{fails} ? 0 : 1) . "\n";
		$script .= $blocks[$i]{sql} . "\n";
	}
	$script .= "\\echo =end=\n\\warn =end=\n";

	# as a user's own psql names itself
	delete local $ENV{PGAPPNAME};
	run [
		'psql', '-X', '-q', '-h', $node->host, '-p', $node->port,
		'-d',   'docs',
		'-f',   '-'
	  ],
	  '<', \$script, '>', \$out, '2>', \$err;

	foreach my $i (0 .. $#blocks)
	{
		my $block = $blocks[$i];
		my $name  = "$file:$block->{line}";
		my $said  = between($err, $i, $#blocks);
		my $shown = between($out, $i, $#blocks);

		if (!defined $shown)
		{
			fail("$name was not reached");
			next;
		}
		if ($block->{fails})
		{
			like($said, qr/^psql:.*ERROR:/m, "$name fails");
			$shown = $said;
		}
		else
		{
			unlike($said, qr/^psql:.*(?:ERROR|FATAL|PANIC):/m, "$name runs")
			  or diag($said);
		}
		check_output($name, $shown, $block->{expected})
		  if defined $block->{expected};
	}
	return;
}

# What stands behind the mark of a block and before the next.
sub between
{
	my ($text, $i, $last) = @_;
	my $next = $i == $last ? 'end' : $i + 1;

	return if $text !~ /^=$i=$/m;
	my ($part) = $text =~ /^=$i=\n(.*?)(?:^=$next=$|\z)/ms;
	return $part;
}

sub check_output
{
	my ($name, $shown, $expected) = @_;
	my $pattern;

	foreach ($shown, $expected)
	{
		s/^psql:\S*?:\d+: //mg;
		s/[ \t]+$//mg;
		s/\n\n+/\n/g;
		s/^\n+|\n+$//g;
	}
	$pattern = join "\n",
	  map { $_ eq '...' ? '.*?' : quotemeta } split /\n/, $expected;
	ok($shown =~ /\A$pattern\z/s, "$name shows what it says")
	  or diag("shown:\n$shown\nexpected:\n$expected");
	return;
}
