/*
 * The sequencer's process: one per database that has the extension.
 *
 * Woken by commits that emitted events, or by its timers, it moves scheduled
 * events that are due into the log, appends segments, tells those who listen,
 * and the dispatchers which lanes have something to do, and keeps house.
 * Runs no user code, as the bootstrap superuser.
 *
 * The flag of the doorbell is lowered before looking, so that no commit goes
 * unseen; and outbox.poll_interval after the last look it looks anyway, for
 * commits that cannot ring (COMMIT PREPARED after a restart, for one).
 *
 * Every transaction first locks the extension against DROP EXTENSION, without
 * waiting, and does nothing when it cannot.  Must not know how positions are
 * given, nor how a lane is served.
 */
#include "postgres.h"

#include "base/backoff.h"
#include "catalog/pg_authid.h"
#include "mb/pg_wchar.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/doorbell.h"
#include "base/listener.h"
#include "base/settings.h"
#include "base/waiter.h"
#include "catalog/subscription.h"
#include "sequencer/announcement.h"
#include "sequencer/sequencer.h"
#include "worker/housekeeping.h"
#include "worker/loading.h"
#include "worker/pool.h"
#include "worker/process.h"
#include "worker/queue.h"
#include "worker/refusal.h"
#include "worker/scheduled.h"

/* How soon to try again where another transaction was in the way. */
#define FIRST_BLOCKED_DELAY OBX_MS(5)
#define LONGEST_BLOCKED_DELAY OBX_MS(200)

/*
 * A segment costs a commit, and its readers another, whether it has one
 * transaction or a hundred.  So after a round with several commits, which came
 * during the round before, the sequencer gathers commits for a while: the more
 * there were, the longer.  Where they come one by one, nothing waits.
 */
#define GATHERING_PER_TRANSACTION 500
#define LONGEST_GATHERING OBX_MS(5)

/*
 * Those who listen, but do not say that they have come to the end, hear of what
 * is new so often.
 */
#define ANNOUNCEMENT_INTERVAL OBX_MS(100)

/* Where another transaction of the server notifies. */
#define ANNOUNCEMENT_BLOCKED OBX_MS(1)

/* Subscriptions are read again even if nobody said that they changed. */
#define REREAD_INTERVAL OBX_MS(10000)

/* Where there are more lanes than places, they take turns so often. */
#define TURN_INTERVAL OBX_MS(200)

PGDLLEXPORT void obx_sequencer_main(Datum arg);

/* The findings of one round. */
typedef struct Round
{
	ObxInstalled installed;
	bool		appended;		/* false: another sequencer is at work */
	ObxSequenced sequenced;
} Round;

/* The lanes that the subscriptions ask for. */
typedef struct Configuration
{
	MemoryContext context;
	bool		serves;			/* lanes, from now on */
	ObxInstalled installed;
	int			count;
	ObxWantedLane *lanes;
	int			nowners;
	Oid		   *owners;			/* sorted */
} Configuration;

static int64 head = 0;
static bool has_subscriptions = false;
static TimestampTz poll_at = 0;
static TimestampTz reread_at = 0;
static TimestampTz blocked_until = 0;
static int64 blocked_delay = 0;
static TimestampTz gathering_until = 0;
static uint32 known_configuration = 0;
static TimestampTz next_due = 0;	/* the last round found nothing due before */
static bool worked = false;		/* and gave positions */
static bool overflow_reported = false;
static TimestampTz announced_at = 0;
static bool announcement_wanted = false;	/* somebody waits for it */
static ObxFailures sequence_failures = {.what = "could not give positions to events"};

/* obx_process_run's step */
static void
append_segment(void *arg)
{
	Round	   *round = arg;

	round->appended = false;
	round->installed = obx_process_lock_extension();
	if (round->installed == OBX_INSTALLED)
		round->appended = obx_sequencer_append(false, &round->sequenced);
}

/* The name as far as it fits, cut between characters; in the current context. */
static const char *
clip_name(const char *name)
{
	return pnstrdup(name, pg_mbcliplen(name, strlen(name), NAMEDATALEN - 1));
}

