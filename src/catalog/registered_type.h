/*
 * Rows of outbox.registered_type.
 */
#ifndef OBX_REGISTERED_TYPE_H
#define OBX_REGISTERED_TYPE_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* An event type that somebody registered; strings live where it was read into. */
typedef struct ObxRegisteredType
{
	char	   *type;
	char	   *contract;		/* as it was written; NULL for none */
	char	   *expression;		/* the same with every name qualified */
	char	   *description;	/* NULL for none */
	Oid			registered_by;
	char	   *search_path;	/* for the functions that the contract calls */
	TimestampTz registered_at;
} ObxRegisteredType;

/* NULL when there is none; read with a new snapshot, into CurrentMemoryContext. */
extern ObxRegisteredType *obx_registered_type_find(const char *type);

/* All of them, by type. */
extern List *obx_registered_type_list(void);

/*
 * Nobody else registers until the transaction ends; then every session hears
 * of what was written.
 */
extern void obx_registered_type_lock(void);

/* Inserts, or replaces the one of the same type. */
extern void obx_registered_type_put(const ObxRegisteredType *type);

/* False if there is none. */
extern bool obx_registered_type_delete(const char *type);

/*
 * The types of owner.h that stand for event types got another owner, or were
 * dropped: the rows follow.  The last function is for a restore, which has
 * loaded both.
 */
extern void obx_registered_type_follow_owners(void);
extern bool obx_registered_type_follow_drop(const char *type);
extern void obx_registered_type_restore_owners(void);

#endif							/* OBX_REGISTERED_TYPE_H */
