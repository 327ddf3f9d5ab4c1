/*
 * The functions behind the view outbox.worker and the column worker of
 * outbox.status.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "base/clock.h"
#include "base/compat.h"
#include "catalog/subscription.h"
#include "sqlapi/behind.h"
#include "worker/refusal.h"
#include "worker/slot.h"

#define COLUMNS 7

PG_FUNCTION_INFO_V1(obx_sql_worker_slots);
PG_FUNCTION_INFO_V1(obx_sql_worker_obstacle);

static const char *
role_name(ObxRole role)
{
	switch (role)
	{
		case OBX_ROLE_LAUNCHER:
			return "launcher";
		case OBX_ROLE_SEQUENCER:
			return "sequencer";
		case OBX_ROLE_DISPATCHER:
			return "dispatcher";
	}
	return NULL;
}

static const char *
state_name(const ObxSlot *slot)
{
	if (slot->leave != OBX_LEAVE_NOT)
		return "leaving";
	switch (slot->state)
	{
		case OBX_SLOT_STARTING:
			return "starting";
		case OBX_SLOT_IDLE:
			return "idle";
		case OBX_SLOT_BUSY:
			return "busy";
		case OBX_SLOT_FREE:
		case OBX_SLOT_EXITED:
			break;
	}
	return NULL;
}

static void
put_slot(ReturnSetInfo * result, const ObxSlot *slot, const char *state)
{
	Datum		values[COLUMNS] = {0};
	bool		nulls[COLUMNS] = {false};
	bool		dispatching = slot->role == OBX_ROLE_DISPATCHER &&
	slot->state == OBX_SLOT_BUSY && slot->subscription != 0;

	values[0] = Int32GetDatum(slot->pid);
	nulls[0] = slot->pid == 0;
	values[1] = CStringGetTextDatum(role_name(slot->role));
	values[2] = ObjectIdGetDatum(slot->owner);
	nulls[2] = !OidIsValid(slot->owner);
	values[3] = Int32GetDatum(slot->subscription);
	values[4] = Int32GetDatum(slot->lane);
	nulls[3] = nulls[4] = !dispatching;
	values[5] = CStringGetTextDatum(state);
	values[6] = TimestampTzGetDatum(obx_clock_to_time(slot->since));
	nulls[6] = slot->since == 0;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* A worker that could not be had. */
static void
put_starved(ReturnSetInfo * result, ObxRole role, TimestampTz since)
{
	ObxSlot		missing = {.role = role,.state = OBX_SLOT_STARTING,.since = since};

	put_slot(result, &missing, "starved");
}

/* Since when the workers know that they cannot connect as the owner; 0: do not. */
static TimestampTz
find_refused_since(Oid owner)
{
	TimestampTz since = 0;

	LWLockAcquire(obx_slots->lock, LW_SHARED);
	for (int i = 0; i < OBX_REFUSED; i++)
		if (obx_slots->refused[i].database == MyDatabaseId &&
			obx_slots->refused[i].owner == owner)
			since = obx_slots->refused[i].since;
	LWLockRelease(obx_slots->lock);
	return since;
}

/*
 * Rows for owners of subscriptions when no worker can connect as them.  There
 * is no process for them, and there may be more of them than shared memory has
 * room for.
 */
static void
put_refused(ReturnSetInfo * result)
{
	List	   *owners = NIL;
	ListCell   *lc;

	foreach(lc, obx_subscription_list())
	{
		const ObxSubscription *subscription = lfirst(lc);

		if (!subscription->paused && subscription->kind != OBX_KIND_PULL)
			owners = lappend_oid(owners, subscription->owner);
	}
	list_sort(owners, list_oid_cmp);
	list_deduplicate_oid(owners);
	foreach(lc, owners)
	{
		Oid			owner = lfirst_oid(lc);
		TimestampTz since = find_refused_since(owner);
		ObxSlot		refused = {.role = OBX_ROLE_DISPATCHER,.owner = owner,.since = since};

		if (since != 0 || obx_refusal_find_obstacle(owner) != NULL)
			put_slot(result, &refused, "refused");
	}
}

/* Copies what concerns our database, so that nothing is done under the lock. */
static int
copy_slots(ObxSlot *copy, TimestampTz *starved_since)
{
	int			count = 0;

	LWLockAcquire(obx_slots->lock, LW_SHARED);
	if (obx_slots->launcher_pid != 0)
	{
		memset(&copy[count], 0, sizeof(ObxSlot));
		copy[count].role = OBX_ROLE_LAUNCHER;
		copy[count].state = OBX_SLOT_IDLE;
		copy[count].pid = obx_slots->launcher_pid;
		copy[count++].since = obx_slots->launcher_since;
	}
	for (int i = 0; i < obx_slots->nslots; i++)
		if (obx_slots->slots[i].database == MyDatabaseId)
			copy[count++] = obx_slots->slots[i];
	*starved_since = obx_slot_find_sequencer(MyDatabaseId) == NULL ?
		obx_slot_starved_since(MyDatabaseId) : 0;
	LWLockRelease(obx_slots->lock);
	return count;
}

/* outbox.worker_slots() */
Datum
obx_sql_worker_slots(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ObxSlot    *slots;
	TimestampTz starved_since;
	int			count;

	InitMaterializedSRF(fcinfo, 0);

	/* without preload there are no workers */
	if (obx_slots == NULL)
		PG_RETURN_NULL();

	slots = palloc((obx_slots->nslots + 1) * sizeof(ObxSlot));
	count = copy_slots(slots, &starved_since);
	for (int i = 0; i < count; i++)
	{
		const char *state = state_name(&slots[i]);

		if (state != NULL && slots[i].state != OBX_SLOT_FREE &&
			slots[i].state != OBX_SLOT_EXITED)
			put_slot(result, &slots[i], state);
		if (slots[i].role == OBX_ROLE_SEQUENCER && obx_slot_is_live(&slots[i]) &&
			slots[i].starved_since != 0)
			put_starved(result, OBX_ROLE_DISPATCHER, slots[i].starved_since);
	}
	if (starved_since != 0)
		put_starved(result, OBX_ROLE_SEQUENCER, starved_since);
	put_refused(result);
	PG_RETURN_NULL();
}

/*
 * worker_obstacle(subscription, owner, lanes): a standby has no workers, and
 * needs none.
 */
Datum
obx_sql_worker_obstacle(PG_FUNCTION_ARGS)
{
	const char *obstacle;

	if (RecoveryInProgress())
		PG_RETURN_NULL();
	obstacle = obx_behind_find_obstacle(PG_GETARG_INT32(0), PG_GETARG_OID(1), PG_GETARG_INT32(2));
	if (obstacle == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(obstacle));
}
