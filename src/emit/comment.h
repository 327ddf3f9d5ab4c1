/*
 * The trace context in a comment of the client's statement.
 */
#ifndef OBX_COMMENT_H
#define OBX_COMMENT_H

#include "utils/jsonb.h"

/*
 * Returns {"traceparent": ...} from a comment of the client's statement, in
 * the form of sqlcommenter, or NULL.  Valid until the next statement.
 */
extern Jsonb *obx_comment_headers(void);

#endif							/* OBX_COMMENT_H */
