/*
 * Differences between PostgreSQL 13 and 19.
 *
 * The only file that asks for PG_VERSION_NUM.  Everything here gives the rest
 * of the code the newest spelling of an interface, or a name of ours where the
 * spellings cannot be reconciled.
 */
#ifndef OBX_COMPAT_H
#define OBX_COMPAT_H

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "common/jsonapi.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/bufmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

#if PG_VERSION_NUM < 130000
#error "pg_outbox needs PostgreSQL 13 or newer"
#endif

/*
 * Making a jsonb object or array, token by token: the last token finishes it.
 * The state begins with all zeroes; it became a struct in 19.
 */
#if PG_VERSION_NUM >= 190000
typedef JsonbInState ObxJsonState;

#define obx_json_push(state, token, value) pushJsonbValue((state), (token), (value))

static inline Jsonb *
obx_json_finish(ObxJsonState * state, JsonbIteratorToken token)
{
	pushJsonbValue(state, token, NULL);
	return JsonbValueToJsonb(state->result);
}
#else
typedef JsonbParseState *ObxJsonState;

#define obx_json_push(state, token, value) ((void) pushJsonbValue((state), (token), (value)))
#define obx_json_finish(state, token) \
	JsonbValueToJsonb(pushJsonbValue((state), (token), NULL))
#endif

/* Variable-length values moved from postgres.h into a header of their own in 16. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* OIDs of catalog indexes stand beside their catalogs from 14 on. */
#if PG_VERSION_NUM < 140000
#include "catalog/indexing.h"
#endif

/* Constants for functions are named after their C functions before 14. */
#if PG_VERSION_NUM < 140000
#define F_TIMESTAMPTZ_EQ F_TIMESTAMP_EQ
#define F_TIMESTAMPTZ_GE F_TIMESTAMP_GE
#define F_TIMESTAMPTZ_GT F_TIMESTAMP_GT
#define F_TIMESTAMPTZ_LT F_TIMESTAMP_LT
#endif

/* Hash tables with keys that are strings had to be told apart by no flag before 14. */
#if PG_VERSION_NUM < 140000
#define HASH_STRINGS 0
#endif

/* pg_ltoa() and pg_lltoa() return the length of what they wrote from 14 on. */
#if PG_VERSION_NUM >= 140000
#define obx_ltoa(value, out) pg_ltoa((value), (out))
#define obx_lltoa(value, out) pg_lltoa((value), (out))
#else
#include "utils/builtins.h"
static inline int
obx_ltoa(int32 value, char *out)
{
	pg_ltoa(value, out);
	return strlen(out);
}

static inline int
obx_lltoa(int64 value, char *out)
{
	pg_lltoa(value, out);
	return strlen(out);
}
#endif

/* Wait events moved from pgstat.h into a header of their own in 14. */
#if PG_VERSION_NUM >= 140000
#include "utils/wait_event.h"
#endif

/* Is this process a background worker?  A variable before 17. */
#if PG_VERSION_NUM >= 170000
#define obx_is_background_worker() AmBackgroundWorkerProcess()
#else
#define obx_is_background_worker() IsBackgroundWorker
#endif

/* LockHeldByMe() learned to ask for stronger modes, too, in 17. */
#if PG_VERSION_NUM >= 170000
#define obx_lock_is_held(tag, mode) LockHeldByMe((tag), (mode), false)
#else
#define obx_lock_is_held(tag, mode) LockHeldByMe((tag), (mode))
#endif

/* index_insert() learned indexUnchanged in 14. */
#if PG_VERSION_NUM >= 140000
#define obx_index_insert(index, values, isnull, tid, heap, unique, info) \
	index_insert((index), (values), (isnull), (tid), (heap), (unique), false, (info))
#else
#define obx_index_insert(index, values, isnull, tid, heap, unique, info) \
	index_insert((index), (values), (isnull), (tid), (heap), (unique), (info))
#endif

/* What an index keeps from one insertion to the next must be released from 17 on. */
#if PG_VERSION_NUM >= 170000
#define obx_index_insert_cleanup(index, info) index_insert_cleanup((index), (info))
#else
#define obx_index_insert_cleanup(index, info) ((void) 0)
#endif

/*
 * nbtree's descent to the leaf page of a key, which it returns locked
 * exclusively.  It takes the table from 16 on, takes no snapshot from 17 on, and
 * returns a stack, which nobody here needs, only when asked from 19 on.
 */
#if PG_VERSION_NUM >= 190000
#define obx_bt_search(index, heap, key, buffer) \
	((void) _bt_search((index), (heap), (key), (buffer), BT_WRITE, false))
#else
#if PG_VERSION_NUM >= 170000
#define obx_bt_search_stack(index, heap, key, buffer) \
	_bt_search((index), (heap), (key), (buffer), BT_WRITE)
