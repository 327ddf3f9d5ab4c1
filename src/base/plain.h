/*
 * The roles whose code an expression runs.
 */
#ifndef OBX_PLAIN_H
#define OBX_PLAIN_H

#include "nodes/nodes.h"

/*
 * Does the expression run nothing but immutable functions of PostgreSQL's own,
 * on types of PostgreSQL's own?  Then it does and yields the same for every
 * role, search_path and session, and may be evaluated as anybody.  To be asked
 * of the analysed expression and, "planned", of what planning has made of it,
 * for that puts the bodies of SQL functions in their place.
 */
extern bool obx_expression_is_plain(Node *expression, bool planned);

/*
 * Raises an error if the analysed expression uses temporary objects.  "subject"
 * names it, as in "a filter".
 */
extern void obx_expression_refuse_temporary(Node *expression, const char *subject);

#endif							/* OBX_PLAIN_H */
