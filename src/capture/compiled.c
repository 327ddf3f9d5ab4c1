/*
 * Rules compiled for a version of their table, and the cache of them.
 *
 * Compiling reads the trigger's argument and looks up everything that is the
 * same for all rows: columns, output functions, event types, names.  A
 * compiled rule is dropped when the relcache says that its table changed, or
 * when a schema, cast or function did, which names and output depend on.
 *
 * A callback may come at any lookup, also while a row is being encoded.  So it
 * only marks the rule as stale.  Stale rules are freed when the transaction
 * ends: no row is under way then.
 *
 * No locks: whoever fires a trigger holds one on the table.
 * Must not know events' storage.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_trigger.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "capture/capture.h"
#include "capture/compiled.h"
#include "capture/row_move.h"
#include "capture/rule_trigger.h"
#include "capture/version.h"
#include "log/event.h"

typedef struct CacheEntry
{
	Oid			trigger;		/* key */
	ObxCompiledRule *rule;
} CacheEntry;

static const char *const operation_name[OBX_OPERATION_COUNT] = {
	"insert", "update", "delete", "truncate"
};

static const char *const type_suffix[OBX_OPERATION_COUNT] = {
	"inserted", "updated", "deleted", "truncated"
};

/* The newest rule of each trigger. */
static HTAB *cache = NULL;
static ObxCompiledRule *last_found = NULL;

/* All rules in memory; stale ones may no longer be in the hash. */
static dlist_head rules = DLIST_STATIC_INIT(rules);
static bool any_stale = false;

/* Counts callbacks, so that one that comes while a rule is compiled is seen. */
static uint64 invalidations = 0;

/* ---- compiling ---- */

/*
 * The table on which the rule was made, its trigger, and what that says of the
 * table's version: a partition's trigger is a clone of the one above it.
 */
static void
find_source(Oid trigger, ObxCompiledRule *compiled)
{
	Relation	catalog = table_open(TriggerRelationId, AccessShareLock);

	while (OidIsValid(trigger))
	{
		HeapTuple	tuple = obx_rule_trigger_row(catalog, trigger);

		if (tuple == NULL)
			elog(ERROR, "could not find trigger %u", trigger);
		compiled->source_relation = ((Form_pg_trigger) GETSTRUCT(tuple))->tgrelid;
		compiled->source_trigger = trigger;
		trigger = ((Form_pg_trigger) GETSTRUCT(tuple))->tgparentid;
		if (!OidIsValid(trigger))
		{
			char	   *argument = obx_rule_argument(tuple, RelationGetDescr(catalog));

			compiled->own_headers.schema_version = obx_rule_from_json(argument)->schema_version;
		}
	}
	table_close(catalog, AccessShareLock);
}

static void
compile_names(ObxCompiledRule *compiled, const ObxRule *rule)
{
	static const ObxHeaders no_headers = {0};
	ObxHeaders *headers = &compiled->own_headers;
	char	   *source = obx_headers_relation_name(compiled->source_relation);

	compiled->name = rule->name;
	obx_event_check_source(source, strlen(source));
	compiled->source = CStringGetTextDatum(source);
	compiled->no_data = JsonbPGetDatum(obx_headers_create(&no_headers));
	if (compiled->source_relation != compiled->relation)
		headers->partition = obx_headers_relation_name(compiled->relation);
	if (headers->partition != NULL || headers->schema_version > 1)
		compiled->headers = JsonbPGetDatum(obx_headers_create(headers));

	for (int i = 0; i < OBX_OPERATION_COUNT; i++)
	{
		char	   *type = rule->type;

		if (type == NULL)
			type = psprintf("%s.%s", get_rel_name(compiled->source_relation), type_suffix[i]);
		obx_event_check_type(type, strlen(type));
		compiled->type[i] = CStringGetTextDatum(type);
		compiled->operation[i] = CStringGetTextDatum(operation_name[i]);
	}
}

