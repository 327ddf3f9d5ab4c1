/*
 * What the client's statement says in a comment: its trace context.
 */
#ifndef OBX_COMMENT_H
#define OBX_COMMENT_H

#include "utils/jsonb.h"

/*
 * {"traceparent": ...} as a comment of the client's statement has it, in the
 * form of sqlcommenter; NULL if none does.  Valid until the next statement.
 */
extern Jsonb *obx_comment_headers(void);

#endif							/* OBX_COMMENT_H */