/* obx_process_run's step */
static void
read_configuration(void *arg)
{
	Configuration *configuration = arg;
	List	   *subscriptions;
	ListCell   *cell;
	MemoryContext context;
	Size		wanted = 0;

	configuration->count = configuration->nowners = 0;
	configuration->installed = obx_process_lock_extension();
	if (configuration->installed != OBX_INSTALLED)
		return;

	/*
	 * a session that had not loaded us may have reassigned them; a busy one
	 * comes later
	 */
	if (configuration->serves)
		(void) obx_subscription_follow_owners(false);
	subscriptions = obx_subscription_list();
	has_subscriptions = (subscriptions != NIL);
	context = MemoryContextSwitchTo(configuration->context);
	foreach(cell, subscriptions)
		wanted += ((const ObxSubscription *) lfirst(cell))->concurrency;
	configuration->lanes = MemoryContextAllocHuge(CurrentMemoryContext,
												  Max(wanted, 1) * sizeof(ObxWantedLane));
	configuration->owners = palloc(Max(list_length(subscriptions), 1) * sizeof(Oid));
	foreach(cell, subscriptions)
	{
		const ObxSubscription *subscription = lfirst(cell);
		const char *name;

		if (subscription->paused || subscription->kind == OBX_KIND_PULL ||
			!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(subscription->owner)))
			continue;

		configuration->owners[configuration->nowners++] = subscription->owner;
		name = clip_name(subscription->name);
		for (int i = 0; i < subscription->concurrency; i++)
		{
			ObxWantedLane *lane = &configuration->lanes[configuration->count++];

			lane->subscription = subscription->id;
			lane->lane = i;
			lane->owner = subscription->owner;
			lane->batch_size = subscription->batch_size;
			lane->name = name;
		}
	}
	qsort(configuration->owners, configuration->nowners, sizeof(Oid), oid_cmp);
	MemoryContextSwitchTo(context);
}

/* Leaves if the extension is gone, as do all processes that served it. */
static void
check_installed(ObxInstalled installed)
{
	if (installed != OBX_INSTALLED_NOT && installed != OBX_INSTALLED_ANOTHER)
		return;
	obx_pool_dismiss();

	/* it may have come back after we looked: then somebody has rung */
	obx_process_leave(obx_doorbell_close() || installed == OBX_INSTALLED_ANOTHER ?
					  OBX_EXIT_LEFT : OBX_EXIT_NOT_INSTALLED);
}

/* Another transaction is in the way: comes back soon, ever less often. */
static void
note_blocked(TimestampTz now)
{
	blocked_delay = obx_backoff_next(blocked_delay, FIRST_BLOCKED_DELAY, LONGEST_BLOCKED_DELAY);
	blocked_until = now + blocked_delay;
}

/* Lets the next segment wait, after one of that many transactions. */
static void
gather(int64 transactions)
{
	if (transactions > 1)
		gathering_until = obx_clock_now() +
			Min((transactions - 1) * GATHERING_PER_TRANSACTION, LONGEST_GATHERING);
}

static bool
is_gathering(TimestampTz now)
{
	/* the clock may be set back */
	return gathering_until > now && gathering_until <= now + LONGEST_GATHERING;
}

/* Gives positions to what has been committed. */
static void
sequence(TimestampTz now)
{
	Round		round = {.installed = OBX_INSTALLED};

	poll_at = now + OBX_MS(obx_poll_interval);
	pgstat_report_activity(STATE_RUNNING, "appending a segment");
	if (!obx_process_run(append_segment, &round, &sequence_failures))
	{
		poll_at = sequence_failures.retry_at;
		return;
	}
	check_installed(round.installed);
	if (!round.appended)
	{
		note_blocked(now);
		return;
	}
	blocked_delay = 0;
	blocked_until = 0;
	head = round.sequenced.head;
	worked = worked || round.sequenced.transactions > 0;
	if (round.sequenced.events > 0)
	{
		obx_waiter_wake();
		(void) obx_listener_note();
	}
	gather(round.sequenced.transactions);
}

/* obx_process_run's step */
static void
send_announcement(void *arg)
{
	bool	   *sent = arg;

	*sent = obx_process_lock_extension() == OBX_INSTALLED &&
		obx_announcement_send(head, false);
}

/*
 * Tells those who listen, at once if one of them waits.  Returns when to do so
 * otherwise.
 */
static TimestampTz
announce(TimestampTz now)
{
	static ObxFailures failures = {.what = "could not announce new events"};
	bool		sent = false;

	if (!obx_listener_is_owed())
		return DT_NOEND;
	announcement_wanted = obx_listener_take() || announcement_wanted;
	if (failures.retry_at > now)
		return failures.retry_at;
	/* the clock may be set back */
	if (!announcement_wanted && announced_at <= now && now < announced_at + ANNOUNCEMENT_INTERVAL)
		return announced_at + ANNOUNCEMENT_INTERVAL;
	if (!obx_process_run(send_announcement, &sent, &failures))
		return failures.retry_at;
	if (!sent)
		return now + ANNOUNCEMENT_BLOCKED;
	announced_at = now;
	announcement_wanted = false;
	obx_listener_forget();
	return DT_NOEND;
}

/*
 * Makes the lanes what the subscriptions say.  While there is no event for them
 * there are no lanes: a load may begin, and nobody is to dispatch half of one.
 */