static ObxComparedColumn *
compile_columns(ObxCompiledRule *compiled, TupleDesc tupdesc, AttrNumber *attnums, int count)
{
	ObxComparedColumn *columns = palloc(count * sizeof(ObxComparedColumn) + 1);

	for (int i = 0; i < count; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(tupdesc, attnums[i] - 1);

		columns[i].attnum = attnums[i];
		columns[i].by_value = attribute->attbyval;
		columns[i].length = attribute->attlen;
		compiled->last_column = Max(compiled->last_column, attnums[i]);
	}
	return columns;
}

/* A table below has the columns of the one above, maybe under other numbers. */
static void
map_columns(AttrNumber *attnums, int count, Oid from, Oid to)
{
	if (from == to)
		return;
	for (int i = 0; i < count; i++)
	{
		char	   *name = get_attname(from, attnums[i], false);

		attnums[i] = get_attnum(to, name);
		if (attnums[i] == InvalidAttrNumber)
			elog(ERROR, "partition %u has no column \"%s\"", to, name);
	}
}

static void
compile_row(ObxCompiledRule *compiled, const ObxRule *rule, Relation rel)
{
	Relation	source;
	AttrNumber *columns;
	AttrNumber *key_columns;

	/*
	 * The table above is not locked: who changes its columns has those of
	 * this one locked before, and may be waiting for it.
	 */
	source = RelationIdGetRelation(compiled->source_relation);
	if (!RelationIsValid(source))
		elog(ERROR, "could not open relation %u", compiled->source_relation);
	columns = obx_rule_columns(rule, source, &compiled->column_count);
	key_columns = obx_rule_key(rule, source, &compiled->key_count);
	RelationClose(source);

	map_columns(columns, compiled->column_count, compiled->source_relation,
				compiled->relation);
	map_columns(key_columns, compiled->key_count, compiled->source_relation,
				compiled->relation);
	compiled->columns = compile_columns(compiled, RelationGetDescr(rel), columns,
										compiled->column_count);
	compiled->key_columns = compile_columns(compiled, RelationGetDescr(rel), key_columns,
											compiled->key_count);
	compiled->encoder = obx_encoder_create(RelationGetDescr(rel), columns,
										   compiled->column_count);
	if (compiled->key_count > 0)
		compiled->key = obx_key_create(RelationGetDescr(rel), key_columns,
									   compiled->key_count);
}

/* A forged rule, whoever got it past the event triggers, emits nothing. */
static void
require_sound(Trigger *trigger)
{
	ObxRuleTrigger *stored = obx_rule_find_trigger(trigger->tgoid);
	const char *fault = stored == NULL ? "It does not call a capture function." : stored->fault;

	if (fault != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("trigger \"%s\" is not a capture rule", trigger->tgname),
				 errdetail("%s", fault),
				 errhint("Make and remove rules with outbox.capture() and outbox.uncapture().")));
}

/* In the current memory context, which becomes the rule's own. */
static ObxCompiledRule *
compile_rule(Trigger *trigger, Relation rel, const char **name)
{
	ObxCompiledRule *compiled = palloc0(sizeof(ObxCompiledRule));
	ObxRule    *rule;

	require_sound(trigger);
	rule = obx_rule_from_json(trigger->tgargs[0]);
	*name = rule->name;

	compiled->memory = CurrentMemoryContext;
	compiled->trigger = trigger->tgoid;
	compiled->relation = RelationGetRelid(rel);
	compiled->is_partition = rel->rd_rel->relispartition;
	compiled->operations = rule->operations;
	find_source(trigger->tgoid, compiled);
	compiled->old_values = rule->old_values;
	compile_names(compiled, rule);
	/* a TRUNCATE has no row, so it does not mind columns that are gone */
	if (TRIGGER_FOR_ROW(trigger->tgtype))
		compile_row(compiled, rule, rel);
	return compiled;
}

/* ---- the cache ---- */

static inline bool
fits(const ObxCompiledRule *rule, Oid trigger, Oid relation)
{
	return rule->trigger == trigger && rule->relation == relation && !rule->stale;
}

