/*
 * Suspects: events that were being handled when a dispatcher ended without
 * having been asked to.
 *
 * A dispatcher keeps in its slot the event that its handler is called for, so
 * that it is known however the process ends: its exit callback notes the
 * event.  If the callback cannot run, the whole server restarts, and the
 * postmaster finds the slots before it initializes shared memory again.  Only
 * such an event can have ended its session, so only such a one has its attempt
 * counted before the next call.
 *
 * Where that cannot be known (several events in one call; at the commit; the
 * server as a whole has died), it is found by and by: one event is taken and
 * counted, then two, four, and so on; after each further end this begins
 * anew behind what has gone well, and so at less than half the distance.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"

#include "base/shmem.h"
#include "dispatch/pass.h"
#include "worker/suspect.h"

/* Lanes, of all databases; those that find no place are taken as innocent. */
#define SUSPECTS 256

static ObxSuspect *suspects = NULL;

/* In the postmaster: the contents from before shared memory was initialized again. */
static ObxSuspect saved[SUSPECTS];
static bool is_saved = false;

static void initialize_suspects(void *region, LWLockPadded *locks);

static ObxRegion suspect_region = {
	.name = "pg_outbox suspects",
	.size = SUSPECTS * sizeof(ObxSuspect),
	.address = (void **) &suspects,
	.initialize = initialize_suspects
};

/*
 * on_shmem_exit callback of the postmaster, whose children are all gone: those
 * that were killed stand in their slots as they were.
 */
static void
save_suspects(int code, Datum arg)
{
	if (obx_slots == NULL || suspects == NULL)
		return;
	for (int i = 0; i < obx_slots->nslots; i++)
		if (obx_slots->slots[i].role == OBX_ROLE_DISPATCHER &&
			obx_slots->slots[i].state == OBX_SLOT_BUSY)
			obx_suspect_note(&obx_slots->slots[i]);
	memcpy(saved, suspects, sizeof(saved));
	is_saved = true;
}

static void
initialize_suspects(void *region, LWLockPadded *locks)
{
	if (is_saved)
		memcpy(region, saved, sizeof(saved));
	on_shmem_exit(save_suspects, (Datum) 0);
}

void
obx_suspect_init(void)
{
	obx_shmem_register(&suspect_region);
}

ObxSuspect *
obx_suspect_find(Oid database, int32 subscription, int32 lane)
{
	Assert(!IsUnderPostmaster || LWLockHeldByMe(obx_slots->lock));
	for (int i = 0; i < SUSPECTS; i++)
		if (suspects[i].database == database && suspects[i].subscription == subscription &&
			suspects[i].lane == lane)
			return &suspects[i];
	return NULL;
}

void
obx_suspect_note(const ObxSlot *slot)
{
	ObxSuspect *suspect;

	Assert(!IsUnderPostmaster || LWLockHeldByMeInMode(obx_slots->lock, LW_EXCLUSIVE));
	if (slot->subscription == 0 || slot->under_way == 0)
		return;
	suspect = obx_suspect_find(slot->database, slot->subscription, slot->lane);
	for (int i = 0; suspect == NULL && i < SUSPECTS; i++)
		if (!OidIsValid(suspects[i].database))
			suspect = &suspects[i];
	if (suspect == NULL)
		return;
	suspect->database = slot->database;
	suspect->subscription = slot->subscription;
	suspect->lane = slot->lane;
	suspect->position = slot->under_way == OBX_WATCHER_SEVERAL ? 0 : slot->under_way;
	suspect->careful = slot->under_way == OBX_WATCHER_SEVERAL ? 1 : 0;
}

int
obx_suspect_widen(int careful, int batch_size)
{
	return careful < batch_size ? careful * 2 : 0;
}

void
obx_suspect_clear(ObxSuspect *suspect, int64 handled, bool cleared, int batch_size)
{
	ObxAssertLocked();
	if (handled > 0 && suspect->careful > 0)
		suspect->careful = obx_suspect_widen(suspect->careful, batch_size);
	if (cleared)
		suspect->position = 0;
	if (suspect->careful == 0 && suspect->position == 0)
		suspect->database = InvalidOid;
}