#elif PG_VERSION_NUM >= 160000
#define obx_bt_search_stack(index, heap, key, buffer) \
	_bt_search((index), (heap), (key), (buffer), BT_WRITE, NULL)
#else
#define obx_bt_search_stack(index, heap, key, buffer) \
	_bt_search((index), (key), (buffer), BT_WRITE, NULL)
#endif
#define obx_bt_search(index, heap, key, buffer) \
	do { \
		BTStack stack_ = obx_bt_search_stack((index), (heap), (key), (buffer)); \
		if (stack_) \
			_bt_freestack(stack_); \
	} while (0)
#endif

/* The item of PageAddItem() is untyped from 19 on. */
#if PG_VERSION_NUM >= 190000
#define obx_page_add_item(page, item, size, offset) \
	PageAddItem((page), (item), (size), (offset), false, false)
#else
#define obx_page_add_item(page, item, size, offset) \
	PageAddItem((page), (Item) (item), (size), (offset), false, false)
#endif

/*
 * A WAL record of a sequence says which; the name changed in 16, and the record
 * has a header of its own from 19 on.
 */
#if PG_VERSION_NUM >= 190000
#include "commands/sequence_xlog.h"
#endif
#if PG_VERSION_NUM >= 160000
#define obx_sequence_record_set(record, rel) ((record)->locator = (rel)->rd_locator)
#else
#define obx_sequence_record_set(record, rel) ((record)->node = (rel)->rd_node)
#endif

/*
 * A page that was met before is found again without a lookup from 14 on; the
 * type that names a relation's file was renamed in 16.
 */
#if PG_VERSION_NUM >= 160000
typedef RelFileLocator ObxFile;
#define obx_file_of(rel) ((rel)->rd_locator)
#else
typedef RelFileNode ObxFile;
#define obx_file_of(rel) ((rel)->rd_node)
#endif
#if PG_VERSION_NUM >= 140000
#define obx_read_recent(file, block, buffer) \
	(BufferIsValid(buffer) && ReadRecentBuffer((file), MAIN_FORKNUM, (block), (buffer)))
#else
#define obx_read_recent(file, block, buffer) ((void) (file), false)
#endif

/* RelationGetPartitionDesc() learned omit_detached in 14. */
#if PG_VERSION_NUM >= 140000
#define obx_partition_desc(rel) RelationGetPartitionDesc((rel), true)
#else
#define obx_partition_desc(rel) RelationGetPartitionDesc(rel)
#endif

/* DETACH PARTITION CONCURRENTLY, which takes two transactions, came in 14. */
#if PG_VERSION_NUM >= 140000
#define obx_is_being_detached(tuple) (((Form_pg_inherits) GETSTRUCT(tuple))->inhdetachpending)
#else
#define obx_is_being_detached(tuple) false
#endif

/* table_beginscan() and table_tuple_delete() learned flags in 19. */
#if PG_VERSION_NUM >= 190000
#define obx_table_beginscan(table, snapshot) \
	table_beginscan((table), (snapshot), 0, NULL, SO_NONE)
#define obx_table_tuple_delete(table, tid, snapshot, wait, failure) \
	table_tuple_delete((table), (tid), GetCurrentCommandId(true), 0, (snapshot), \
					   InvalidSnapshot, (wait), (failure))
#else
#define obx_table_beginscan(table, snapshot) \
	table_beginscan((table), (snapshot), 0, NULL)
#define obx_table_tuple_delete(table, tid, snapshot, wait, failure) \
	table_tuple_delete((table), (tid), GetCurrentCommandId(true), (snapshot), \
					   InvalidSnapshot, (wait), (failure), false)
#endif

/* index_beginscan() learned instrumentation in 18, and flags in 19. */
#if PG_VERSION_NUM >= 190000
#define obx_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan((heap), (index), (snapshot), NULL, (nkeys), 0, SO_NONE)
#elif PG_VERSION_NUM >= 180000
#define obx_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan((heap), (index), (snapshot), NULL, (nkeys), 0)
#else
#define obx_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan((heap), (index), (snapshot), (nkeys), 0)
#endif

/* A random number from 0 to below 1; the generator changed in 15. */
#if PG_VERSION_NUM >= 150000
#include "common/pg_prng.h"
#define obx_random() pg_prng_double(&pg_global_prng_state)
#else
#define obx_random() ((double) random() / ((double) MAX_RANDOM_VALUE + 1.0))
#endif

/* The timeline that this primary writes; a variable before 15. */
#if PG_VERSION_NUM >= 150000
#define obx_timeline() GetWALInsertionTimeLine()
#else
#define obx_timeline() (RecoveryInProgress() ? 0 : ThisTimeLineID)
#endif

