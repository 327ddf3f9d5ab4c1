/*
 * The transactions that a snapshot regards as ended.
 *
 * The layout of pg_snapshot is private to PostgreSQL, so values pass through
 * its text form, "xmin:xmax:xid,xid,...".
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "log/xid_snapshot.h"

ObxXidSnapshot *
obx_xid_snapshot_empty(void)
{
	ObxXidSnapshot *snapshot = palloc0(sizeof(ObxXidSnapshot));

	snapshot->xmin = snapshot->xmax = FirstNormalTransactionId;
	return snapshot;
}

ObxXidSnapshot *
obx_xid_snapshot_from_datum(Datum datum)
{
	char	   *text = DatumGetCString(DirectFunctionCall1(pg_snapshot_out, datum));
	ObxXidSnapshot *snapshot = palloc0(sizeof(ObxXidSnapshot));
	char	   *next;
	int			commas = 0;

	for (char *c = text; *c != '\0'; c++)
		commas += (*c == ',');

	snapshot->xmin = strtoull(text, &next, 10);
	snapshot->xmax = strtoull(next + 1, &next, 10);
	snapshot->running = palloc((commas + 1) * sizeof(uint64));
	next++;
	while (*next != '\0')
	{
		snapshot->running[snapshot->nrunning++] = strtoull(next, &next, 10);
		if (*next == ',')
			next++;
	}
	pfree(text);
	return snapshot;
}

void
obx_xid_snapshot_free(ObxXidSnapshot *snapshot)
{
	pfree(snapshot->running);
	pfree(snapshot);
}

Datum
obx_xid_snapshot_to_datum(const ObxXidSnapshot *snapshot)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, UINT64_FORMAT ":" UINT64_FORMAT ":",
					 snapshot->xmin, snapshot->xmax);
	for (int i = 0; i < snapshot->nrunning; i++)
		appendStringInfo(&text, "%s" UINT64_FORMAT, i > 0 ? "," : "", snapshot->running[i]);
	return DirectFunctionCall1(pg_snapshot_in, CStringGetDatum(text.data));
}

ObxXidSnapshot *
obx_xid_snapshot_copy(const ObxXidSnapshot *snapshot, MemoryContext context)
{
	Size		running = snapshot->nrunning * sizeof(uint64);
	ObxXidSnapshot *copy = MemoryContextAlloc(context, sizeof(ObxXidSnapshot) + running);

	*copy = *snapshot;
	copy->running = (uint64 *) (copy + 1);
	memcpy(copy->running, snapshot->running, running);
	return copy;
}
