/*
 * The roles whose code an expression runs.
 *
 * An expression that one role wrote and another evaluates is safe where it runs
 * nothing but PostgreSQL's own code.  Code of users hides behind more than
 * functions: a domain's constraints, the casts of a composite type, an operator
 * that an array's comparison finds by the type of the elements.  So the
 * judgement is a list of what is known to be harmless: kinds of nodes whose
 * every function can be seen, with types and collations that initdb made from
 * PostgreSQL's own catalogs.  Whatever a later version adds is foreign until
 * it is listed here.
 *
 * Must not know what the expression is for.
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_language.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_ts_config.h"
#include "catalog/pg_ts_dict.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "nodes/primnodes.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/plain.h"

/* Types whose values name objects, which may be anybody's. */
static const struct
{
	Oid			type;
	Oid			class;
	int			cache;
}			references[] =

{
	{REGPROCOID, ProcedureRelationId, PROCOID},
	{REGPROCEDUREOID, ProcedureRelationId, PROCOID},
	{REGOPEROID, OperatorRelationId, OPEROID},
	{REGOPERATOROID, OperatorRelationId, OPEROID},
	{REGCLASSOID, RelationRelationId, RELOID},
	{REGTYPEOID, TypeRelationId, TYPEOID},
	{REGCOLLATIONOID, CollationRelationId, COLLOID},
	{REGCONFIGOID, TSConfigRelationId, TSCONFIGOID},
	{REGDICTIONARYOID, TSDictionaryRelationId, TSDICTOID},
	{REGNAMESPACEOID, NamespaceRelationId, NAMESPACEOID},
	{REGROLEOID, InvalidOid, 0},
};

/* The type's number in there, -1 for others. */
static int
find_reference(Oid type)
{
	for (int i = 0; i < lengthof(references); i++)
		if (references[i].type == type)
			return i;
	return -1;
}

/* Parts of expressions that are none themselves, so they have no type. */
static bool
has_no_type(Node *node)
{
	return IsA(node, List) || IsA(node, CaseWhen);
}

/* ---- PostgreSQL's own ---- */

/*
 * Below are the objects whose numbers are written down in PostgreSQL's
 * catalogs; above, those of information_schema too, which stand in SQL.
 */
static bool
is_own(Oid object)
{
	return object < FirstGenbkiObjectId;
}

static bool
is_own_type(Oid type)
{
	Oid			element;

	if (!is_own(type) || find_reference(type) >= 0)
		return false;
	element = get_element_type(type);
	if (OidIsValid(element))
		return is_own_type(element);
	switch (get_typtype(type))
	{
		case TYPTYPE_COMPOSITE:
		case TYPTYPE_DOMAIN:
		case TYPTYPE_ENUM:
		case TYPTYPE_PSEUDO:
			return false;
		default:
			return true;
	}
}

static bool
is_internal(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	bool		result = HeapTupleIsValid(tuple) &&
	((Form_pg_proc) GETSTRUCT(tuple))->prolang == INTERNALlanguageId;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return result;
}

/*
 * For check_functions_in_node.  What runs SQL that it is given or finds, reads
 * files or changes anything is not immutable.
 */
static bool
is_foreign_function(Oid function, void *arg)
{
	bool		planned = *(bool *) arg;

	return !is_own(function) || func_volatile(function) != PROVOLATILE_IMMUTABLE ||
		(planned && !is_internal(function));
}

static bool
is_harmless_kind(Node *node)
{
	switch (nodeTag(node))
	{
		case T_List:
		case T_Const:
		case T_Var:
		case T_Param:
		case T_FuncExpr:
		case T_NamedArgExpr:
		case T_OpExpr:
		case T_DistinctExpr:
		case T_NullIfExpr:
		case T_ScalarArrayOpExpr:
		case T_BoolExpr:
		case T_NullTest:
		case T_BooleanTest:
		case T_CaseExpr:
		case T_CaseWhen:
		case T_CaseTestExpr:
		case T_CoalesceExpr:
		case T_MinMaxExpr:
		case T_SubscriptingRef:
		case T_RelabelType:
		case T_CollateExpr:
		case T_CoerceViaIO:
		case T_ArrayCoerceExpr:
		case T_ArrayExpr:
			return true;
		default:
			return false;
	}
}

static bool
finds_foreign(Node *node, void *arg)
{
	if (node == NULL)
		return false;
	if (!is_harmless_kind(node))
		return true;
	if (!has_no_type(node) &&
		(!is_own_type(exprType(node)) || !is_own(exprCollation(node)) ||
		 !is_own(exprInputCollation(node))))
		return true;
	if (check_functions_in_node(node, is_foreign_function, arg))
		return true;
	return expression_tree_walker(node, finds_foreign, arg);
}

bool
obx_expression_is_plain(Node *expression, bool planned)
{
	return !finds_foreign(expression, &planned);
}

/* ---- temporary objects ---- */

static bool
is_temporary(Oid class, Oid object)
{
	ObjectAddress address;

	if (object < FirstNormalObjectId)
		return false;
	ObjectAddressSet(address, class, object);
	return isAnyTempNamespace(get_object_namespace(&address));
}

static bool
is_temporary_function(Oid function, void *arg)
{
	return is_temporary(ProcedureRelationId, function);
}

static bool
is_temporary_reference(const Const * constant)
{
	int			number = find_reference(constant->consttype);
	Oid			object;

	if (number < 0 || constant->constisnull || !OidIsValid(references[number].class))
		return false;
	object = DatumGetObjectId(constant->constvalue);
	if (references[number].class == NamespaceRelationId)
		return isAnyTempNamespace(object);
	return SearchSysCacheExists1(references[number].cache, ObjectIdGetDatum(object)) &&
		is_temporary(references[number].class, object);
}

/* The operator that the node names, next to the function that it calls. */
static Oid
find_operator(Node *node)
{
	switch (nodeTag(node))
	{
		case T_OpExpr:
		case T_DistinctExpr:
		case T_NullIfExpr:
			return ((OpExpr *) node)->opno;
		case T_ScalarArrayOpExpr:
			return ((ScalarArrayOpExpr *) node)->opno;
		default:
			return InvalidOid;
	}
}

static bool
names_temporary(Node *node)
{
	if (check_functions_in_node(node, is_temporary_function, NULL) ||
		is_temporary(OperatorRelationId, find_operator(node)))
		return true;
	if (IsA(node, RowCompareExpr))
	{
		ListCell   *lc;

		foreach(lc, ((RowCompareExpr *) node)->opnos)
			if (is_temporary(OperatorRelationId, lfirst_oid(lc)))
			return true;
	}
	if (IsA(node, Const) && is_temporary_reference((Const *) node))
		return true;
	return !has_no_type(node) &&
		(is_temporary(TypeRelationId, exprType(node)) ||
		 is_temporary(CollationRelationId, exprCollation(node)));
}

static bool
refuse_temporary(Node *node, void *arg)
{
	const char *subject = arg;

	if (node == NULL)
		return false;
	if (names_temporary(node))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s cannot use temporary objects", subject),
				 errdetail("Other sessions have other ones, or none."),
				 errhint("Use functions and types that stay.")));
	return expression_tree_walker(node, refuse_temporary, arg);
}

void
obx_expression_refuse_temporary(Node *expression, const char *subject)
{
	(void) refuse_temporary(expression, unconstify(char *, subject));
}
