/*
 * Leaving a log alone that is being loaded.
 */
#ifndef OBX_LOADING_H
#define OBX_LOADING_H

#include "datatype/timestamp.h"

typedef enum ObxLoading
{
	OBX_LOADING_NONE,			/* no event was emitted, and none loaded: a
								 * load may begin at any moment */
	OBX_LOADING_UNDER_WAY,		/* as far as can be told */
	OBX_LOADING_OVER			/* nothing can be loaded any more, or nothing
								 * more is expected */
} ObxLoading;

/*
 * Is a restore at work in this database?  Until that is over, this process
 * leaves a loaded log as it is: what would have to change it fails.  *next is
 * when to look again, while it is under way.  Outside of a transaction.
 */
extern ObxLoading obx_loading_look(TimestampTz now, TimestampTz *next);

#endif							/* OBX_LOADING_H */
