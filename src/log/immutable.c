/*
 * The log refuses changes: triggers on outbox.event, its partitions and
 * outbox.segment, and, against what is loaded only, on the tables that refer
 * to positions and ids.  All are enabled always.
 *
 * Events are written below triggers (append.c), so every statement that gets
 * here is somebody else's.  One is let through: what a superuser loads while
 * nothing has been emitted here, for that is what a restore does, by COPY or
 * by INSERT.  Loading into a log that has events would name them twice.
 *
 * pg_restore --disable-triggers would get past all that, and what it enables
 * again it enables for ordinary sessions only.  So an event trigger tells of
 * every ALTER TABLE: triggers of ours are not disabled while the log has
 * events, and are enabled always when they are enabled at all.
 *
 * Nor do our tables take triggers and rules of others, which would not see
 * what is written below them: what copies a table by triggers while it is
 * used, as pg_repack does, would lose all that came meanwhile.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "parser/parsetree.h"
#include "storage/proc.h"
#include "tcop/cmdtag.h"
#include "tcop/pquery.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "catalog/names.h"
#include "log/generation.h"
#include "log/immutable.h"
#include "log/partition.h"

PG_FUNCTION_INFO_V1(obx_sql_refuse_change);
PG_FUNCTION_INFO_V1(obx_sql_refuse_trigger);

#define OBX_LOADED_DETAIL \
	"The log has events: loading others, or what refers to others, would name events twice."
#define OBX_LOADED_HINT \
	"Restore into a database without events, or leave the log out: pg_restore --exclude-schema=outbox."

/* the transaction in which retention is at work */
static LocalTransactionId suspended_in = InvalidLocalTransactionId;

/* the transaction that loads the log, and has been found to be allowed to */
static LocalTransactionId loading_in = InvalidLocalTransactionId;

void
obx_immutable_suspend(bool suspend)
{
	suspended_in = suspend ? obx_my_lxid() : InvalidLocalTransactionId;
}

static bool
is_restore(TriggerEvent event)
{
	if (!TRIGGER_FIRED_BY_INSERT(event) || !superuser())
		return false;
	if (loading_in == obx_my_lxid())
		return true;
	if (!obx_generation_accepts_load())
		return false;
	loading_in = obx_my_lxid();
	return true;
}

/* The portal's statement if it is one of that kind, NULL otherwise. */
static const PlannedStmt *
find_statement(CommandTag tag)
{
	if (ActivePortal == NULL || ActivePortal->commandTag != tag || ActivePortal->stmts == NIL)
		return NULL;
	return linitial_node(PlannedStmt, ActivePortal->stmts);
}

/* Is the row one of a COPY into this very partition, not by way of outbox.event? */
static bool
is_copied_into(Relation rel)
{
	const PlannedStmt *statement = find_statement(CMDTAG_COPY);
	const Node *command = statement != NULL ? statement->utilityStmt : NULL;

	return command != NULL && IsA(command, CopyStmt) &&
		strcmp(((const CopyStmt *) command)->relation->relname, RelationGetRelationName(rel)) == 0;
}

/* Likewise for an INSERT. */
static bool
is_inserted_into(Relation rel)
{
	const PlannedStmt *statement = find_statement(CMDTAG_INSERT);

	return statement != NULL && statement->commandType == CMD_INSERT &&
		obx_statement_target(statement) > 0 &&
		rt_fetch(obx_statement_target(statement), statement->rtable)->relid == RelationGetRelid(rel);
}

static bool
has_rows(Relation rel)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = obx_table_beginscan(rel, snapshot);
	bool		found = table_scan_getnextslot(scan, ForwardScanDirection, slot);

	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	return found;
}

/*
 * A dump made with --inserts has many commands for a partition, which one
 * session executes: the first of them must find no rows there.
 */
static bool
is_inserted_again(Relation rel)
{
	static List *inserted_into = NIL;	/* by this session */
	MemoryContext old;

	if (list_member_oid(inserted_into, RelationGetRelid(rel)))
		return false;
	if (has_rows(rel))
		return true;
	old = MemoryContextSwitchTo(TopMemoryContext);
	inserted_into = lappend_oid(inserted_into, RelationGetRelid(rel));
	MemoryContextSwitchTo(old);
	return false;
}

/*
 * A dump has one COPY for a partition, so what finds rows there is the same
 * restore again.  No index may be there yet that could tell the rows.  Looked
 * at once for each command.
 */
static bool
is_loaded_again(const TriggerData *trigger)
{
	static LocalTransactionId transaction = InvalidLocalTransactionId;
	static CommandId command = InvalidCommandId;
	static Oid	relid = InvalidOid;
	Relation	rel = trigger->tg_relation;

	if (!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		return false;
	if (is_inserted_into(rel))
		return is_inserted_again(rel);
	if (!is_copied_into(rel))
		return false;
	if (transaction == obx_my_lxid() && command == GetCurrentCommandId(false) &&
		relid == RelationGetRelid(rel))
		return false;
	if (has_rows(rel))
		return true;
	transaction = obx_my_lxid();
	command = GetCurrentCommandId(false);
	relid = RelationGetRelid(rel);
	return false;
}

static void
refuse_load(Relation rel)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot load rows into \"%s.%s\"", OBX_SCHEMA_NAME, RelationGetRelationName(rel)),
			 errdetail(OBX_LOADED_DETAIL),
			 errhint(OBX_LOADED_HINT)));
}