/* int64_to_numeric() came in 14. */
#if PG_VERSION_NUM < 140000
#define int64_to_numeric(value) \
	DatumGetNumeric(DirectFunctionCall1(int8_numeric, Int64GetDatum(value)))
#endif

/* GetOldestXmin() became GetOldestNonRemovableTransactionId() in 14. */
#if PG_VERSION_NUM >= 140000
#define obx_oldest_xmin(rel) GetOldestNonRemovableTransactionId(rel)
#else
#define obx_oldest_xmin(rel) GetOldestXmin((rel), PROCARRAY_FLAGS_VACUUM)
#endif

/* object_aclcheck() replaced the per-catalog functions in 16. */
#if PG_VERSION_NUM < 160000
static inline AclResult
obx_object_aclcheck(Oid classid, Oid objectid, Oid roleid, AclMode mode)
{
	switch (classid)
	{
		case ProcedureRelationId:
			return pg_proc_aclcheck(objectid, roleid, mode);
		case NamespaceRelationId:
			return pg_namespace_aclcheck(objectid, roleid, mode);
		case DatabaseRelationId:
			return pg_database_aclcheck(objectid, roleid, mode);
		default:
			elog(ERROR, "unexpected object class %u", classid);
	}
	return ACLCHECK_NO_PRIV;	/* keep the compiler quiet */
}

#define obx_class_ownercheck(relid, roleid) pg_class_ownercheck((relid), (roleid))
#define obx_proc_ownercheck(procid, roleid) pg_proc_ownercheck((procid), (roleid))
#define obx_namespace_ownercheck(schema, roleid) pg_namespace_ownercheck((schema), (roleid))
#define obx_database_ownercheck(database, roleid) pg_database_ownercheck((database), (roleid))
#define obx_extension_ownercheck(extension, roleid) \
	pg_extension_ownercheck((extension), (roleid))
#else
#define obx_object_aclcheck(classid, objectid, roleid, mode) \
	object_aclcheck((classid), (objectid), (roleid), (mode))
#define obx_class_ownercheck(relid, roleid) \
	object_ownercheck(RelationRelationId, (relid), (roleid))
#define obx_proc_ownercheck(procid, roleid) \
	object_ownercheck(ProcedureRelationId, (procid), (roleid))
#define obx_namespace_ownercheck(schema, roleid) \
	object_ownercheck(NamespaceRelationId, (schema), (roleid))
#define obx_database_ownercheck(database, roleid) \
	object_ownercheck(DatabaseRelationId, (database), (roleid))
#define obx_extension_ownercheck(extension, roleid) \
	object_ownercheck(ExtensionRelationId, (extension), (roleid))
#endif

/*
 * May a role's objects be given to another role, or code that runs as it be
 * written for it?  From 16 on a membership can come without this right.
 */
#if PG_VERSION_NUM >= 160000
#define obx_can_act_as(member, role) member_can_set_role((member), (role))
#else
#define obx_can_act_as(member, role) has_privs_of_role((member), (role))
#endif

/* The hook's readOnlyTree argument came in 14. */
#if PG_VERSION_NUM >= 140000
#define OBX_UTILITY_PARAMETERS \
	PlannedStmt *pstmt, const char *queryString, bool readOnlyTree, \
	ProcessUtilityContext context, ParamListInfo params, \
	QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc
#define OBX_UTILITY_ARGUMENTS \
	pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc
#else
#define OBX_UTILITY_PARAMETERS \
	PlannedStmt *pstmt, const char *queryString, \
	ProcessUtilityContext context, ParamListInfo params, \
	QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc
#define OBX_UTILITY_ARGUMENTS \
	pstmt, queryString, context, params, queryEnv, dest, qc
#endif

/* getObjectDescription() learned missing_ok in 14. */
#if PG_VERSION_NUM >= 140000
#define obx_object_describe(object) getObjectDescription((object), true)
#else
#define obx_object_describe(object) getObjectDescription((object))
#endif

/* ProcessUtility() learned readOnlyTree in 14. */
#if PG_VERSION_NUM >= 140000
#define obx_process_utility(statement, text, context) \
	ProcessUtility((statement), (text), false, (context), NULL, NULL, None_Receiver, NULL)
#else
#define obx_process_utility(statement, text, context) \
	ProcessUtility((statement), (text), (context), NULL, NULL, None_Receiver, NULL)
#endif

/* shmem_request_hook came in 15: before, room is asked for in _PG_init. */
#if PG_VERSION_NUM >= 150000
#define OBX_HAS_SHMEM_REQUEST_HOOK 1
#endif

/* MarkGUCPrefixReserved() replaced EmitWarningsOnPlaceholders() in 15. */
#if PG_VERSION_NUM < 150000
#define MarkGUCPrefixReserved(prefix) EmitWarningsOnPlaceholders(prefix)
#endif

