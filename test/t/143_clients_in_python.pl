# docs/clients.md in Python: psycopg and asyncpg; and the program of README.md.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxClients;
use OutboxServer;
use Test::More;

test_clients(
	\&test_readme,
	map { $_ => sub { "postgresql://shop\@127.0.0.1:$_[0]/$_[1]" } } qw(psycopg asyncpg));

sub test_readme
{
	my ($node) = @_;

	return if defined missing('psycopg');
	shop_database('shop');
	$node->safe_psql('shop', q{
		SELECT count(outbox.publish('OrderPlaced', '{}', key => n::text)) FROM generate_series(1, 250) n});

	my $pull = sub {
		local @ENV{qw(PGHOST PGPORT PGUSER)} = ($node->host, $node->port, 'shop');
		return start('psycopg', '', 'pull');
	};
	my $program = $pull->();
	wait_until($node, 'shop', q{SELECT count(*) > 20 FROM shipment}, 'the program of README.md pulls');
	stop($program);
	$program = $pull->();
	wait_until($node, 'shop', q{SELECT lag = 0 FROM outbox.status WHERE name = 'shipping'}, 'to the end')
	  || diag($program->{output}->());
	stop($program);
	is($node->safe_psql('shop', q{SELECT count(*), count(DISTINCT order_id) FROM shipment}), '250|250',
		'each order once, though the program was killed');
	return;
}
