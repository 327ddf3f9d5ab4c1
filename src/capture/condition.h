/*
 * A rule's condition: parsed with the rights of the table's owner and in the
 * search_path of the caller.
 */
#ifndef OBX_CONDITION_H
#define OBX_CONDITION_H

#include "nodes/pg_list.h"
#include "utils/rel.h"

typedef struct ObxCondition
{
	Node	   *expression;		/* as CREATE TRIGGER's WHEN holds it */
	List	   *range_table;	/* old and new, for recording dependencies */
	int			operations;		/* those it can serve, OBX_CAPTURE_* */
} ObxCondition;

/* ereports unless the text is one boolean expression over old and new */
extern ObxCondition *obx_condition_parse(Relation rel, const char *text);

#endif							/* OBX_CONDITION_H */
