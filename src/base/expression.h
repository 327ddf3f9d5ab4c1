/*
 * SQL expressions that a user hands over as text.
 */
#ifndef OBX_EXPRESSION_H
#define OBX_EXPRESSION_H

#include "parser/parse_node.h"

/* What an expression is, in messages. */
typedef struct ObxExpressionKind
{
	const char *name;			/* "filter" */
	const char *subject;		/* "a filter" */
	const char *sentence;		/* "A filter" */
	const char *runs_as;		/* "the subscription's owner" */
	const char *over;			/* "the columns of outbox.event" */
	const char *example;
} ObxExpressionKind;

/*
 * Whose session reads a text must not change what it means: a backslash in a
 * string, or "= NULL".  Between these, the settings that decide it are
 * PostgreSQL's defaults.  For text that we have made from an expression, those
 * by which constants are written and read are fixed, too.  After an error, the
 * end of the (sub)transaction ends it.
 */
extern int	obx_expression_begin(bool is_made);
extern void obx_expression_end(int nest_level);

/*
 * The one expression that the text holds, not analysed; NULL if it holds
 * something else.  Errors of syntax are raised.
 */
extern Node *obx_expression_parse(const char *text);

/* What positions in the parsed expression count from. */
extern const char *obx_expression_query(const char *text);

/*
 * The text as a boolean expression, analysed with the names that pstate knows,
 * in the current search_path.  Raises an error if it is none, has subqueries or
 * system columns, uses temporary objects, or names a function that the owner may
 * not call.
 */
extern Node *obx_expression_analyze(ParseState *pstate, const char *text,
									const ObxExpressionKind *kind, Oid owner);

/*
 * For an error context callback around parsing and analysing: makes the
 * error's position point into the text alone.
 */
extern void obx_expression_point(const char *text);

#endif							/* OBX_EXPRESSION_H */
