# The clock of the server is a year ahead for a while, and is set back: nothing
# waits for that year.  And it jumps ahead while a handler runs: that takes no
# time away from it.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

use constant YEAR => 365 * 86400;

# ---- a server whose clock can be set: its library calls find an offset in a file ----

my $node = new_server('clock', stopped => 1,
	conf => [ "outbox.idempotency_window = '4s'", "outbox.poll_interval = '200ms'" ]);
my $source = $node->basedir . '/clock.c';
my $library = $node->basedir . '/clock.so';
my $clock = $node->basedir . '/clock';

open my $file, '>', $source or die "$source: $!";
print $file <<'END';
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile long *offset = NULL;
static int (*real_gettime) (clockid_t, struct timespec *) = NULL;

__attribute__((constructor)) static void
attach(void)
{
	const char *path = getenv("OUTBOX_TEST_CLOCK");
	int			fd = path != NULL ? open(path, O_RDONLY) : -1;
	void	   *map = fd >= 0 ? mmap(NULL, sizeof(long), PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;

	real_gettime = dlsym(RTLD_NEXT, "clock_gettime");
	if (map != MAP_FAILED)
		offset = map;
}

int
clock_gettime(clockid_t id, struct timespec *now)
{
	int			result = real_gettime(id, now);

	if (id == CLOCK_REALTIME && offset != NULL)
		now->tv_sec += *offset;
	return result;
}

int
gettimeofday(struct timeval *now, void *zone)
{
	struct timespec time;

	clock_gettime(CLOCK_REALTIME, &time);
	now->tv_sec = time.tv_sec;
	now->tv_usec = time.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *now)
{
	struct timespec time;

	clock_gettime(CLOCK_REALTIME, &time);
	if (now != NULL)
		*now = time.tv_sec;
	return time.tv_sec;
}
END
close $file;

sub set_clock
{
	my ($seconds) = @_;

	open my $handle, -e $clock ? '+<' : '>', $clock or die "$clock: $!";
	binmode $handle;
	syswrite $handle, pack('q', $seconds);
	close $handle;
	return;
}

my $compiler = $ENV{CC} || 'cc';
plan skip_all => 'needs a C compiler'
  if system("$compiler -shared -fPIC -o $library $source -ldl 2>&1") != 0;
set_clock(0);
{
	local $ENV{LD_PRELOAD} = $library;
	local $ENV{OUTBOX_TEST_CLOCK} = $clock;
	$node->start;
}

my $db = 'postgres';
$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	CREATE TABLE mood (good boolean, nap float);
	INSERT INTO mood VALUES (false, 0);
	CREATE TABLE effect (handler text, key text);
	CREATE FUNCTION moody(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF NOT (SELECT good FROM public.mood) THEN
			RAISE 'not now';
		END IF;
		PERFORM pg_sleep(nap) FROM public.mood;
		INSERT INTO public.effect VALUES (outbox.current_subscription(), e.key);
	END $$;
	CREATE FUNCTION plain(e outbox.event) RETURNS void LANGUAGE sql AS
		'INSERT INTO public.effect VALUES (outbox.current_subscription(), e.key)';
	CREATE FUNCTION gather(state jsonb, e outbox.event) RETURNS jsonb LANGUAGE sql AS
		$$ SELECT coalesce(state, '[]') || to_jsonb(e.key) $$;
	SELECT outbox.subscribe('moody', '{a}', handler => 'moody', backoff => '1 second',
		max_backoff => '3 seconds', max_attempts => 1000, timeout => '30 seconds');
	SELECT outbox.subscribe('plain', handler => 'plain');
	SELECT outbox.aggregate('quiet', '{a}', 'Quiet', 'gather', quiet => '3 seconds');
	SELECT outbox.aggregate('period', '{a}', 'Period', 'gather', period => '3 seconds');
	SELECT outbox.subscribe('pulled', '{a}')});
wait_until($node, $db, "SELECT count(*) > 0 FROM outbox.worker WHERE role = 'sequencer'", 'served');

# ---- a year ahead, and everything notes a time ----

set_clock(YEAR);
is($node->safe_psql($db, q{SELECT now() > '2027-01-01' AND outbox.publish('a', key => 'k') > 0}),
	't', 'the clock is a year ahead');
wait_until($node, $db, "SELECT retrying = 1 FROM outbox.status WHERE name = 'moody'", 'an event waits for its retry');
wait_until($node, $db, 'SELECT count(*) = 2 FROM outbox.aggregation', 'windows are open');
is($node->safe_psql($db, q{SELECT count(*) FROM outbox.receive('pulled', 10, '3 seconds')}),
	1, 'an event is leased');
$node->safe_psql($db, q{
	SELECT outbox.publish('b', idempotency_key => 'once');
	SELECT outbox.wait('plain')});
wait_until($node, $db, q{SELECT lag = 0 FROM outbox.status WHERE name = 'plain'}, 'all is quiet');

