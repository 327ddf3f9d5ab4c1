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
 * Reading runs code that the table's owner wrote or chose: casts to json,
 * functions of types and operators.  So it is done as that owner, in a
 * restricted operation, whoever calls (as VACUUM and REINDEX do it).  The owner
 * is not subject to policies, unless they are forced; then reading fails, for
 * hidden rows would be missing.
 *
 * Locks: a row of outbox.snapshot_progress, one batch of a table at a time.
 * Must not know who listens.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "base/identity.h"
#include "capture/backfill.h"
#include "capture/encoder.h"
#include "capture/headers.h"
#include "capture/key.h"
#include "capture/range.h"
#include "capture/rule.h"
#include "capture/rule_trigger.h"
#include "emit/append.h"

#define FETCH_ROWS 1000

typedef struct SnapshotBatch
{
	Relation	relation;
	ObxRule    *rule;
	ObxRange   *range;			/* of the index that batches are ranges of */
	char	   *table;			/* quoted */
	Datum	   *last;			/* key that the batch before ended with, or
								 * NULL */
	Datum	   *end;			/* key that this one ends with */
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

/* ---- how far it came ---- */

/*
 * Our own table, on which the caller has no right, is read and written as the
 * bootstrap superuser, who must run nobody's code: keys are texts here.
 */
static void
run_on_progress(const char *query, int expected, int count, Oid *types, Datum *values)
{
	ObxIdentity former;

	obx_identity_assume(&former, BOOTSTRAP_SUPERUSERID);
	if (SPI_execute_with_args(query, count, types, values, NULL, false, 0) != expected)
		elog(ERROR, "could not access the progress of a snapshot");
	obx_identity_restore(&former);
}

static ArrayType *
get_array(int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? NULL : DatumGetArrayTypePCopy(value);
}

/* The key that the batch before ended with, or NULL; the row is locked. */
static ArrayType *
lock_progress(SnapshotBatch *batch)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(RelationGetRelid(batch->relation))};
	ArrayType  *last;
	ArrayType  *columns;

	run_on_progress("INSERT INTO outbox.snapshot_progress (relation) VALUES ($1)"
					" ON CONFLICT DO NOTHING", SPI_OK_INSERT, 1, types, values);
	run_on_progress("SELECT last_key, key_columns FROM outbox.snapshot_progress"
					" WHERE relation OPERATOR(pg_catalog.=) $1 FOR UPDATE",
					SPI_OK_SELECT, 1, types, values);
	if (SPI_processed != 1)
		elog(ERROR, "could not find the progress of a snapshot");
	last = get_array(1);
	columns = get_array(2);
	if (last != NULL &&
		(columns == NULL || !datum_image_eq(PointerGetDatum(columns),
											PointerGetDatum(obx_range_columns(batch->range)),
											false, -1)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("key of table \"%s\" has changed in the middle of a snapshot",
						RelationGetRelationName(batch->relation)),
				 errdetail("The batch before ended at a key of other columns or types."),
				 errhint("Start over: delete its row of outbox.snapshot_progress.")));
	return last;
}

static void
store_progress(SnapshotBatch *batch)
{
	Oid			types[] = {OIDOID, TEXTARRAYOID, TEXTARRAYOID};
	Datum		values[3];

	values[0] = ObjectIdGetDatum(RelationGetRelid(batch->relation));
	if (batch->end == NULL)
	{
		run_on_progress("DELETE FROM outbox.snapshot_progress"
						" WHERE relation OPERATOR(pg_catalog.=) $1",
						SPI_OK_DELETE, 1, types, values);
		return;
	}
	values[1] = PointerGetDatum(obx_range_to_text(batch->range, batch->end));
	values[2] = PointerGetDatum(obx_range_columns(batch->range));
	run_on_progress("UPDATE outbox.snapshot_progress SET last_key = $2, key_columns = $3"
					" WHERE relation OPERATOR(pg_catalog.=) $1",
					SPI_OK_UPDATE, 3, types, values);
}

