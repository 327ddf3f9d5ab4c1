/*
 * Contracts: conditions that the data of a type's events must fulfil.
 *
 * A contract is checked in the emitting session, which may belong to any role,
 * but another role wrote it.  So it is evaluated like the expression of an
 * index: as the role that registered it, in a security-restricted operation,
 * with that role's search_path and with temporary objects last.  Its names
 * were resolved at registration, and the stored text has them qualified.  A
 * contract of PostgreSQL's own immutable functions, as most are, gives the
 * same result for every role, and is evaluated directly.
 *
 * Each session keeps the registered types, and prepares their contracts when
 * it first needs them.  An invalidation of the table discards everything; an
 * invalidation of any function, type or role discards the prepared contracts
 * that are not plain.  While a contract is checked, no event can be emitted,
 * so nothing in use is ever discarded.
 *
 * Must not know the emitting code.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"

#include "base/compat.h"
#include "base/error.h"
#include "base/expression.h"
#include "base/guard.h"
#include "base/identity.h"
#include "base/plain.h"
#include "catalog/names.h"
#include "catalog/namespace.h"
#include "emit/contract.h"
#include "executor/executor.h"
#include "log/event.h"
#include "log/find.h"
#include "log/read.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

/* What names in a stored contract are looked up in. */
#define QUALIFIED_PATH "pg_catalog, pg_temp"

typedef struct Contract
{
	char		type[OBX_TYPE_MAX_LENGTH + 1];	/* the key */
	const ObxRegisteredType *row;
	MemoryContext parent;		/* of the next */
	MemoryContext memory;		/* holds what follows; NULL: not prepared */
	uint64		age;			/* what "staleness" was then */
	ExprState  *state;
	ExprContext *context;
	TupleTableSlot *slot;
	bool		is_plain;		/* the same for every role and search_path */
} Contract;

bool		obx_contract_none = false;

/* what the session knows */
static MemoryContext memory = NULL; /* holds it */
static HTAB *contracts = NULL;	/* by type; NULL: not loaded */
static Oid	types_table = InvalidOid;	/* that they were loaded from */
static uint64 changes = 0;		/* counts invalidations of it */
static uint64 staleness = 0;	/* counts those of functions, types and roles */
static bool is_checking = false;

static const ObxExpressionKind contract_kind = {
	.name = "contract",
	.subject = "a contract",
	.sentence = "A contract",
	.runs_as = "the role that registers it",
	.over = "\"data\"",
	.example = "jsonb_typeof(data->'amount') = 'number'"
};

static void
report_contract(void *arg)
{
	const ObxRegisteredType *row = arg;

	obx_expression_point(row->contract);
	errcontext("contract of event type \"%s\"", row->type);
}

static void
report_stored_contract(void *arg)
{
	const ObxRegisteredType *row = arg;

	obx_expression_point(row->expression);
	errcontext("contract of event type \"%s\"", row->type);
}

static void
set_path(const char *path)
{
	(void) set_config_option("search_path", path, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
}

/* ---- analysis ---- */

/* For expression_tree_walker: a contract knows the data alone. */
static bool
refuse_others(Node *node, void *arg)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var) && ((Var *) node)->varattno != OBX_EVENT_DATA + 1)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a contract can only use \"data\""),
				 errdetail("It says what the data of every event of a type must be."),
				 errhint("Put what is to be checked into the data.")));
	return expression_tree_walker(node, refuse_others, arg);
}

static char *
deparse(Node *expression)
{
	List	   *event = deparse_context_for("event", obx_object_require(OBX_EVENT));
	int			nest_level = obx_expression_begin(true);
	char	   *text;

	set_path(QUALIFIED_PATH);
	text = deparse_expression(expression, event, false, false);

	obx_expression_end(nest_level);
	return text;
}

char *
obx_contract_qualify(const char *type, const char *contract)
{
	ObxRegisteredType row = {
		.type = unconstify(char *, type),
		.contract = unconstify(char *, contract)
	};
	ErrorContextCallback callback = {
		.previous = error_context_stack,
		.callback = report_contract,
		.arg = &row
	};
	ObxIdentity former;
	Node	   *expression;
	char	   *qualified;

	error_context_stack = &callback;
	/* reading a constant can run code of the owner of its type */
	obx_identity_assume_path(&former, GetUserId(), namespace_search_path);
	expression = obx_event_analyze(contract, &contract_kind, GetUserId());
	(void) refuse_others(expression, NULL);
	qualified = deparse(expression);
	obx_identity_restore(&former);
	error_context_stack = callback.previous;
	return qualified;
}

/* ---- whose session it is ---- */

static void
become_registrar(ObxIdentity *producer, const ObxRegisteredType *row, const char *path)
{
	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(row->registered_by)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the role that registered event type \"%s\" does not exist any more",
						row->type),
				 errdetail("Contracts are checked with its rights."),
				 errhint("Register the type again, as another role.")));
	obx_identity_assume_path(producer, row->registered_by, path);
}

