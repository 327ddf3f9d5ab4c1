/*
 * Existing rows as events, in batches.
 *
 * Where must such an event stand among those of concurrent changes?  The row
 * is locked against changes (FOR SHARE) before its event draws an id, and
 * stays locked until the batch commits.  So whoever changed the row before has
 * committed, and its event comes first; whoever changes it later waits, and
 * its event comes after.  Rows that are inserted meanwhile have events of
 * their own.  Thus a consumer that applies events in the order of positions,
 * a snapshot's as "this is the row now", ends with the table's content.
 *
 * A batch is a range of the table's key.  Its end is read without locks and
 * before the rows are, so that a row that is given a larger key while the
 * batch waits for its lock does not make the next batch skip others.  Rows
 * that are moved over the end have events of that change.
 *
 * Locks: a row of outbox.snapshot_progress, one batch of a table at a time.
 * Must not know who listens.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "base/compat.h"
#include "base/identity.h"
#include "capture/encoder.h"
#include "capture/headers.h"
#include "capture/key.h"
#include "capture/rule.h"
#include "capture/snapshot.h"
#include "log/append.h"

#define FETCH_ROWS 1000

typedef struct SnapshotBatch
{
	Relation	relation;
	ObxRule    *rule;
	AttrNumber *key_columns;	/* of the index that ranges are made of */
	int			key_count;
	char	   *table;			/* quoted */
	char	   *key;			/* (k1, k2) */
	char	   *query;			/* of the batch's rows */
	int64		emitted;
} SnapshotBatch;

/* ---- what to read ---- */

/* The rule that says what an event has; it must let no change pass. */
static ObxRule *
require_rule(Relation rel)
{
	ObxRule    *found = NULL;
	ListCell   *lc;

	foreach(lc, obx_rule_list(RelationGetRelid(rel)))
	{
		ObxRuleTrigger *trigger = lfirst(lc);
		ObxRule    *rule = trigger->rule;

		if (!OidIsValid(trigger->parent) && rule->condition == NULL &&
			(rule->operations & OBX_CAPTURE_ROWS) == OBX_CAPTURE_ROWS &&
			(found == NULL || strcmp(rule->name, found->name) < 0))
			found = rule;
	}
	if (found == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is not captured as a whole", RelationGetRelationName(rel)),
				 errdetail("A snapshot's rows are kept up to date by the events of a rule for insert, update and delete without a condition."),
				 errhint("Make one with outbox.capture() first.")));
	return found;
}

static void
describe_key(SnapshotBatch *batch)
{
	ObxRule		any = {0};
	StringInfoData key;

	batch->key_columns = obx_rule_key(&any, batch->relation, &batch->key_count);
	if (batch->key_count == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has no key to read it by",
						RelationGetRelationName(batch->relation)),
				 errdetail("A snapshot is read in ranges of the primary key, or of the index chosen as replica identity."),
				 errhint("Add a primary key.")));
	initStringInfo(&key);
	for (int i = 0; i < batch->key_count; i++)
		appendStringInfo(&key, "%st.%s", i > 0 ? ", " : "",
						 quote_identifier(get_attname(RelationGetRelid(batch->relation),
													  batch->key_columns[i], false)));
	batch->key = key.data;
	batch->table = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(batch->relation)),
											  RelationGetRelationName(batch->relation));
}

/* A key as it is stored, as (literal, ...). */
static char *
write_literals(SnapshotBatch *batch, ArrayType *key)
{
	StringInfoData out;
	Datum	   *items;
	int			count;

	deconstruct_array(key, TEXTOID, -1, false, TYPALIGN_INT, &items, NULL, &count);
	if (count != batch->key_count)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("key of table \"%s\" has changed in the middle of a snapshot",
						RelationGetRelationName(batch->relation)),
				 errdetail("The batch before ended at a key with another number of columns."),
				 errhint("Start over: delete its row of outbox.snapshot_progress.")));
	initStringInfo(&out);
	for (int i = 0; i < count; i++)
		appendStringInfo(&out, "%s%s::%s", i > 0 ? ", " : "",
						 quote_literal_cstr(TextDatumGetCString(items[i])),
						 format_type_be_qualified(TupleDescAttr(RelationGetDescr(batch->relation),
																batch->key_columns[i] - 1)->atttypid));
	return out.data;
}

/* The first column of the first row, or NULL; read by a fresh snapshot. */
static ArrayType *
read_key(const char *query)
{
	bool		isnull;
	Datum		value;

	if (SPI_execute(query, false, 1) < 0)
		elog(ERROR, "could not read a key");
	if (SPI_processed == 0 || SPI_tuptable == NULL)
		return NULL;
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	return isnull ? NULL : DatumGetArrayTypePCopy(value);
}

/* ---- how far it came ---- */

