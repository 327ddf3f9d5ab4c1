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
 * Reads the bounds of a partition from its own catalog entries, without the
 * other partitions.  False if the relation is no partition, is the default
 * one, or is about to be detached.
 */
extern bool obx_bound_read(Oid relid, ObxPartition *partition);

/*
 * The table whose name has the latest beginning at or before a time;
 * InvalidOid if there is none near it.  A name may lie: obx_bound_read() reads
 * the bounds.
 */
extern Oid	obx_bound_guess(TimestampTz time);

/*
 * The beginning of the interval that contains the time; the interval is not 0.
 */
extern TimestampTz obx_bound_start(TimestampTz time, int64 interval);

/* An ISO 8601 timestamp in UTC, read the same under every DateStyle. */
extern char *obx_bound_format(TimestampTz time);

/* The name for a partition that begins then, if it is free. */
extern char *obx_bound_name(TimestampTz lower);

#endif							/* OBX_BOUND_H */