/* ---- preparing ---- */

/* Into memory of its own, which an error takes along. */
static void
prepare_contract(Contract *contract)
{
	ErrorContextCallback callback = {
		.previous = error_context_stack,
		.callback = report_stored_contract,
		.arg = unconstify(ObxRegisteredType *, contract->row)
	};
	Relation	log = table_open(obx_object_require(OBX_EVENT), AccessShareLock);
	MemoryContext own = AllocSetContextCreate(CurrentMemoryContext, "pg_outbox contract",
											  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(own);
	uint64		age = staleness;
	ObxIdentity producer;
	Node	   *expression;
	Node	   *planned;

	error_context_stack = &callback;
	become_registrar(&producer, contract->row, QUALIFIED_PATH);
	(void) obx_expression_begin(true);
	expression = obx_event_analyze(contract->row->expression, &contract_kind,
								   contract->row->registered_by);
	contract->is_plain = obx_expression_is_plain(expression, false);
	planned = (Node *) expression_planner((Expr *) expression);
	contract->is_plain = contract->is_plain && obx_expression_is_plain(planned, true);
	contract->state = ExecInitExpr((Expr *) planned, NULL);
	contract->context = CreateStandaloneExprContext();
	contract->slot = MakeSingleTupleTableSlot(CreateTupleDescCopy(RelationGetDescr(log)),
											  &TTSOpsVirtual);
	memset(contract->slot->tts_isnull, true, OBX_EVENT_COLUMNS * sizeof(bool));
	contract->age = age;
	contract->memory = own;
	MemoryContextSetParent(own, contract->parent);
	MemoryContextSwitchTo(old);
	obx_identity_restore(&producer);
	error_context_stack = callback.previous;
	table_close(log, AccessShareLock);
}

/* A plain contract does not go stale. */
static void
require_prepared(Contract *contract)
{
	if (contract->memory != NULL && !contract->is_plain && contract->age != staleness)
	{
		MemoryContextDelete(contract->memory);
		contract->memory = NULL;
	}
	if (contract->memory == NULL)
		prepare_contract(contract);
}

/* ---- checking ---- */

/* False for NULL, too, which is told apart by *is_null. */
static bool
evaluate(Contract *contract, Datum data, bool *is_null)
{
	TupleTableSlot *slot = contract->slot;
	Datum		value;

	ResetExprContext(contract->context);
	ExecClearTuple(slot);
	slot->tts_values[OBX_EVENT_DATA] = data;
	slot->tts_isnull[OBX_EVENT_DATA] = false;
	ExecStoreVirtualTuple(slot);
	contract->context->ecxt_scantuple = slot;
	value = ExecEvalExprSwitchContext(contract->state, contract->context, is_null);
	return !*is_null && DatumGetBool(value);
}

static bool
evaluate_as_registrar(Contract *contract, Datum data, bool *is_null)
{
	ObxIdentity producer;
	bool		has_snapshot = ActiveSnapshotSet();
	bool		result;

	become_registrar(&producer, contract->row, contract->row->search_path);

	/* deferred triggers and background workers may have none */
	if (!has_snapshot)
		PushActiveSnapshot(GetTransactionSnapshot());
	result = evaluate(contract, data, is_null);
	if (!has_snapshot)
		PopActiveSnapshot();
	obx_identity_restore(&producer);
	return result;
}

/* Errors that the contract raises are raised. */
static bool
is_kept(Contract *contract, Datum data, bool *is_null)
{
	ErrorContextCallback callback = {
		.previous = error_context_stack,
		.callback = report_stored_contract,
		.arg = unconstify(ObxRegisteredType *, contract->row)
	};
	bool		result = false;

	is_checking = true;
	PG_TRY();
	{
		require_prepared(contract);
		error_context_stack = &callback;
		result = contract->is_plain ? evaluate(contract, data, is_null) :
			evaluate_as_registrar(contract, data, is_null);
	}
	PG_FINALLY();
	{
		is_checking = false;
	}
	PG_END_TRY();
	error_context_stack = callback.previous;
	return result;
}

/* ---- the session's knowledge ---- */

/* relcache callback: InvalidOid stands for all relations */
static void
note_change(Datum arg, Oid relid)
{
	if (OidIsValid(relid) && relid != types_table)
		return;
	changes++;
	obx_contract_none = false;
}

/* syscache callback */
static void
note_stale(Datum arg, int cacheid, uint32 hashvalue)
{
	staleness++;
}

static void
load_types(void)
{
	HASHCTL		info = {
		.keysize = sizeof(((Contract *) NULL)->type),
		.entrysize = sizeof(Contract),
	};
	HTAB	   *table;
	List	   *rows;
	ListCell   *lc;
	MemoryContext old;

	if (memory == NULL)
		memory = AllocSetContextCreate(TopMemoryContext, "pg_outbox contracts",
									   ALLOCSET_DEFAULT_SIZES);
	contracts = NULL;
	MemoryContextReset(memory);
	types_table = obx_object_require(OBX_REGISTERED_TYPE);
	info.hcxt = memory;
	table = hash_create("pg_outbox contracts", 64, &info, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	old = MemoryContextSwitchTo(memory);
	rows = obx_registered_type_list();
	MemoryContextSwitchTo(old);
	foreach(lc, rows)
	{
		ObxRegisteredType *row = lfirst(lc);
		Contract   *contract = hash_search(table, row->type, HASH_ENTER, NULL);

		contract->row = row;
		contract->parent = memory;
		contract->memory = NULL;
	}
	contracts = table;
}

/*
 * News that come while they are loaded are of changes since then.  They
 * concern the next event: to load again at once might never end.
 */
static void
require_types(void)
{
	static uint64 loaded = 0;

	if (contracts != NULL && loaded == changes)
		return;
	loaded = changes;
	load_types();
	obx_contract_none = loaded == changes && hash_get_num_entries(contracts) == 0;
}

static Contract *
find_contract(Datum type)
{
	text	   *name = DatumGetTextPP(type);
	char		key[OBX_TYPE_MAX_LENGTH + 1];
	int			length = Min(VARSIZE_ANY_EXHDR(name), OBX_TYPE_MAX_LENGTH);

	memcpy(key, VARDATA_ANY(name), length);
	key[length] = '\0';
	return hash_search(contracts, key, HASH_FIND, NULL);
}

static void
report_breach(const ObxRegisteredType *row, bool is_null)
{
	ereport(ERROR,
			(errcode(OBX_ERRCODE_BREACH),
			 errmsg("event of type \"%s\" breaches its contract: %s", row->type, row->contract),
			 errdetail("The contract is %s for the event's data.", is_null ? "null" : "false"),
			 errhint("The view outbox.event_type has the contract of each type.")));
}

void
obx_contract_require(Datum type, Datum data)
{
	Contract   *contract;
	bool		is_null;

	if (is_checking)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("an event cannot be emitted by a contract"),
				 errdetail("A contract only says whether an event may be emitted."),
				 errhint("Let the contract call functions that change nothing.")));
	require_types();
	contract = find_contract(type);
	if (contract == NULL)
	{
		if (obx_strict_types)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("event type \"%s\" is not registered", TextDatumGetCString(type)),
					 errdetail("outbox.strict_types is on: only events of registered types can be emitted."),
					 errhint("Register it with outbox.register_type().")));
	}
	else if (contract->row->contract != NULL && !is_kept(contract, data, &is_null))
		report_breach(contract->row, is_null);
}