/* Processes are found by ProcNumber from 17 on, by pgprocno before. */
#if PG_VERSION_NUM >= 170000
#define obx_my_procno() ((int) MyProcNumber)
#define obx_proc_backend_id(proc) ((proc)->vxid.procNumber)
#define obx_my_lxid() (MyProc->vxid.lxid)
#else
#define obx_my_procno() (MyProc->pgprocno)
#define obx_proc_backend_id(proc) ((proc)->backendId)
#define obx_my_lxid() (MyProc->lxid)
#endif

/* A role that may not log in can have workers from 17 on. */
#ifdef BGWORKER_BYPASS_ROLELOGINCHECK
#define OBX_WORKER_CONNECT_FLAGS BGWORKER_BYPASS_ROLELOGINCHECK
#define OBX_WORKER_NEEDS_LOGIN false
#else
#define OBX_WORKER_CONNECT_FLAGS 0
#define OBX_WORKER_NEEDS_LOGIN true
#endif

/* The JSON parser's context may lie on the stack, and comes first, from 17 on. */
static inline bool
obx_json_is_valid(char *text)
{
#if PG_VERSION_NUM >= 170000
	JsonLexContext *lex = makeJsonLexContextCstringLen(NULL, text, strlen(text),
													   GetDatabaseEncoding(), true);
#else
	JsonLexContext *lex = makeJsonLexContextCstringLen(text, strlen(text),
													   GetDatabaseEncoding(), true);
#endif

	return pg_parse_json(lex, &nullSemAction) == JSON_SUCCESS;
}

/* InitMaterializedSRF() came in 15. */
#if PG_VERSION_NUM < 150000
static inline void
InitMaterializedSRF(FunctionCallInfo fcinfo, bits32 flags)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext context;

	if (result == NULL || !IsA(result, ReturnSetInfo) ||
		(result->allowedModes & SFRM_Materialize) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("set-valued function called in context that cannot accept a set")));

	context = MemoryContextSwitchTo(result->econtext->ecxt_per_query_memory);
	if (get_call_result_type(fcinfo, NULL, &result->setDesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	result->setDesc = CreateTupleDescCopy(result->setDesc);
	result->returnMode = SFRM_Materialize;
	result->setResult = tuplestore_begin_heap(true, false, work_mem);
	MemoryContextSwitchTo(context);
}
#endif

/* stringToQualifiedNameList() learned soft errors in 16. */
#if PG_VERSION_NUM >= 160000
#define obx_name_list(string) stringToQualifiedNameList((string), NULL)
#else
#define obx_name_list(string) stringToQualifiedNameList(string)
#endif

/* The spelling of 18, before the declaration. */
#ifndef pg_noreturn
#define pg_noreturn pg_attribute_noreturn()
#endif

/* Wait events with a name of our own came in 17. */
#if PG_VERSION_NUM >= 170000
#define obx_wait_event(name) WaitEventExtensionNew(name)
#else
#define obx_wait_event(name) PG_WAIT_EXTENSION
#endif

/* The parser's modes came in 14. */
#if PG_VERSION_NUM >= 140000
#define obx_raw_parser(text) raw_parser((text), RAW_PARSE_DEFAULT)
#else
#define obx_raw_parser(text) raw_parser((text))
#endif

/* Columns that are computed when they are read came in 18. */
#if PG_VERSION_NUM >= 180000
#define obx_attribute_is_virtual(attribute) \
	((attribute)->attgenerated == ATTRIBUTE_GENERATED_VIRTUAL)
#else
#define obx_attribute_is_virtual(attribute) ((void) (attribute), false)
#endif

/* A backend's flags moved from PGXACT to PGPROC in 14. */
#if PG_VERSION_NUM >= 140000
#define obx_is_decoding() ((MyProc->statusFlags & PROC_IN_LOGICAL_DECODING) != 0)
#else
#define obx_is_decoding() ((MyPgXact->vacuumFlags & PROC_IN_LOGICAL_DECODING) != 0)
#endif

/* In the range table, a statement's first target; not positive if it has none. */
#if PG_VERSION_NUM >= 190000
#define obx_statement_target(statement) \
	bms_next_member((statement)->resultRelationRelids, -1)
#else
#define obx_statement_target(statement) \
	((statement)->resultRelations != NIL ? linitial_int((statement)->resultRelations) : 0)
#endif

/* Foreign tables can have triggers for TRUNCATE from 16 on. */
#if PG_VERSION_NUM >= 160000
#define obx_can_have_truncate_trigger(relkind) ((void) (relkind), true)
#else
#define obx_can_have_truncate_trigger(relkind) ((relkind) != RELKIND_FOREIGN_TABLE)
#endif

#endif							/* OBX_COMPAT_H */
