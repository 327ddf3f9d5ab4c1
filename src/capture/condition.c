/*
 * A rule's condition.
 *
 * It becomes the WHEN of the rule's trigger, so PostgreSQL tests it before a
 * row is even queued.  It is parsed here and not by CREATE TRIGGER for two
 * reasons: its names must be looked up in the caller's search_path, as the
 * table's owner, while the trigger is made as somebody else; and what it says of old and new decides which
 * operations the rule can serve.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"
#include "optimizer/optimizer.h"
#include "parser/parse_clause.h"
#include "parser/parse_collate.h"
#include "parser/parse_node.h"
#include "parser/parse_relation.h"
#include "rewrite/prs2lock.h"

#include "base/compat.h"
#include "base/error.h"
#include "base/expression.h"
#include "base/identity.h"
#include "base/plain.h"
#include "capture/condition.h"
#include "capture/rule.h"

/* Makes the error's position point into the condition alone. */
static void
report_position(void *arg)
{
	obx_expression_point(arg);
	errcontext("condition of a capture rule");
}

static void
report_no_expression(const char *text)
{
	ereport(ERROR,
			(errcode(ERRCODE_SYNTAX_ERROR),
			 errmsg("condition is not one expression"),
			 errdetail("The condition is: %s", text),
			 errhint("Write what could stand in a trigger's WHEN, such as: new.status = 'paid'.")));
}

/* Which operations can the condition serve?  By what it mentions. */
static int
list_operations(Node *expression)
{
	int			operations = OBX_CAPTURE_ROWS;
	ListCell   *lc;

	/* WHEN has no subselects, so nothing is hidden from this */
	foreach(lc, pull_var_clause(expression, 0))
	{
		Var		   *var = lfirst_node(Var, lc);

		if (var->varno == PRS2_OLD_VARNO)
			operations &= ~OBX_CAPTURE_INSERT;
		else if (var->varno == PRS2_NEW_VARNO)
			operations &= ~OBX_CAPTURE_DELETE;
		else
			elog(ERROR, "condition refers to relation %d", (int) var->varno);
	}
	return operations;
}

static void
add_row(ParseState *pstate, Relation rel, const char *name)
{
	addNSItemToQuery(pstate,
					 addRangeTableEntryForRelation(pstate, rel, AccessShareLock,
												   makeAlias(name, NIL), false, false),
					 false, true, true);
}

static ObxCondition *
analyze_expression(Relation rel, const char *text)
{
	Node	   *raw = obx_expression_parse(text);
	ParseState *pstate = make_parsestate(NULL);
	ObxCondition *condition = palloc(sizeof(ObxCondition));

	if (raw == NULL)
		report_no_expression(text);
	pstate->p_sourcetext = obx_expression_query(text);
	/* old has to be 1 and new 2 */
	add_row(pstate, rel, "old");
	add_row(pstate, rel, "new");
	condition->expression = transformWhereClause(pstate, raw, EXPR_KIND_TRIGGER_WHEN, "WHEN");
	assign_expr_collations(pstate, condition->expression);
	obx_expression_refuse_temporary(condition->expression, "a condition");
	condition->range_table = pstate->p_rtable;
	condition->operations = list_operations(condition->expression);
	return condition;
}

ObxCondition *
obx_condition_parse(Relation rel, const char *text)
{
	MemoryContext caller = CurrentMemoryContext;
	ErrorContextCallback callback;
	ObxCondition *condition = NULL;
	ObxIdentity former;

	callback.callback = report_position;
	callback.arg = unconstify(char *, text);
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	PG_TRY();
	{
		/* reading a constant can run code of the owner of its type */
		obx_identity_assume_path(&former, rel->rd_rel->relowner, namespace_search_path);
		(void) obx_expression_begin(false);
		condition = analyze_expression(rel, text);
		obx_identity_restore(&former);
	}
	PG_CATCH();
	{
		obx_error_advise(caller, psprintf("The condition is: %s", text),
						 "A condition is what could stand in a trigger's WHEN: a boolean expression over old and new, such as: new.status = 'paid'.");
	}
	PG_END_TRY();

	error_context_stack = callback.previous;
	return condition;
}
