/*
 * The processes that keep the log's tables from being locked for long.
 *
 * A transaction that stays open keeps its locks, and no right is needed for a
 * weak one: to prepare a statement is enough.  Partitions are made and dropped
 * without waiting, so somebody could prevent both for ever, unseen.  A process
 * that uses the tables only for moments is not meant: only processes that held
 * a lock at each attempt are.
 *
 * Must not know what the lock is for.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/lock.h"

#include "log/holders.h"

/* So many refusals in a row are worth a word. */
#define OBX_REFUSALS	5

/* So many processes are named. */
#define OBX_NAMED		10

static bool
is_held(const LockInstanceData * instance, const List *relids)
{
	return instance->pid != MyProcPid && instance->holdMask != 0 &&
		instance->locktag.locktag_type == LOCKTAG_RELATION &&
		instance->locktag.locktag_field1 == MyDatabaseId &&
		list_member_oid(relids, instance->locktag.locktag_field2);
}

static bool
contains(const int *pids, int count, int pid)
{
	for (int i = 0; i < count; i++)
		if (pids[i] == pid)
			return true;
	return false;
}

/* Keeps those that hold locks now; at the first refusal, all of these. */
static void
meet(ObxHolders *holders, const List *relids)
{
	LockData   *locks = GetLockStatusData();
	int			met[OBX_HOLDERS];
	int			count = 0;

	for (int i = 0; i < locks->nelements && count < OBX_HOLDERS; i++)
	{
		const		LockInstanceData *instance = &locks->locks[i];

		if (is_held(instance, relids) && !contains(met, count, instance->pid) &&
			(holders->refusals == 0 || contains(holders->pids, holders->count, instance->pid)))
			met[count++] = instance->pid;
	}
	memcpy(holders->pids, met, count * sizeof(int));
	holders->count = count;
}

static const char *
describe(const ObxHolders *holders)
{
	StringInfoData words;

	initStringInfo(&words);
	for (int i = 0; i < holders->count && i < OBX_NAMED; i++)
	{
		if (i > 0)
			appendStringInfoString(&words, ", ");
		if (holders->pids[i] == 0)
			appendStringInfoString(&words, "a prepared transaction");
		else
			appendStringInfo(&words, "process %d", holders->pids[i]);
	}
	if (holders->count > OBX_NAMED)
		appendStringInfo(&words, " and %d more", holders->count - OBX_NAMED);
	return words.data;
}

const char *
obx_holders_refused(ObxHolders *holders, const List *relids)
{
	if (holders->refusals > OBX_REFUSALS)
		return NULL;
	meet(holders, relids);
	/* others than before: begin anew */
	if (holders->count == 0)
		holders->refusals = 0;
	else
		holders->refusals++;
	return holders->refusals > OBX_REFUSALS ? describe(holders) : NULL;
}

void
obx_holders_forget(ObxHolders *holders)
{
	holders->refusals = 0;
}
