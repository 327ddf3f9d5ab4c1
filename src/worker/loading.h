/*
 * Leaving a log alone that is being loaded.
 */
#ifndef OBX_LOADING_H
#define OBX_LOADING_H

#include "datatype/timestamp.h"

/*
 * Is a restore at work in this database, as far as can be told?  Then *next is
 * when to look again.  Outside of a transaction.
 */
extern bool obx_loading_is_under_way(TimestampTz now, TimestampTz *next);

#endif							/* OBX_LOADING_H */
