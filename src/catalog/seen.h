/*
 * Rows of outbox.seen_*: what was done and must not be done again.
 */
#ifndef OBX_SEEN_H
#define OBX_SEEN_H

#include "datatype/timestamp.h"

/* Tables that are written to in turn; turn n is that of table n % OBX_SEEN_TABLES. */
#define OBX_SEEN_TABLES 3

/* Identifies what was done. */
typedef struct ObxSeenKey
{
	Datum		consumer;		/* text; empty for a publisher's key */
	Datum		key;			/* text */
} ObxSeenKey;

/* The current turn, and when the last ones were sealed. */
typedef struct ObxSeenTurns
{
	int64		current;

	/*
	 * [i] is of turn current - i: nothing in it is newer, and no open
	 * transaction has written to it.  DT_NOEND: not sealed.
	 */
	TimestampTz sealed_at[OBX_SEEN_TABLES];
} ObxSeenTurns;

/* What is known of a key. */
typedef struct ObxSeen
{
	bool		found;			/* committed, or of this transaction */
	bool		in_snapshot;	/* found, and the transaction's snapshot sees
								 * it */
	int64		event_id;
	TimestampTz time;			/* of the first use */
	TransactionId writer;		/* not found: an open transaction that used
								 * it, or invalid */
} ObxSeen;

extern Oid	obx_seen_table(int64 turn);

/* As committed, or written by this transaction, now. */
extern void obx_seen_read_turns(ObxSeenTurns *turns);

/*
 * Looks for uses of the key after "since" in that turn's table, as they are
 * now, and adds what it finds to *seen.  Keeps no lock.
 */
extern void obx_seen_find(int64 turn, const ObxSeenKey *key, TimestampTz since, ObxSeen *seen);

/* The time of the first row of that turn's table; false if it has none. */
extern bool obx_seen_first_time(int64 turn, TimestampTz *time);

extern void obx_seen_insert(int64 turn, const ObxSeenKey *key, int64 event_id,
							TimestampTz time);

/* sealed_at DT_NOEND: the turn begins. */
extern void obx_seen_insert_turn(int64 turn, TimestampTz sealed_at);
extern void obx_seen_delete_turns_before(int64 turn);

#endif							/* OBX_SEEN_H */
