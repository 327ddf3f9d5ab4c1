/*
 * The entry of the capture triggers: a changed row becomes an event.
 *
 * Runs inside the user's INSERT, UPDATE, DELETE, COPY or TRUNCATE, in AFTER
 * triggers, with the row locked and written.  The trigger's WHEN has already
 * tested the rule's condition.  Memory is the executor's context for one
 * trigger call, which is reset before the next, so nothing is freed here and
 * a statement of any size runs in the same memory.
 *
 * A producer's statement fails here only where its event cannot be written at
 * all, and then says by which rule.
 *
 * Must not know who listens, nor how events are stored.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/jsonb.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "capture/compiled.h"
#include "capture/row_move.h"
#include "emit/append.h"

PG_FUNCTION_INFO_V1(obx_sql_capture_row);
PG_FUNCTION_INFO_V1(obx_sql_capture_statement);

/* What the error context says. */
typedef struct Firing
{
	Relation	relation;
	const char *rule;			/* trigger's name while it is not known */
} Firing;

/* One event on its way. */
typedef struct Emission
{
	Datum		values[OBX_EVENT_COLUMNS];
	bool		nulls[OBX_EVENT_COLUMNS];
} Emission;

static void
report_context(void *arg)
{
	Firing	   *firing = arg;

	errcontext("capturing table \"%s\" by rule \"%s\"",
			   RelationGetRelationName(firing->relation), firing->rule);
}

/*
 * The trigger's data, after making sure that it was made as capture() makes
 * it.  Nobody else should, but a superuser can.
 */
static TriggerData *
require_trigger(FunctionCallInfo fcinfo, bool row)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(data->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(data->tg_event) == row)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("capture function was not called as the trigger it is meant for"),
				 errdetail("It is called by AFTER triggers, %s.",
						   row ? "FOR EACH ROW" : "FOR EACH STATEMENT"),
				 errhint("Make and remove rules with outbox.capture() and outbox.uncapture().")));
	return data;
}

/* Snapshots leave such a backend out, so its events could get lost. */
static void
refuse_while_decoding(void)
{
	if (unlikely(obx_is_decoding()))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot capture changes in a session that does logical decoding"),
				 errdetail("Snapshots do not see such a session, so the order of its events cannot be told."),
				 errhint("Write to captured tables from another session.")));
}

/* The compiled rule, kept in the trigger's call information for the statement. */
static ObxCompiledRule *
find_rule(FunctionCallInfo fcinfo, TriggerData *data, Firing *firing)
{
	ObxCompiledRule *rule = fcinfo->flinfo->fn_extra;

	if (unlikely(rule == NULL || rule->stale || rule->trigger != data->tg_trigger->tgoid))
	{
		rule = obx_compiled_find(data->tg_trigger, data->tg_relation, &firing->rule);
		fcinfo->flinfo->fn_extra = rule;
	}
	firing->rule = rule->name;
	return rule;
}

/* ---- comparing ---- */

/* Its bytes are all in the row, as they are.  A TOAST pointer looks short. */
static inline bool
is_plain_varlena(Datum value)
{
	const void *pointer = DatumGetPointer(value);

	return VARATT_IS_4B_U(pointer) || (VARATT_IS_SHORT(pointer) && !VARATT_IS_EXTERNAL(pointer));
}

/*
 * Do two stored values differ?  A value that an update left alone keeps its
 * TOAST pointer, so equal pointers save fetching it.
 */
static bool
values_differ(const ObxComparedColumn *column, Datum old, Datum new)
{
	if (column->by_value)
		return old != new;
	if (column->length == -1 && is_plain_varlena(old) && is_plain_varlena(new))
		return VARSIZE_ANY_EXHDR(DatumGetPointer(old)) != VARSIZE_ANY_EXHDR(DatumGetPointer(new)) ||
			memcmp(VARDATA_ANY(DatumGetPointer(old)), VARDATA_ANY(DatumGetPointer(new)),
				   VARSIZE_ANY_EXHDR(DatumGetPointer(old))) != 0;
	if (column->length == -1 &&
		VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(old)) &&
		VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(new)) &&
		memcmp(DatumGetPointer(old), DatumGetPointer(new),
			   VARSIZE_EXTERNAL(DatumGetPointer(old))) == 0)
		return false;
	return !datum_image_eq(old, new, false, column->length);
}

/*
 * Marks the columns that differ between two rows; returns whether any does.
 * "changed" is indexed by attribute number minus one, and may be NULL.
 */