static void
configure(TimestampTz now, ObxLoading loading, bool afresh)
{
	static ObxFailures failures = {.what = "could not read the subscriptions"};
	Configuration configuration = {
		.context = CurrentMemoryContext,
		.serves = loading == OBX_LOADING_OVER
	};
	int			missing;

	reread_at = now + REREAD_INTERVAL;
	pgstat_report_activity(STATE_RUNNING, "reading the subscriptions");
	if (!obx_process_run(read_configuration, &configuration, &failures))
	{
		reread_at = failures.retry_at;
		return;
	}
	check_installed(configuration.installed);
	if (configuration.installed == OBX_INSTALLED_CHANGING)
	{
		note_blocked(now);
		reread_at = blocked_until;
		return;
	}
	if (!configuration.serves)
		return;

	obx_refusal_keep(configuration.owners, configuration.nowners, afresh);
	missing = obx_queue_reconcile(configuration.lanes, configuration.count, afresh);
	if (missing > 0)
		reread_at = now + TURN_INTERVAL;
	if (missing > 0 && !overflow_reported)
		ereport(WARNING,
				(errmsg("pg_outbox: %d lanes of subscriptions take turns with others", missing),
				 errdetail("The databases of a server can have %d lanes at a time together.", OBX_QUEUE_SIZE),
				 errhint("Lower the concurrency of subscriptions.")));
	overflow_reported = missing > 0;
}

static ObxStage
choose_stage(ObxLoading loading)
{
	if (loading == OBX_LOADING_OVER && sequence_failures.retry_at == 0)
		return head > 0 ? OBX_STAGE_POSITIONED : OBX_STAGE_SETTLED;
	return has_subscriptions || head > 0 ? OBX_STAGE_IN_USE : OBX_STAGE_UNUSED;
}

/* One round; returns when the next is due if nobody rings. */
static TimestampTz
make_round(void)
{
	TimestampTz now = obx_clock_now();
	TimestampTz next;
	TimestampTz next_move;
	TimestampTz next_announcement;
	bool		gathering = is_gathering(now);
	bool		rung = !gathering && obx_doorbell_clear();
	uint32		configuration = obx_doorbell_configuration();
	ObxLoading	loading;

	worked = false;
	next_due = now;				/* where it ends early, it is not done */

	/* the polls that come first after it see what rang meanwhile */
	loading = obx_loading_look(now, &next);
	if (loading == OBX_LOADING_UNDER_WAY)
		return Min(next, obx_housekeeping_run(OBX_STAGE_LOADING));

	/* what it moves rings, too */
	next_move = obx_scheduled_run(now);
	rung = (!gathering && obx_doorbell_clear()) || rung;

	if (sequence_failures.retry_at <= now &&
		(rung || poll_at <= now || (blocked_until != 0 && blocked_until <= now)))
		sequence(now);
	next_announcement = announce(obx_clock_now());
	if (blocked_until != 0)
		return Min(Min(blocked_until, poll_at), Min(next_move, next_announcement));
	/* the first event was emitted after the look */
	if (worked && loading != OBX_LOADING_OVER)
		return now;

	if (configuration != known_configuration || reread_at <= now)
	{
		bool		afresh = configuration != known_configuration;

		configure(now, loading, afresh);
		if (loading == OBX_LOADING_OVER)
		{
			if (afresh)
				obx_housekeeping_clean_remnants();
			known_configuration = configuration;
		}
	}

	now = obx_clock_now();
	next = obx_queue_refresh(head, now);
	next_due = Min(next, obx_scheduled_due());
	if (sequence_failures.retry_at != 0)
		next_due = Min(next_due, sequence_failures.retry_at);
	next = Min(next, obx_pool_adjust(now));
	next = Min(next, obx_housekeeping_run(choose_stage(loading)));
	next = Min(next, Min(next_move, Min(poll_at, reread_at)));
	next = Min(next, next_announcement);
	/* the flag that was left up will wake nobody, so it is not forgotten */
	if (gathering || is_gathering(now))
		next = Min(next, gathering_until);
	return blocked_until != 0 ? Min(next, blocked_until) : next;
}

void
obx_sequencer_main(Datum arg)
{
	MemoryContext context;

	obx_slot_attach(OBX_ROLE_SEQUENCER);
	obx_process_connect(obx_slot_own->database, InvalidOid, "pg_outbox sequencer");
	obx_process_override_settings(true);
	obx_slot_set_connected();

	context = AllocSetContextCreate(TopMemoryContext, "pg_outbox sequencer",
									ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	obx_doorbell_open();
	known_configuration = obx_doorbell_configuration() - 1;
	obx_pool_take_over();

	for (;;)
	{
		TimestampTz next;

		obx_process_check();
		if (obx_slot_own->leave != OBX_LEAVE_NOT)
			obx_process_leave(obx_slot_own->leave == OBX_LEAVE_ROOM ?
							  OBX_EXIT_GAVE_WAY : OBX_EXIT_LEFT);

		obx_slot_begin_round();
		next = make_round();
		obx_slot_end_round(next, next_due, worked);
		pgstat_report_activity(STATE_IDLE, NULL);
		MemoryContextReset(context);
		obx_process_wait(next);
	}
}
