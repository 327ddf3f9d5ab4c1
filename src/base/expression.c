/*
 * SQL expressions that a user hands over as text.
 *
 * The text is parsed as the one target of a SELECT and must be nothing more,
 * so that nothing can be smuggled in behind it.
 *
 * Must not know what the expression is for.
 */
#include "postgres.h"

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parse_clause.h"
#include "parser/parse_collate.h"
#include "parser/parser.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

#include "base/compat.h"
#include "base/error.h"
#include "base/expression.h"
#include "base/plain.h"

#define SELECT_PREFIX "SELECT "

/* ---- what text means ---- */

typedef struct Setting
{
	const char *name;
	const char *value;
} Setting;

static const Setting reading[] = {
	{"standard_conforming_strings", "on"},
	{"transform_null_equals", "off"},
	{"array_nulls", "on"},
	{"xmloption", "content"},
};

/* The constants in it are as these have it. */
static const Setting made[] = {
	{"DateStyle", "ISO"},
	{"IntervalStyle", "postgres"},
	{"extra_float_digits", "3"},
	{"lc_monetary", "C"},
};

static void
apply(const Setting *settings, int count)
{
	for (int i = 0; i < count; i++)
		(void) set_config_option(settings[i].name, settings[i].value, PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

int
obx_expression_begin(bool is_made)
{
	int			nest_level = NewGUCNestLevel();

	apply(reading, lengthof(reading));
	if (is_made)
		apply(made, lengthof(made));
	return nest_level;
}

void
obx_expression_end(int nest_level)
{
	AtEOXact_GUC(false, nest_level);
}

/* ---- parsing ---- */

const char *
obx_expression_query(const char *text)
{
	return psprintf(SELECT_PREFIX "%s", text);
}

/* The grammar has it for the target of a SELECT; the analysis of a WHERE dies of it. */
static bool
is_star(Node *target)
{
	return IsA(target, ColumnRef) && IsA(linitial(((ColumnRef *) target)->fields), A_Star);
}

Node *
obx_expression_parse(const char *text)
{
	List	   *statements = obx_raw_parser(obx_expression_query(text));
	SelectStmt *select;
	SelectStmt *plain = makeNode(SelectStmt);
	ResTarget  *target;

	if (list_length(statements) != 1)
		return NULL;
	select = (SelectStmt *) linitial_node(RawStmt, statements)->stmt;
	if (!IsA(select, SelectStmt) || list_length(select->targetList) != 1)
		return NULL;
	target = linitial_node(ResTarget, select->targetList);
	if (target->name != NULL || target->indirection != NIL)
		return NULL;

	/* a statement that has nothing but this target */
	plain->targetList = select->targetList;
	plain->limitOption = select->limitOption;
	return equal(plain, select) && !is_star(target->val) ? target->val : NULL;
}

/* ---- analysis ---- */

/* Of what, and for whom. */
typedef struct Check
{
	const ObxExpressionKind *kind;
	Oid			owner;
} Check;

/* For check_functions_in_node: may the owner call it? */
static bool
is_forbidden(Oid function, void *arg)
{
	const Check *check = arg;

	if (obx_object_aclcheck(ProcedureRelationId, function, check->owner,
							ACL_EXECUTE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" may not execute function %s",
						GetUserNameFromId(check->owner, true), get_func_name(function)),
				 errdetail("%s runs with the rights of %s.",
						   check->kind->sentence, check->kind->runs_as),
				 errhint("Grant EXECUTE on the function to the role.")));
	return false;
}

static bool
check_node(Node *node, void *arg)
{
	const Check *check = arg;

	if (node == NULL)
		return false;
	if (IsA(node, Var) && ((Var *) node)->varattno < 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s cannot use system columns", check->kind->subject),
				 errhint("The columns of an event are those of outbox.event.")));
	(void) check_functions_in_node(node, is_forbidden, arg);
	return expression_tree_walker(node, check_node, arg);
}

static Node *
analyze(ParseState *pstate, const char *text, const ObxExpressionKind *kind, Oid owner)
{
	Check		check = {.kind = kind,.owner = owner};
	Node	   *raw = obx_expression_parse(text);
	Node	   *expression;

	if (raw == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("%s is not one expression", kind->name)));
	pstate->p_sourcetext = obx_expression_query(text);
	expression = transformWhereClause(pstate, raw, EXPR_KIND_WHERE, kind->name);
	if (pstate->p_hasSubLinks)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s cannot have subqueries", kind->subject),
				 errhint("Let a function look elsewhere, and call it in the %s.", kind->name)));
	assign_expr_collations(pstate, expression);
	(void) check_node(expression, &check);
	obx_expression_refuse_temporary(expression, kind->subject);
	return expression;
}

/* Most of the parser's errors have neither a detail nor a hint. */
Node *
obx_expression_analyze(ParseState *pstate, const char *text, const ObxExpressionKind *kind,
					   Oid owner)
{
	MemoryContext context = CurrentMemoryContext;
	Node	   *expression = NULL;

	PG_TRY();
	{
		int			nest_level = obx_expression_begin(false);

		expression = analyze(pstate, text, kind, owner);
		obx_expression_end(nest_level);
	}
	PG_CATCH();
	{
		obx_error_advise(context,
						 psprintf("%s is a boolean expression over %s.", kind->sentence,
								  kind->over),
						 psprintf("Write what could stand in a WHERE, such as: %s.",
								  kind->example));
	}
	PG_END_TRY();
	return expression;
}

/* ---- errors ---- */

void
obx_expression_point(const char *text)
{
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(Max(position - (int) strlen(SELECT_PREFIX), 1));
		internalerrquery(text);
	}
}