static ObxCompiledRule *
find_cached(Oid trigger, Oid relation)
{
	CacheEntry *entry;

	/* most sessions write to one table again and again */
	if (last_found != NULL && fits(last_found, trigger, relation))
		return last_found;
	if (cache == NULL)
		return NULL;
	entry = hash_search(cache, &trigger, HASH_FIND, NULL);
	if (entry == NULL || !fits(entry->rule, trigger, relation))
		return NULL;
	last_found = entry->rule;
	return last_found;
}

static void
create_cache(void)
{
	HASHCTL		control = {0};

	control.keysize = sizeof(Oid);
	control.entrysize = sizeof(CacheEntry);
	control.hcxt = CacheMemoryContext;
	cache = hash_create("pg_outbox capture rules", 32, &control,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static void
remember_rule(ObxCompiledRule *rule)
{
	CacheEntry *entry;
	bool		found;

	if (cache == NULL)
		create_cache();
	entry = hash_search(cache, &rule->trigger, HASH_ENTER, &found);
	if (found)
	{
		/* what it replaces is stale, or belongs to a dropped trigger */
		entry->rule->stale = true;
		any_stale = true;
	}
	entry->rule = rule;
	dlist_push_tail(&rules, &rule->link);
	MemoryContextSetParent(rule->memory, CacheMemoryContext);
}

ObxCompiledRule *
obx_compiled_find(Trigger *trigger, Relation rel, const char **name)
{
	ObxCompiledRule *rule = find_cached(trigger->tgoid, RelationGetRelid(rel));
	uint64		before = invalidations;
	MemoryContext memory;
	MemoryContext old;

	if (likely(rule != NULL))
		return rule;

	/* an error on the way takes the context along */
	memory = AllocSetContextCreate(CurrentMemoryContext, "pg_outbox capture rule",
								   ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(memory);
	rule = compile_rule(trigger, rel, name);
	MemoryContextSwitchTo(old);
	remember_rule(rule);
	if (invalidations != before)
		rule->stale = any_stale = true;
	return rule;
}

/* ---- invalidation ---- */

/* relcache callback: InvalidOid stands for all relations */
static void
forget_relation(Datum arg, Oid relid)
{
	dlist_iter	iter;

	invalidations++;
	dlist_foreach(iter, &rules)
	{
		ObxCompiledRule *rule = dlist_container(ObxCompiledRule, link, iter.cur);

		if (relid == InvalidOid || rule->relation == relid ||
			rule->source_relation == relid)
			rule->stale = any_stale = true;
	}
}

/* syscache callback: a schema, cast or function changed */
static void
forget_all(Datum arg, int cacheid, uint32 hash)
{
	forget_relation((Datum) 0, InvalidOid);
}

static void
free_stale_rules(void)
{
	dlist_mutable_iter iter;

	last_found = NULL;
	dlist_foreach_modify(iter, &rules)
	{
		ObxCompiledRule *rule = dlist_container(ObxCompiledRule, link, iter.cur);
		CacheEntry *entry;

		if (!rule->stale)
			continue;
		entry = hash_search(cache, &rule->trigger, HASH_FIND, NULL);
		if (entry != NULL && entry->rule == rule)
			hash_search(cache, &rule->trigger, HASH_REMOVE, NULL);
		dlist_delete(&rule->link);
		MemoryContextDelete(rule->memory);
	}
	any_stale = false;
}

static void
end_transaction(XactEvent event, void *arg)
{
	if (any_stale && (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT ||
					  event == XACT_EVENT_PREPARE))
		free_stale_rules();
}

void
obx_capture_init(void)
{
	CacheRegisterRelcacheCallback(forget_relation, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, forget_all, (Datum) 0);
	CacheRegisterSyscacheCallback(CASTSOURCETARGET, forget_all, (Datum) 0);
	CacheRegisterSyscacheCallback(PROCOID, forget_all, (Datum) 0);
	RegisterXactCallback(end_transaction, NULL);
	obx_row_move_init();
	obx_version_init();
}
