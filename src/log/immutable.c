/*
 * The log refuses changes: the trigger on outbox.event, its partitions and
 * outbox.segment, enabled always.
 *
 * Events are written below triggers (append.c), so every statement that gets
 * here is somebody else's.  One is let through: COPY by a superuser into a log
 * that has given no position yet, or none since it moved to this database, for
 * that is what pg_restore does.
 *
 * Nor do our tables take triggers and rules of others, which would not see
 * what is written below them: what copies a table by triggers while it is
 * used, as pg_repack does, would lose all that came meanwhile.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "storage/proc.h"
#include "tcop/cmdtag.h"
#include "tcop/pquery.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "catalog/names.h"
#include "log/generation.h"
#include "log/immutable.h"
#include "log/segment.h"

PG_FUNCTION_INFO_V1(obx_sql_refuse_change);
PG_FUNCTION_INFO_V1(obx_sql_refuse_trigger);

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

/* The table of ours that the command made a trigger or rule on, or NULL. */
static const char *
find_trigger_table(void)
{
	Oid			type = OIDOID;
	Datum		schema = ObjectIdGetDatum(obx_schema_require());
	MemoryContext caller = CurrentMemoryContext;
	char	   *name = NULL;

	SPI_connect();
	if (SPI_execute_with_args("SELECT c.relname::pg_catalog.text"
							  " FROM pg_catalog.pg_event_trigger_ddl_commands() d"
							  " LEFT JOIN pg_catalog.pg_trigger t ON d.classid OPERATOR(pg_catalog.=) 2620"
							  " AND t.oid OPERATOR(pg_catalog.=) d.objid"
							  " LEFT JOIN pg_catalog.pg_proc f ON f.oid OPERATOR(pg_catalog.=) t.tgfoid"
							  " LEFT JOIN pg_catalog.pg_rewrite r ON d.classid OPERATOR(pg_catalog.=) 2618"
							  " AND r.oid OPERATOR(pg_catalog.=) d.objid"
							  " JOIN pg_catalog.pg_class c"
							  " ON c.oid OPERATOR(pg_catalog.=) COALESCE(t.tgrelid, r.ev_class)"
							  " WHERE c.relnamespace OPERATOR(pg_catalog.=) $1"
							  " AND f.pronamespace IS DISTINCT FROM $1 LIMIT 1",
							  1, &type, &schema, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not list the objects of a command");
	if (SPI_processed > 0)
		name = MemoryContextStrdup(caller, SPI_getvalue(SPI_tuptable->vals[0],
														SPI_tuptable->tupdesc, 1));
	SPI_finish();
	return name;
}

/*
 * outbox.refuse_trigger(): when a command ends that made a trigger or a rule.
 * Ours are made by the extension's script, and by pg_restore.
 */
Datum
obx_sql_refuse_trigger(PG_FUNCTION_ARGS)
{
	const char *table;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"refuse_trigger\" was not called as an event trigger")));
	table = find_trigger_table();
	if (table != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot create a trigger or a rule on \"outbox.%s\"", table),
				 errdetail("The extension writes to its tables below triggers and rules: they would miss what it writes."),
				 errhint("Leave these tables out of what copies tables by triggers: pg_repack --exclude-extension=pg_outbox. Use VACUUM FULL or CLUSTER instead.")));
	PG_RETURN_NULL();
}