static bool
find_changes(const ObxComparedColumn *columns, int count, TupleTableSlot *old,
			 TupleTableSlot *new, bool *changed)
{
	bool		any = false;

	for (int i = 0; i < count; i++)
	{
		int			attribute = columns[i].attnum - 1;
		bool		differ;

		if (old->tts_isnull[attribute] || new->tts_isnull[attribute])
			differ = old->tts_isnull[attribute] != new->tts_isnull[attribute];
		else
			differ = values_differ(&columns[i], old->tts_values[attribute],
								   new->tts_values[attribute]);
		any |= differ;
		if (changed != NULL)
			changed[attribute] = differ;
		else if (differ)
			break;
	}
	return any;
}

/* ---- emitting ---- */

static text *
encode_key(ObxCompiledRule *rule, TupleTableSlot *row)
{
	text	   *key;

	if (rule->key == NULL)
		return NULL;
	key = obx_key_encode(rule->key, row->tts_values, row->tts_isnull);
	if (key != NULL)
		obx_event_check_key(VARDATA(key), VARSIZE(key) - VARHDRSZ);
	return key;
}

static void
start_emission(Emission *emission, ObxCompiledRule *rule, ObxOperation operation)
{
	memset(emission->nulls, true, sizeof(emission->nulls));
	emission->values[OBX_EVENT_TYPE] = rule->type[operation];
	emission->nulls[OBX_EVENT_TYPE] = false;
	emission->values[OBX_EVENT_SOURCE] = rule->source;
	emission->nulls[OBX_EVENT_SOURCE] = false;
	emission->values[OBX_EVENT_OPERATION] = rule->operation[operation];
	emission->nulls[OBX_EVENT_OPERATION] = false;
	if (rule->headers != (Datum) 0)
	{
		emission->values[OBX_EVENT_HEADERS] = rule->headers;
		emission->nulls[OBX_EVENT_HEADERS] = false;
	}
}

static void
set_jsonb(Emission *emission, ObxEventColumn column, Jsonb *value)
{
	emission->values[column] = JsonbPGetDatum(value);
	emission->nulls[column] = false;
}

static void
set_key(Emission *emission, text *key)
{
	emission->nulls[OBX_EVENT_KEY] = (key == NULL);
	if (key != NULL)
		emission->values[OBX_EVENT_KEY] = PointerGetDatum(key);
}

static void
build_row(Emission *emission, ObxCompiledRule *rule, ObxOperation operation,
		  TupleTableSlot *row)
{
	slot_getsomeattrs(row, rule->last_column);
	start_emission(emission, rule, operation);
	set_key(emission, encode_key(rule, row));
	set_jsonb(emission, OBX_EVENT_DATA,
			  obx_encoder_encode(rule->encoder, row->tts_values, row->tts_isnull, NULL));
}

/*
 * The new key, and in the headers the old one where they differ.  The old
 * one's text is made only if a key column changed.
 */
static void
set_updated_key(Emission *emission, ObxCompiledRule *rule, TupleTableSlot *old,
				TupleTableSlot *new, bool key_changed)
{
	text	   *new_key = encode_key(rule, new);
	text	   *old_key;

	set_key(emission, new_key);
	if (!key_changed)
		return;
	old_key = encode_key(rule, old);
	if (old_key != NULL && new_key != NULL &&
		datum_image_eq(PointerGetDatum(old_key), PointerGetDatum(new_key), false, -1))
		return;
	set_jsonb(emission, OBX_EVENT_HEADERS,
			  obx_headers_create_rekeyed(&rule->own_headers, old_key));
}

static void
capture_update(ObxCompiledRule *rule, TupleTableSlot *old, TupleTableSlot *new)
{
	Emission	emission;
	bool		changed[MaxHeapAttributeNumber];
	bool		list_changes = rule->old_values == OBX_OLD_CHANGED;
	bool		any_changed;
	bool		key_changed;

	slot_getsomeattrs(old, rule->last_column);
	slot_getsomeattrs(new, rule->last_column);
	any_changed = find_changes(rule->columns, rule->column_count, old, new,
							   list_changes ? changed : NULL);
	key_changed = find_changes(rule->key_columns, rule->key_count, old, new, NULL);
	if (!any_changed && !key_changed)
		return;

	start_emission(&emission, rule, OBX_OPERATION_UPDATE);
	set_updated_key(&emission, rule, old, new, key_changed);
	set_jsonb(&emission, OBX_EVENT_DATA,
			  obx_encoder_encode(rule->encoder, new->tts_values, new->tts_isnull, NULL));
	if (rule->old_values != OBX_OLD_NONE)
		set_jsonb(&emission, OBX_EVENT_OLD,
				  obx_encoder_encode(rule->encoder, old->tts_values, old->tts_isnull,
									 list_changes ? changed : NULL));
	obx_event_emit(emission.values, emission.nulls);
}