/* Is the trigger one of those that refuse only what is loaded? */
static bool
is_for_loads(const TriggerData *trigger)
{
	return strcmp(trigger->tg_trigger->tgname, "refuse_load") == 0;
}

/* Is that a COPY or INSERT of a restore?  Only for what the error says. */
static bool
looks_like_load(TriggerEvent event)
{
	static const char insert[] = "INSERT INTO outbox.";

	return TRIGGER_FIRED_BY_INSERT(event) && superuser() && ActivePortal != NULL &&
		(ActivePortal->commandTag == CMDTAG_COPY ||
		 strncmp(ActivePortal->sourceText, insert, strlen(insert)) == 0);
}

Datum
obx_sql_refuse_change(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"refuse_change\" was not called as a trigger")));

	if (is_restore(trigger->tg_event) && !is_loaded_again(trigger))
		return PointerGetDatum(TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ?
							   trigger->tg_trigtuple : NULL);
	if (TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event) && suspended_in == obx_my_lxid())
		return PointerGetDatum(NULL);

	if (is_for_loads(trigger) || looks_like_load(trigger->tg_event))
		refuse_load(trigger->tg_relation);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot change \"%s.%s\"", OBX_SCHEMA_NAME,
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

/* ---- what may become of the triggers ---- */

/* Of the table's triggers, is it one of ours?  Those of partitions are internal before 15. */
static bool
is_ours(Form_pg_trigger trigger)
{
	return get_func_namespace(trigger->tgfoid) == obx_schema_require();
}

static void
refuse_disabling(Oid relid)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot disable triggers of \"%s.%s\"", OBX_SCHEMA_NAME, get_rel_name(relid)),
			 errdetail(OBX_LOADED_DETAIL),
			 errhint(OBX_LOADED_HINT)));
}

/* Enables the table's triggers always; those that are disabled if "all". */
static void
enable_triggers(Oid relid, bool all)
{
	Relation	catalog = table_open(TriggerRelationId, RowExclusiveLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		changed = false;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, TriggerRelidNameIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_trigger trigger = (Form_pg_trigger) GETSTRUCT(tuple);
		HeapTuple	copy;

		if (!is_ours(trigger) || trigger->tgenabled == TRIGGER_FIRES_ALWAYS)
			continue;
		if (trigger->tgenabled == TRIGGER_DISABLED && !all)
		{
			if (!obx_generation_accepts_load())
				refuse_disabling(relid);
			continue;
		}
		copy = heap_copytuple(tuple);
		((Form_pg_trigger) GETSTRUCT(copy))->tgenabled = TRIGGER_FIRES_ALWAYS;
		CatalogTupleUpdate(catalog, &copy->t_self, copy);
		heap_freetuple(copy);
		changed = true;
	}
	systable_endscan(scan);
	table_close(catalog, RowExclusiveLock);
	if (changed)
	{
		CacheInvalidateRelcacheByRelid(relid);
		CommandCounterIncrement();
	}
}

/* Of the log with its partitions, whose triggers change along with its own. */
static void
enable_log_triggers(bool all)
{
	ListCell   *lc;

	enable_triggers(obx_object_require(OBX_EVENT), all);
	foreach(lc, obx_partition_list())
		enable_triggers(((ObxPartition *) lfirst(lc))->relid, all);
}

/* Does the command give a table other columns, or other types of columns? */
static bool
changes_columns(const Node *command)
{
	ListCell   *lc;

	if (command == NULL || !IsA(command, AlterTableStmt))
		return false;
	foreach(lc, ((const AlterTableStmt *) command)->cmds)
	{
		AlterTableType kind = lfirst_node(AlterTableCmd, lc)->subtype;

		if (kind == AT_AddColumn || kind == AT_DropColumn || kind == AT_AlterColumnType)
			return true;
	}
	return false;
}

void
obx_immutable_follow(Oid relid, const Node *command)
{
	if (get_rel_namespace(relid) != obx_schema_require())
		return;
	if (!creating_extension && changes_columns(command) &&
		OidIsValid(getExtensionOfObject(RelationRelationId, relid)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot change the columns of \"%s.%s\"", OBX_SCHEMA_NAME, get_rel_name(relid)),
				 errdetail("The extension reads and writes its tables by the columns that it made."),
				 errhint("Use a table of your own.")));
	if (relid == obx_object_require(OBX_EVENT))
		enable_log_triggers(false);
	else
		enable_triggers(relid, false);
}

/*
 * obx_generation_on_load()'s "settle": enables always what guards our tables,
 * whatever became of it.
 */
static int64
repair(void)
{
	static const ObxObject guarded[] = {
		OBX_SEGMENT, OBX_TALLY, OBX_SUBSCRIPTION, OBX_PROGRESS, OBX_DELIVERY, OBX_WINDOW,
		OBX_FAILURE, OBX_SCHEDULE, OBX_SEEN_0, OBX_SEEN_1, OBX_SEEN_2, OBX_SEEN_TURN,
		OBX_REGISTERED_TYPE, OBX_SCHEMA_VERSION
	};

	for (int i = 0; i < lengthof(guarded); i++)
		enable_triggers(obx_object_require(guarded[i]), true);
	enable_log_triggers(true);
	return 0;
}

/* obx_generation_on_load()'s "needs_settling": guards alone are no reason. */
static bool
needs_repair(void)
{
	return false;
}

void
obx_immutable_init(void)
{
	obx_generation_on_load(needs_repair, repair);
}
