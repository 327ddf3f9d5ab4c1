/*
 * The bounds of one partition of the log: what they are, and how they are
 * written.
 */
#ifndef OBX_BOUND_H
#define OBX_BOUND_H

#include "datatype/timestamp.h"

/* A partition of outbox.event with its bounds; the default one has neither. */
typedef struct ObxPartition
{
	Oid			relid;
	bool		is_default;
	TimestampTz lower;			/* inclusive */
	TimestampTz upper;			/* exclusive */
} ObxPartition;

/*
 * Describes a partition by its own entries in the catalogs, whatever others
 * there are.  False if the relation is none, or the default one, or about to
 * be detached.
 */
extern bool obx_bound_read(Oid relid, ObxPartition *partition);

/*
 * The table whose name says that it begins last at or before a time, InvalidOid
 * if there is none at hand.  Names say what they want: obx_bound_read() tells.
 */
extern Oid	obx_bound_guess(TimestampTz time);

/* Where the interval begins that the time lies in; the interval is not 0. */
extern TimestampTz obx_bound_start(TimestampTz time, int64 interval);

/* An ISO 8601 timestamp in UTC, read the same under every DateStyle. */
extern char *obx_bound_format(TimestampTz time);

/* The name that a partition is given that begins then, if it is free. */
extern char *obx_bound_name(TimestampTz lower);

#endif							/* OBX_BOUND_H */
