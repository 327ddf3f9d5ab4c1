/*
 * SQL expressions that a user hands over as text.
 */
#ifndef OBX_EXPRESSION_H
#define OBX_EXPRESSION_H

#include "nodes/nodes.h"

/*
 * The one expression that the text holds, not analysed; NULL if it holds
 * something else.  Errors of syntax are raised.
 */
extern Node *obx_expression_parse(const char *text);

/* What positions in the parsed expression count from. */
extern const char *obx_expression_query(const char *text);

/*
 * For an error context callback around parsing and analysing: makes the
 * error's position point into the text alone.
 */
extern void obx_expression_point(const char *text);

#endif							/* OBX_EXPRESSION_H */