# a call that waits is not held up
my $began = time;
open my $waiting, '-|', 'psql', '-XAtd', $node->connstr($db), '-c', q{SELECT outbox.wait('moody', '5 seconds')}
  or die "psql: $!";
wait_until($node, $db, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'SELECT outbox.wait(%' AND state = 'active'},
	'a session waits');

# ---- and back ----

set_clock(0);
$node->safe_psql($db, 'UPDATE mood SET good = true');
wait_until($node, $db, q{SELECT count(*) = 1 FROM effect WHERE handler = 'moody'},
	'the retry is made');
wait_until($node, $db, q{SELECT count(*) = 1 FROM outbox.event WHERE type = 'Quiet'},
	'a window ends when nothing comes');
wait_until($node, $db, q{SELECT count(*) = 1 FROM outbox.event WHERE type = 'Period'},
	'a window ends when its time is up');
wait_until($node, $db, q{SELECT count(*) = 1 FROM outbox.receive('pulled', 10, '1 second')},
	'a lease ends');
is(scalar <$waiting> =~ /^[tf]$/, 1, 'a session has waited');
close $waiting;
cmp_ok(time - $began, '<', 120, 'a call that waits has ended');

$node->safe_psql($db, q{SELECT outbox.publish('c', key => 'later')});
wait_until($node, $db, q{SELECT count(*) = 1 FROM effect WHERE handler = 'plain' AND key = 'later'},
	'what is published later is delivered');
$node->safe_psql($db, q{
	SELECT outbox.publish('c', key => 'scheduled', deliver_at => now() + '1 second');
	BEGIN;
	SELECT outbox.publish('c', key => 'prepared', deliver_at => now() + '1 second');
	PREPARE TRANSACTION 'p'});
$node->safe_psql($db, "COMMIT PREPARED 'p'");
wait_until($node, $db, q{SELECT count(*) = 2 FROM effect WHERE handler = 'plain' AND key IN ('scheduled', 'prepared')},
	'what is scheduled later is delivered');
wait_until($node, $db, q{
	SELECT count(outbox.publish('b', idempotency_key => 'once')) >= 0
		AND (SELECT count(*) = 2 FROM outbox.event WHERE type = 'b')},
	'a key is forgotten after its window');
is($node->safe_psql($db, q{SELECT count(*) FROM effect WHERE handler = 'moody'}), 1,
	'nothing was handled twice');

# windows that span the moment in which the clock is set back
set_clock(YEAR);
$node->safe_psql($db, q{SELECT outbox.publish('a', key => 'across')});
wait_until($node, $db, q{SELECT count(*) = 2 FROM outbox.aggregation WHERE key = 'across'}, 'windows are open');
set_clock(0);
$node->safe_psql($db, q{SELECT outbox.publish('a', key => 'across')});
wait_until($node, $db, q{SELECT sum(jsonb_array_length(data)) = 2 FROM outbox.event WHERE type = 'Quiet' AND key = 'across'},
	'each event is folded once');
wait_until($node, $db, q{SELECT sum(jsonb_array_length(data)) = 2 FROM outbox.event WHERE type = 'Period' AND key = 'across'},
	'each event is folded once, also by a period');

# ---- ahead in the middle of a call ----

$node->safe_psql($db, q{UPDATE mood SET nap = 3});
my $failed = $node->safe_psql($db, q{SELECT failed FROM outbox.status WHERE name = 'moody'});
$node->safe_psql($db, q{SELECT outbox.publish('a', key => 'long')});
wait_until($node, $db, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND backend_type = 'pg_outbox dispatcher'},
	'a handler is running');
set_clock(YEAR);
wait_until($node, $db, q{SELECT count(*) = 1 FROM effect WHERE handler = 'moody' AND key = 'long'},
	'it ends as ever');
is($node->safe_psql($db, q{SELECT failed FROM outbox.status WHERE name = 'moody'}), $failed,
	'and has not failed');
is($node->safe_psql($db, q{SELECT count(*) FROM outbox.worker WHERE since > now() + interval '1 minute' OR since < now() - interval '1 day'}),
	0, 'the view of workers goes by the clock');

# ---- all of it noted, and the server started anew with the right clock ----

set_clock(YEAR);
$node->safe_psql($db, q{UPDATE mood SET good = false});
$node->safe_psql($db, q{SELECT outbox.publish('a', key => 'restart')});
wait_until($node, $db, "SELECT retrying = 1 FROM outbox.status WHERE name = 'moody'", 'an event waits for its retry');
set_clock(0);
$node->restart;
$node->safe_psql($db, q{UPDATE mood SET good = true, nap = 0});
wait_until($node, $db, q{SELECT count(*) = 1 FROM effect WHERE handler = 'moody' AND key = 'restart'},
	'the retry is made after a restart');
wait_until($node, $db, q{SELECT count(*) = 0 FROM outbox.aggregation}, 'and no window stays open');

$node->stop;
done_testing();