/* Runs SQL on our own table, on which the caller has no right. */
static ArrayType *
run_as_owner(const char *query)
{
	ArrayType  *result;
	ObxIdentity former;

	obx_identity_assume(&former, BOOTSTRAP_SUPERUSERID);
	result = read_key(query);
	obx_identity_restore(&former);
	return result;
}

static ArrayType *
lock_progress(Oid relid)
{
	run_as_owner(psprintf("INSERT INTO outbox.snapshot_progress (relation) VALUES (%u)"
						  " ON CONFLICT DO NOTHING", relid));
	return run_as_owner(psprintf("SELECT last_key FROM outbox.snapshot_progress"
								 " WHERE relation OPERATOR(pg_catalog.=) %u FOR UPDATE", relid));
}

static void
store_progress(Oid relid, ArrayType *key)
{
	Oid			types[] = {TEXTARRAYOID, OIDOID};
	Datum		values[] = {PointerGetDatum(key), ObjectIdGetDatum(relid)};
	const char *query = "UPDATE outbox.snapshot_progress SET last_key = $1"
	" WHERE relation OPERATOR(pg_catalog.=) $2";
	ObxIdentity former;

	if (key == NULL)
	{
		run_as_owner(psprintf("DELETE FROM outbox.snapshot_progress"
							  " WHERE relation OPERATOR(pg_catalog.=) %u", relid));
		return;
	}
	obx_identity_assume(&former, BOOTSTRAP_SUPERUSERID);
	if (SPI_execute_with_args(query, 2, types, values, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not store how far a snapshot came");
	obx_identity_restore(&former);
}

/* ---- emitting ---- */

/* The numbers in a result's rows of columns of the table. */
static AttrNumber *
map_columns(Relation rel, const AttrNumber *columns, int count, TupleDesc result)
{
	AttrNumber *mapped = palloc(count * sizeof(AttrNumber) + 1);

	for (int i = 0; i < count; i++)
		mapped[i] = SPI_fnumber(result, get_attname(RelationGetRelid(rel), columns[i], false));
	return mapped;
}

static void
emit_row(SnapshotBatch *batch, ObxEncoder *encoder, ObxKey *key, Datum *row, bool *isnull,
		 Oid relid)
{
	Datum		values[OBX_EVENT_COLUMNS];
	bool		nulls[OBX_EVENT_COLUMNS];
	char	   *type = psprintf("%s.snapshot", RelationGetRelationName(batch->relation));
	char	   *source = obx_relation_name(RelationGetRelid(batch->relation));
	text	   *key_text = key != NULL ? obx_key_encode(key, row, isnull) : NULL;
	ObxHeaders	headers = {NULL, batch->rule->schema_version};

	obx_event_check_type(type, strlen(type));
	obx_event_check_source(source, strlen(source));
	memset(nulls, true, sizeof(nulls));
	values[OBX_EVENT_TYPE] = CStringGetTextDatum(type);
	values[OBX_EVENT_SOURCE] = CStringGetTextDatum(source);
	values[OBX_EVENT_OPERATION] = CStringGetTextDatum("snapshot");
	values[OBX_EVENT_DATA] = JsonbPGetDatum(obx_encoder_encode(encoder, row, isnull, NULL));
	nulls[OBX_EVENT_TYPE] = nulls[OBX_EVENT_SOURCE] = false;
	nulls[OBX_EVENT_OPERATION] = nulls[OBX_EVENT_DATA] = false;
	if (key_text != NULL)
	{
		obx_event_check_key(VARDATA(key_text), VARSIZE(key_text) - VARHDRSZ);
		values[OBX_EVENT_KEY] = PointerGetDatum(key_text);
		nulls[OBX_EVENT_KEY] = false;
	}
	if (relid != RelationGetRelid(batch->relation))
		headers.partition = obx_relation_name(relid);
	if (headers.partition != NULL || headers.schema_version > 1)
	{
		values[OBX_EVENT_HEADERS] = JsonbPGetDatum(obx_headers_create(&headers));
		nulls[OBX_EVENT_HEADERS] = false;
	}
	obx_event_emit(values, nulls);
	batch->emitted++;
}

static void
emit_rows(SnapshotBatch *batch, ObxEncoder *encoder, ObxKey *key, SPITupleTable * rows,
		  uint64 count)
{
	int			columns = rows->tupdesc->natts;
	Datum	   *values = palloc(columns * sizeof(Datum));
	bool	   *isnull = palloc(columns * sizeof(bool));
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "pg_outbox snapshot row",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(scratch);

	for (uint64 i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		heap_deform_tuple(rows->vals[i], rows->tupdesc, values, isnull);
		/* the last column says which table the row is of */
		emit_row(batch, encoder, key, values, isnull, DatumGetObjectId(values[columns - 1]));
		MemoryContextReset(scratch);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
}

static void
emit_batch(void *arg)
{
	SnapshotBatch *batch = arg;
	SPIPlanPtr	plan = SPI_prepare(batch->query, 0, NULL);
	Portal		cursor;
	ObxEncoder *encoder = NULL;
	ObxKey	   *key = NULL;

	if (plan == NULL)
		elog(ERROR, "could not prepare the query of a snapshot");
	cursor = SPI_cursor_open(NULL, plan, NULL, NULL, false);
	for (;;)
	{
		SPI_cursor_fetch(cursor, true, FETCH_ROWS);
		if (SPI_processed == 0)
			break;
		if (encoder == NULL)
		{
			TupleDesc	result = SPI_tuptable->tupdesc;
			int			count;
			AttrNumber *columns = obx_rule_columns(batch->rule, batch->relation, &count);

			encoder = obx_encoder_create(result,
										 map_columns(batch->relation, columns, count, result), count);
			columns = obx_rule_key(batch->rule, batch->relation, &count);
			if (count > 0)
				key = obx_key_create(result,
									 map_columns(batch->relation, columns, count, result), count);
		}
		emit_rows(batch, encoder, key, SPI_tuptable, SPI_processed);
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(cursor);
}

/* The key at which the batch ends, or NULL if there is nothing left. */
static ArrayType *
find_end(SnapshotBatch *batch, const char *after, int batch_size)
{
	StringInfoData columns;
	StringInfoData descending;
	char	   *select;
	ArrayType  *end;

	initStringInfo(&columns);
	initStringInfo(&descending);
	for (int i = 0; i < batch->key_count; i++)
	{
		const char *name = quote_identifier(get_attname(RelationGetRelid(batch->relation),
														batch->key_columns[i], false));

		/* as jsonb has it, which does not depend on DateStyle and its like */
		appendStringInfo(&columns, "%spg_catalog.to_jsonb(t.%s) OPERATOR(pg_catalog.#>>) '{}'",
						 i > 0 ? ", " : "", name);
		appendStringInfo(&descending, "%st.%s DESC", i > 0 ? ", " : "", name);
	}
	select = psprintf("SELECT ARRAY[%s]::pg_catalog.text[] FROM %s t%s ORDER BY ",
					  columns.data, batch->table, after);
	end = read_key(psprintf("%s%s OFFSET %d LIMIT 1", select, batch->key, batch_size - 1));
	if (end == NULL)
		end = read_key(psprintf("%s%s LIMIT 1", select, descending.data));
	return end;
}

/*
 * Rows of keys are compared by operators that are found by their names: those
 * that the keys' types have, and none that someone has put into the caller's
 * search_path.
 */
static void
set_search_path(SnapshotBatch *batch)
{
	StringInfoData path;

	initStringInfo(&path);
	appendStringInfoString(&path, "pg_catalog");
	for (int i = 0; i < batch->key_count; i++)
	{
		Oid			type = TupleDescAttr(RelationGetDescr(batch->relation),
										 batch->key_columns[i] - 1)->atttypid;
		HeapTuple	tuple = SearchSysCache1(OPEROID,
											ObjectIdGetDatum(lookup_type_cache(type, TYPECACHE_LT_OPR)->lt_opr));

		if (!HeapTupleIsValid(tuple))
			continue;
		appendStringInfo(&path, ", %s",
						 quote_identifier(get_namespace_name(((Form_pg_operator) GETSTRUCT(tuple))->oprnamespace)));
		ReleaseSysCache(tuple);
	}
	appendStringInfoString(&path, ", pg_temp");
	(void) set_config_option("search_path", path.data, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

int64
obx_snapshot_batch(Relation rel, int batch_size)
{
	SnapshotBatch batch = {0};
	ArrayType  *last;
	ArrayType  *end;
	char	   *after = "";
	int			level = NewGUCNestLevel();

	batch.relation = rel;
	batch.rule = require_rule(rel);
	describe_key(&batch);

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	/* rows that a policy hides would be missing: rather fail */
	(void) set_config_option("row_security", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	set_search_path(&batch);
	last = lock_progress(RelationGetRelid(rel));
	if (last != NULL)
		after = psprintf(" WHERE (%s) > (%s)", batch.key, write_literals(&batch, last));
	end = find_end(&batch, after, batch_size);
	if (end != NULL)
	{
		batch.query = psprintf("SELECT t.*, t.tableoid FROM %s t%s %s (%s) <= (%s) FOR SHARE",
							   batch.table, after, last != NULL ? "AND" : "WHERE",
							   batch.key, write_literals(&batch, end));
		obx_append_together(emit_batch, &batch);
	}
	store_progress(RelationGetRelid(rel), end);
	AtEOXact_GUC(true, level);
	SPI_finish();
	return batch.emitted;
}
