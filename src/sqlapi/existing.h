/*
 * A subscription that is there already, against one that is asked for.
 */
#ifndef OBX_EXISTING_H
#define OBX_EXISTING_H

#include "fmgr.h"

#include "catalog/subscription.h"

typedef enum ObxIfExists
{
	OBX_IF_EXISTS_ERROR,
	OBX_IF_EXISTS_KEEP,
	OBX_IF_EXISTS_ALTER
} ObxIfExists;

/* The argument "if_exists". */
extern ObxIfExists obx_existing_argument(FunctionCallInfo fcinfo, int number);

/*
 * Changes what differs, and says so in a NOTICE; ereports where something
 * differs that cannot be changed.  "wanted" has the id and the owner of the
 * existing one, whose lock the caller holds; "function" is who asks.
 */
extern void obx_existing_alter(ObxSubscription *existing, const ObxSubscription *wanted,
							   const char *function);

#endif							/* OBX_EXISTING_H */