/*
 * A row that goes to another partition fires a DELETE there and then an INSERT
 * here, for what was one update.  The DELETE's event is held, so that it can be
 * taken back when the INSERT comes; it stays if a trigger suppressed the
 * INSERT.  Where it has been written already, the two stand one after the
 * other, and the later one's header "moved_from" has the id of the earlier.
 */
static void
capture_delete(ObxCompiledRule *rule, TriggerData *data)
{
	Emission	emission;
	int64		id = 0;

	if (rule->is_partition && obx_row_move_is_departure(data->tg_trigtuple))
	{
		if (rule->operations & OBX_CAPTURE_DELETE)
		{
			build_row(&emission, rule, OBX_OPERATION_DELETE, data->tg_trigslot);
			id = obx_event_append_held(emission.values, emission.nulls);
		}
		obx_row_move_begin(rule->source_trigger, rule->relation, data->tg_trigtuple, id);
		return;
	}
	if (!(rule->operations & OBX_CAPTURE_DELETE))
		return;
	build_row(&emission, rule, OBX_OPERATION_DELETE, data->tg_trigslot);
	obx_event_emit(emission.values, emission.nulls);
}

static void
capture_insert(ObxCompiledRule *rule, TriggerData *data)
{
	Emission	emission;
	int64		departure = 0;
	TupleTableSlot *old = NULL;

	if (rule->is_partition)
		old = obx_row_move_finish(rule->source_trigger, data->tg_relation, data->tg_trigtuple,
								  &departure);
	if (old != NULL && (departure == 0 || obx_event_retract(departure)))
	{
		if (rule->operations & OBX_CAPTURE_UPDATE)
			capture_update(rule, old, data->tg_trigslot);
		ExecDropSingleTupleTableSlot(old);
		return;
	}
	if (old != NULL)
		ExecDropSingleTupleTableSlot(old);
	if (!(rule->operations & OBX_CAPTURE_INSERT))
		return;
	build_row(&emission, rule, OBX_OPERATION_INSERT, data->tg_trigslot);
	if (departure != 0)
		set_jsonb(&emission, OBX_EVENT_HEADERS,
				  obx_headers_create_moved(&rule->own_headers, departure));
	obx_event_emit(emission.values, emission.nulls);
}

/*
 * outbox.capture_row(): the trigger function for rows.
 */
Datum
obx_sql_capture_row(PG_FUNCTION_ARGS)
{
	TriggerData *data = require_trigger(fcinfo, true);
	Firing		firing = {data->tg_relation, data->tg_trigger->tgname};
	ObxCompiledRule *rule;
	ErrorContextCallback callback;

	callback.callback = report_context;
	callback.arg = &firing;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	refuse_while_decoding();
	rule = find_rule(fcinfo, data, &firing);
	if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
		capture_insert(rule, data);
	else if (TRIGGER_FIRED_BY_DELETE(data->tg_event))
		capture_delete(rule, data);
	else if (rule->operations & OBX_CAPTURE_UPDATE)
		capture_update(rule, data->tg_trigslot, data->tg_newslot);

	error_context_stack = callback.previous;
	return PointerGetDatum(NULL);
}

/*
 * outbox.capture_statement(): the trigger function for TRUNCATE.
 */
Datum
obx_sql_capture_statement(PG_FUNCTION_ARGS)
{
	TriggerData *data = require_trigger(fcinfo, false);
	Firing		firing = {data->tg_relation, data->tg_trigger->tgname};
	ObxCompiledRule *rule;
	ErrorContextCallback callback;
	Emission	emission;

	callback.callback = report_context;
	callback.arg = &firing;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	refuse_while_decoding();
	rule = find_rule(fcinfo, data, &firing);
	if (!obx_row_move_covers_truncate(data->tg_trigger->tgoid, rule->source_trigger))
	{
		start_emission(&emission, rule, OBX_OPERATION_TRUNCATE);
		emission.values[OBX_EVENT_DATA] = rule->no_data;
		emission.nulls[OBX_EVENT_DATA] = false;
		obx_event_emit(emission.values, emission.nulls);
	}

	error_context_stack = callback.previous;
	return PointerGetDatum(NULL);
}
