/*
 * What is under way: hand-outs, and which of their events were sent and
 * confirmed.
 *
 * Events are sent in the order in which they were handed out, each under a
 * ticket of its own, which rises.  When the sink forgets, those that are not
 * confirmed are sent again under new tickets.
 */
#ifndef OBX_BIN_FLIGHT_H
#define OBX_BIN_FLIGHT_H

#include <stdbool.h>
#include <stdint.h>

#include "database/client.h"

typedef struct ObxRejection
{
	struct ObxRejection *next;
	int			number;			/* of the event in its batch */
	char	   *why;
} ObxRejection;

typedef struct ObxBatch
{
	struct ObxBatch *next;
	ObxHandout	handout;
	int64_t    *tickets;		/* of the events that were sent; -1: rejected */
	int			sent;			/* how many, from the first on */
	int			confirmed;		/* likewise; rejected ones count */
	int			acked;			/* of the confirmed ones */
	struct ObxRejection *rejections;	/* events to be nacked */
	bool		has_nacks;
} ObxBatch;

typedef struct ObxFlight
{
	ObxBatch   *first;
	ObxBatch   *last;
	int			events;			/* of all batches */
	int			batches;
	int64_t		ticket;			/* the last one given */

	/*
	 * The sink keeps progress: behind a rejected event nothing is sent under
	 * its receipt, so that what a nack takes back was not sent.
	 */
	bool		keeps_progress;
} ObxFlight;

extern void obx_flight_add(ObxFlight *flight, const ObxHandout *handout);

/* The next event to be sent; false if there is none.  *number is its place. */
extern bool obx_flight_next(ObxFlight *flight, ObxBatch **batch, int *number);

/* It was taken by the sink, under the ticket after the last one. */
extern void obx_flight_sent(ObxFlight *flight, ObxBatch *batch);

/* It need not be sent: the sink has it. */
extern void obx_flight_leave_out(ObxFlight *flight, ObxBatch *batch);

/*
 * Positions that were sent, and are not acked: in the order of sending, in
 * memory of the caller's; returns their number.
 */
extern int	obx_flight_list_sent(const ObxFlight *flight, int64_t * *positions);

/* Everything up to the ticket is confirmed; returns how many events that is. */
extern int	obx_flight_confirm(ObxFlight *flight, int64_t ticket);

/* The event of this ticket is rejected; false if it is not known any more. */
extern bool obx_flight_reject(ObxFlight *flight, int64_t ticket, const char *why);

/* What is not confirmed is to be sent again. */
extern void obx_flight_rewind(ObxFlight *flight);

/*
 * What can be told to the database now: of a batch that is dealt with, or, if
 * "early", of a part of one.  Returns its batch, or NULL.
 */
extern ObxBatch *obx_flight_settle(ObxFlight *flight, bool early, ObxSettle *settle);

/* The database has taken it; what is dealt with is removed. */
extern void obx_flight_settled(ObxFlight *flight, ObxBatch *batch, const ObxSettle *settle);

/* Is everything that was sent confirmed, and that acked? */
extern bool obx_flight_is_quiet(const ObxFlight *flight);

/* How many receipts there are, and that of the fewest events. */
extern int	obx_flight_receipts(const ObxFlight *flight, int64_t * smallest);

/* The lease of all that stands under the receipt ends then. */
extern void obx_flight_extend(ObxFlight *flight, int64_t receipt, int64_t expires);

/* Has any of them events that were rejected?  Then nothing may be added to it. */
extern bool obx_flight_has_nacks(const ObxFlight *flight, int64_t receipt);

extern void obx_flight_remove(ObxFlight *flight, ObxBatch *batch);
extern void obx_flight_clear(ObxFlight *flight);

#endif							/* OBX_BIN_FLIGHT_H */
