# Where PostgreSQL's pg_config or PGXS is missing, every goal that needs them
# fails and says so; those that install what they need are not stopped by it.
use strict;
use warnings;

use Cwd qw(abs_path);
use FindBin;
use Test::More;

my $root = abs_path("$FindBin::RealBin/../..");
my $make = (grep { -x $_ } map { "$_/make" } split(/:/, $ENV{PATH}))[0];
plan skip_all => 'there is no make' if !$make;

# Make's exit code and what it says.
sub make
{
	my ($environment, @arguments) = @_;
	local %ENV = (%ENV, %$environment);
	delete @ENV{ grep { /^(?:PG_CONFIG|MAKEFLAGS|MAKELEVEL|MFLAGS)$/ && !exists $environment->{$_} } keys %ENV };
	my $pid = open(my $out, '-|') // die "could not fork: $!";

	if ($pid == 0)
	{
		open(STDERR, '>&', \*STDOUT);
		exec($make, '-C', $root, '-n', @arguments) or die;
	}
	local $/;
	my $said = <$out>;
	close($out);
	return ($? >> 8, $said);
}

foreach my $goal ([], ['all'], ['install'], ['installcheck'], ['clean'], ['check', 'all'])
{
	my ($code, $said) = make({}, 'PG_CONFIG=/nonexistent/pg_config', @$goal);

	isnt($code, 0, "make @$goal fails without pg_config");
	like($said, qr{"/nonexistent/pg_config" is missing or cannot be run.*postgresql-server-dev}s, 'and says so');
	unlike($said, qr{No such file|not found}, 'in words of its own');
}

# it may be named by the environment, or not be in the path
my ($code, $said) = make({ PG_CONFIG => '/nonexistent/pg_config' });
isnt($code, 0, 'make fails without the pg_config of the environment');
my $bare = "$FindBin::RealBin/none";
($code, $said) = make({ PATH => $bare, SHELL => '/bin/sh' });
isnt($code, 0, 'make fails without a pg_config in the path');
like($said, qr/"pg_config" is missing/, 'and says so');

# one that names what is not there
($code, $said) = make({}, 'PG_CONFIG=echo /nonexistent/pgxs.mk #');
isnt($code, 0, 'make fails without PGXS');
like($said, qr{makefile "/nonexistent/pgxs.mk", named by .*, is missing}, 'and says so');

# on a bare machine, these install it
foreach my $goal (qw(check lint indent demo bench))
{
	($code, $said) = make({}, 'PG_CONFIG=/nonexistent/pg_config', $goal);
	is($code, 0, "make $goal is not stopped by it");
}

done_testing();
