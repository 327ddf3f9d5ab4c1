/*
 * The log refuses changes: the trigger on outbox.event, its partitions and
 * outbox.segment, enabled always.
 *
 * Events are written below triggers (append.c), so every statement that gets
 * here is somebody else's.  One is let through: COPY by a superuser into a log
 * that has given no position yet, or none since it moved to this database, for
 * that is what pg_restore does.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "fmgr.h"
#include "storage/proc.h"
#include "tcop/cmdtag.h"
#include "tcop/pquery.h"
#include "utils/portal.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "log/generation.h"
#include "log/immutable.h"
#include "log/segment.h"

PG_FUNCTION_INFO_V1(obx_sql_refuse_change);

/* the transaction in which retention is at work */
static LocalTransactionId suspended_in = InvalidLocalTransactionId;

void
obx_immutable_suspend(bool suspend)
{
	suspended_in = suspend ? obx_my_lxid() : InvalidLocalTransactionId;
}

static bool
is_restore(TriggerEvent event)
{
	return TRIGGER_FIRED_BY_INSERT(event) && superuser() && ActivePortal != NULL &&
		ActivePortal->commandTag == CMDTAG_COPY &&
		(obx_segment_find_last(NULL) == NULL || !obx_generation_is_here());
}

Datum
obx_sql_refuse_change(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"refuse_change\" was not called as a trigger")));

	if (is_restore(trigger->tg_event))
		return PointerGetDatum(TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ?
							   trigger->tg_trigtuple : NULL);
	if (TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event) && suspended_in == obx_my_lxid())
		return PointerGetDatum(NULL);

	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot change \"%s.%s\"", "outbox",
					RelationGetRelationName(trigger->tg_relation)),
			 errdetail("The event log is immutable."),
			 errhint("Emit events with outbox.publish() or outbox.capture(); retention drops old ones.")));
	return (Datum) 0;			/* keep the compiler quiet */
}
