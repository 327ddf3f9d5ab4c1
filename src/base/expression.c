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
#include "nodes/parsenodes.h"
#include "parser/parser.h"

#include "base/compat.h"
#include "base/expression.h"

#define SELECT_PREFIX "SELECT "

const char *
obx_expression_query(const char *text)
{
	return psprintf(SELECT_PREFIX "%s", text);
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
	return equal(plain, select) ? target->val : NULL;
}

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