void
obx_backfill_forget(List *relations)
{
	Oid			types[] = {OIDARRAYOID};
	Datum	   *oids = palloc(list_length(relations) * sizeof(Datum) + 1);
	Datum		values[1];
	ListCell   *lc;
	int			count = 0;

	if (relations == NIL)
		return;
	foreach(lc, relations)
		oids[count++] = ObjectIdGetDatum(lfirst_oid(lc));
	values[0] = PointerGetDatum(construct_array(oids, count, OIDOID, sizeof(Oid), true,
												TYPALIGN_INT));
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	run_on_progress("DELETE FROM outbox.snapshot_progress"
					" WHERE relation OPERATOR(pg_catalog.=) ANY ($1)",
					SPI_OK_DELETE, 1, types, values);
	SPI_finish();
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
	char	   *source = obx_headers_relation_name(RelationGetRelid(batch->relation));
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
		headers.partition = obx_headers_relation_name(relid);
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

/* ---- the batch ---- */

/* The types and values of a query's parameters: the last key, and the end. */
static int
list_parameters(SnapshotBatch *batch, Oid **types, Datum **values)
{
	int			columns = batch->range->count;
	int			count = 0;

	*types = palloc(2 * columns * sizeof(Oid));
	*values = palloc(2 * columns * sizeof(Datum));
	for (int key = 0; key < 2; key++)
	{
		Datum	   *from = key == 0 ? batch->last : batch->end;

		for (int i = 0; from != NULL && i < columns; i++)
		{
			(*types)[count] = batch->range->columns[i].type;
			(*values)[count++] = from[i];
		}
	}
	return count;
}

/* The first row's key as the query gives it, or NULL; by a fresh snapshot. */
static Datum *
read_key(SnapshotBatch *batch, const char *query)
{
	Oid		   *types;
	Datum	   *values;
	int			count = list_parameters(batch, &types, &values);
	Datum	   *key;

	if (SPI_execute_with_args(query, count, types, values, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read a key");
	if (SPI_processed == 0)
		return NULL;
	key = palloc(batch->range->count * sizeof(Datum));
	for (int i = 0; i < batch->range->count; i++)
	{
		const ObxRangeColumn *column = &batch->range->columns[i];
		bool		isnull;
		Datum		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
										  i + 1, &isnull);

		if (isnull)
			elog(ERROR, "key of table \"%s\" has a null value",
				 RelationGetRelationName(batch->relation));
		if (column->length == -1)
			value = PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
		else
			value = datumCopy(value, column->by_value, column->length);
		key[i] = value;
	}
	return key;
}

/*
 * Tables below by plain inheritance may have rows without a key, which stand in
 * no range.  Those that come later have events of their own.
 */
static void
check_keys(SnapshotBatch *batch)
{
	if (batch->relation->rd_rel->relkind != RELKIND_RELATION ||
		!has_subclass(RelationGetRelid(batch->relation)))
		return;
	if (SPI_execute(psprintf("SELECT FROM %s t WHERE %s", batch->table,
							 obx_range_is_null(batch->range)), false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for rows without a key");
	if (SPI_processed > 0)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("tables below \"%s\" have rows without a key",
						RelationGetRelationName(batch->relation)),
				 errdetail("A snapshot is read in ranges of the key, in which a null value has no place."),
				 errhint("Declare the columns of the key NOT NULL in all tables below.")));
}

/* The key at which the batch ends, or NULL if there is nothing left. */
static Datum *
find_end(SnapshotBatch *batch, int batch_size)
{
	char	   *select;
	Datum	   *end;

	select = psprintf("SELECT %s FROM %s t%s%s ORDER BY ", obx_range_expressions(batch->range),
					  batch->table, batch->last != NULL ? " WHERE " : "",
					  batch->last != NULL ? obx_range_after(batch->range, 1) : "");
	end = read_key(batch, psprintf("%s%s OFFSET %d LIMIT 1", select,
								   obx_range_order(batch->range, false), batch_size - 1));
	if (end == NULL)
		end = read_key(batch, psprintf("%s%s LIMIT 1", select,
									   obx_range_order(batch->range, true)));
	return end;
}

static char *
write_query(SnapshotBatch *batch)
{
	int			count = batch->range->count;

	if (batch->last == NULL)
		return psprintf("SELECT t.*, t.tableoid FROM %s t WHERE %s FOR SHARE", batch->table,
						obx_range_until(batch->range, 1));
	return psprintf("SELECT t.*, t.tableoid FROM %s t WHERE %s AND %s FOR SHARE", batch->table,
					obx_range_after(batch->range, 1), obx_range_until(batch->range, count + 1));
}

static void
emit_batch(void *arg)
{
	SnapshotBatch *batch = arg;
	Oid		   *types;
	Datum	   *values;
	int			parameters = list_parameters(batch, &types, &values);
	SPIPlanPtr	plan = SPI_prepare(write_query(batch), parameters, types);
	Portal		cursor;
	ObxEncoder *encoder = NULL;
	ObxKey	   *key = NULL;

	if (plan == NULL)
		elog(ERROR, "could not prepare the query of a snapshot");
	cursor = SPI_cursor_open(NULL, plan, values, NULL, false);
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

/* As the table's owner. */
static void
read_batch(SnapshotBatch *batch, int batch_size)
{
	ArrayType  *last;

	/* rows that a policy hides would be missing: rather fail */
	(void) set_config_option("row_security", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	obx_range_write(batch->range);
	last = lock_progress(batch);
	if (last != NULL)
		batch->last = obx_range_from_text(batch->range, last);
	else
		check_keys(batch);
	batch->end = find_end(batch, batch_size);
	if (batch->end != NULL)
		obx_append_together(emit_batch, batch);
	store_progress(batch);
}

int64
obx_backfill_batch(Relation rel, int batch_size)
{
	SnapshotBatch batch = {0};
	ObxIdentity former;

	batch.relation = rel;
	batch.rule = require_rule(rel);
	batch.range = obx_range_create(rel);
	batch.table = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
											 RelationGetRelationName(rel));
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	obx_identity_assume(&former, rel->rd_rel->relowner);
	read_batch(&batch, batch_size);
	obx_identity_restore(&former);
	SPI_finish();
	return batch.emitted;
}
