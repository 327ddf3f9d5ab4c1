/*
 * The properties of a subscription, from arguments.
 */
#ifndef OBX_OPTIONS_H
#define OBX_OPTIONS_H

#include "fmgr.h"

#include "catalog/subscription.h"

/* The function whose arguments are read; the value shifts the numbers of those after "filter". */
typedef enum ObxOptions
{
	OBX_OPTIONS_ALTER = 0,		/* alter_subscription(): NULL is unchanged */
	OBX_OPTIONS_NEW = 1			/* subscribe() */
} ObxOptions;

/*
 * Checks the arguments and fills them in.  Owner and search_path are there
 * already, and to alter one, all the rest.
 */
extern void obx_options_fill(FunctionCallInfo fcinfo, ObxOptions mode,
							 ObxSubscription *subscription);

/* Refuses types of an aggregate that match what it emits. */
extern void obx_options_check_types(const ObxSubscription *subscription);

/* ereports if the role that owns it was dropped */
extern void obx_options_require_owner(const ObxSubscription *subscription);

/* ereports unless the caller may run code as the owner of a subscription */
extern void obx_options_require_set_role(Oid owner);

/* Servers before 17 need LOGIN of the owner: a warning, where it has none. */
extern void obx_options_warn_owner(Oid owner);

#endif							/* OBX_OPTIONS_H */