void
obx_contract_init(void)
{
	CacheRegisterRelcacheCallback(note_change, (Datum) 0);
	CacheRegisterSyscacheCallback(PROCOID, note_stale, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, note_stale, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, note_stale, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, note_stale, (Datum) 0);
}

/* ---- events that are there ---- */

typedef struct Count
{
	Contract	contract;
	const char *type;
	Datum		data;			/* of the event at hand */
	bool		is_kept;		/* by it */
	int			left;			/* how many more are to be looked at */
	int64		breaches;
} Count;

static void
check_one(void *arg)
{
	Count	   *count = arg;
	bool		is_null;

	count->is_kept = is_kept(&count->contract, count->data, &is_null);
}

/* ObxEventVisitor */
static bool
count_breach(TupleTableSlot *slot, void *arg)
{
	Count	   *count = arg;
	bool		isnull;
	text	   *type = DatumGetTextPP(slot_getattr(slot, OBX_EVENT_TYPE + 1, &isnull));
	ErrorData  *error;

	if (VARSIZE_ANY_EXHDR(type) != strlen(count->type) ||
		memcmp(VARDATA_ANY(type), count->type, strlen(count->type)) != 0)
		return true;
	count->data = slot_getattr(slot, OBX_EVENT_DATA + 1, &isnull);
	error = obx_guard_call(check_one, count, CurrentMemoryContext);
	if (error != NULL || !count->is_kept)
		count->breaches++;
	if (error != NULL)
		FreeErrorData(error);
	return --count->left > 0;
}

int64
obx_contract_count_breaches(const ObxRegisteredType *type, int limit, int64 among)
{
	Count		count = {
		.contract.row = type,
		.contract.parent = CurrentMemoryContext,
		.type = type->type,
		.left = limit
	};

	/* an error in here is one of the contract, and not of an event */
	prepare_contract(&count.contract);
	obx_event_visit_newest(GetActiveSnapshot(), among, count_breach, &count);
	return count.breaches;
}
