/*
 * What is under way.
 */
#include "relay/flight.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define REJECTED (-1)
#define LEFT_OUT (-2)

void
obx_flight_add(ObxFlight *flight, const ObxHandout *handout)
{
	ObxBatch   *batch = obx_allocate(sizeof(ObxBatch));

	batch->handout = *handout;
	batch->tickets = obx_allocate(handout->nevents * sizeof(int64_t));
	if (flight->last != NULL)
		flight->last->next = batch;
	else
		flight->first = batch;
	flight->last = batch;
	flight->events += handout->nevents;
	flight->batches++;
}

bool
obx_flight_next(ObxFlight *flight, ObxBatch **batch, int *number)
{
	for (ObxBatch *b = flight->first; b != NULL; b = b->next)
	{
		/* rejected ones are not sent again */
		while (b->sent < b->handout.nevents && b->tickets[b->sent] == REJECTED)
			b->sent++;
		if (b->sent == b->handout.nevents)
			continue;
		*batch = b;
		*number = b->sent;
		return true;
	}
	return false;
}

void
obx_flight_sent(ObxFlight *flight, ObxBatch *batch)
{
	batch->tickets[batch->sent++] = ++flight->ticket;
}

void
obx_flight_leave_out(ObxFlight *flight, ObxBatch *batch)
{
	batch->tickets[batch->sent++] = LEFT_OUT;
	(void) flight;
}

int
obx_flight_list_sent(const ObxFlight *flight, int64_t * *positions)
{
	int			count = 0;

	*positions = obx_allocate(flight->events * sizeof(int64_t));
	for (const ObxBatch *b = flight->first; b != NULL; b = b->next)
		for (int i = b->acked; i < b->sent; i++)
			if (b->tickets[i] > 0)
				(*positions)[count++] = obx_handout_position(&b->handout, i);
	return count;
}

/* Those at the front that are dealt with; returns how many were confirmed. */
static int
advance(ObxBatch *batch, int64_t ticket)
{
	int			count = 0;

	while (batch->confirmed < batch->sent && batch->tickets[batch->confirmed] <= ticket)
	{
		if (batch->tickets[batch->confirmed] > 0)
			count++;
		batch->confirmed++;
	}
	return count;
}

int
obx_flight_confirm(ObxFlight *flight, int64_t ticket)
{
	int			count = 0;

	for (ObxBatch *b = flight->first; b != NULL; b = b->next)
		count += advance(b, ticket);
	return count;
}

/* Behind the others: nacks go in the order of positions. */
static void
add_rejection(ObxBatch *batch, int number, const char *why)
{
	ObxRejection *rejection = obx_allocate(sizeof(ObxRejection));
	ObxRejection **link = &batch->rejections;

	rejection->number = number;
	rejection->why = obx_copy_string(why);
	while (*link != NULL && (*link)->number < number)
		link = &(*link)->next;
	rejection->next = *link;
	*link = rejection;
}

static void
remove_rejection(ObxBatch *batch)
{
	ObxRejection *rejection = batch->rejections;

	batch->rejections = rejection->next;
	free(rejection->why);
	free(rejection);
}

bool
obx_flight_reject(ObxFlight *flight, int64_t ticket, const char *why)
{
	for (ObxBatch *b = flight->first; b != NULL; b = b->next)
		for (int i = b->confirmed; i < b->sent; i++)
			if (b->tickets[i] == ticket)
			{
				b->tickets[i] = REJECTED;
				add_rejection(b, i, why);
				return true;
			}
	return false;
}

void
obx_flight_rewind(ObxFlight *flight)
{
	for (ObxBatch *b = flight->first; b != NULL; b = b->next)
		b->sent = b->confirmed;
}

static bool
is_dealt_with(const ObxBatch *batch)
{
	return batch->confirmed == batch->handout.nevents && batch->rejections == NULL;
}

bool
obx_flight_has_nacks(const ObxFlight *flight, int64_t receipt)
{
	for (const ObxBatch *b = flight->first; b != NULL; b = b->next)
		if (b->handout.receipt == receipt && (b->has_nacks || b->rejections != NULL))
			return true;
	return false;
}

/* Is everything under the receipt dealt with? */
static bool
is_complete(const ObxFlight *flight, int64_t receipt)
{
	for (const ObxBatch *b = flight->first; b != NULL; b = b->next)
		if (b->handout.receipt == receipt && !is_dealt_with(b))
			return false;
	return true;
}

/* Does this batch alone stand under its receipt? */
static bool
is_alone(const ObxFlight *flight, const ObxBatch *batch)
{
	for (const ObxBatch *b = flight->first; b != NULL; b = b->next)
		if (b != batch && b->handout.receipt == batch->handout.receipt)
			return false;
	return true;
}

/*
 * Behind a rejected event, nothing was sent: what was before it is acked first,
 * and what is behind it is given back later.
 */
static bool
settle_prefix(ObxBatch *batch, ObxSettle *settle)
{
	int			number = batch->rejections->number;

	if (batch->confirmed < number)
		return false;
	settle->receipt = batch->handout.receipt;
	settle->kind = batch->acked < number ? OBX_SETTLE_ACK : OBX_SETTLE_NACK;
	if (batch->acked < number)
	{
		settle->handout = &batch->handout;
		settle->first = batch->acked;
		settle->count = number;
		return true;
	}
	settle->position = obx_handout_position(&batch->handout, number);
	settle->text = batch->rejections->why;
	return true;
}

/*
 * Positions make sure that the receipt is of these events.  After a nack, which
 * takes back others of its key, it is not known which are still ours: then
 * all that is left is acked, once all is dealt with.
 */
static bool
settle_batch(const ObxFlight *flight, ObxBatch *batch, bool early, ObxSettle *settle)
{
	if (flight->keeps_progress && batch->rejections != NULL)
		return settle_prefix(batch, settle);
	settle->receipt = batch->handout.receipt;
	if (batch->rejections != NULL)
	{
		settle->kind = OBX_SETTLE_NACK;
		settle->position = obx_handout_position(&batch->handout, batch->rejections->number);
		settle->text = batch->rejections->why;
		return true;
	}
	settle->kind = OBX_SETTLE_ACK;
	if (!flight->keeps_progress && obx_flight_has_nacks(flight, settle->receipt))
		return is_complete(flight, settle->receipt);
	if (!is_dealt_with(batch) && (!early || batch->confirmed == batch->acked))
		return false;
	if (is_dealt_with(batch) && batch->acked == 0 && is_alone(flight, batch))
		settle->position = obx_handout_position(&batch->handout, batch->handout.nevents - 1);
	else
	{
		settle->handout = &batch->handout;
		settle->first = batch->acked;
		settle->count = batch->confirmed;
	}
	return true;
}

ObxBatch *
obx_flight_settle(ObxFlight *flight, bool early, ObxSettle *settle)
{
	for (ObxBatch *b = flight->first; b != NULL; b = b->next)
	{
		memset(settle, 0, sizeof(*settle));
		if (settle_batch(flight, b, early, settle))
			return b;
	}
	memset(settle, 0, sizeof(*settle));
	return NULL;
}

void
obx_flight_settled(ObxFlight *flight, ObxBatch *batch, const ObxSettle *settle)
{
	if (settle->kind == OBX_SETTLE_NACK)
	{
		batch->has_nacks = true;
		if (flight->keeps_progress)
			batch->acked = batch->rejections->number + 1;
		remove_rejection(batch);
		if (batch->acked == batch->handout.nevents)
			obx_flight_remove(flight, batch);
	}
	else if (settle->kind == OBX_SETTLE_ACK && settle->handout == NULL && settle->position == 0)
	{
		int64_t		receipt = settle->receipt;

		for (ObxBatch *b = flight->first; b != NULL;)
		{
			ObxBatch   *next = b->next;

			if (b->handout.receipt == receipt)
				obx_flight_remove(flight, b);
			b = next;
		}
	}
	else if (settle->kind == OBX_SETTLE_ACK)
	{
		batch->acked = settle->handout != NULL ? settle->count : batch->handout.nevents;
		if (batch->acked == batch->handout.nevents)
			obx_flight_remove(flight, batch);
	}
}

bool
obx_flight_is_quiet(const ObxFlight *flight)
{
	for (const ObxBatch *b = flight->first; b != NULL; b = b->next)
		if (b->confirmed < b->sent || b->acked < b->confirmed || b->rejections != NULL ||
			(b->has_nacks && !flight->keeps_progress))
			return false;
	return true;
}

int
obx_flight_receipts(const ObxFlight *flight, int64_t * smallest)
{
	int			count = 0;
	int			fewest = 0;

	*smallest = 0;
	for (const ObxBatch *b = flight->first; b != NULL; b = b->next)
	{
		int			events = 0;
		bool		seen = false;

		for (const ObxBatch *other = flight->first; other != NULL; other = other->next)
			if (other->handout.receipt == b->handout.receipt)
			{
				events += other->handout.nevents;
				if (other == b)
					seen = events > b->handout.nevents;
			}
		if (seen)
			continue;
		count++;
		if (*smallest == 0 || events < fewest)
		{
			*smallest = b->handout.receipt;
			fewest = events;
		}
	}
	return count;
}

void
obx_flight_extend(ObxFlight *flight, int64_t receipt, int64_t expires)
{
	for (ObxBatch *b = flight->first; b != NULL; b = b->next)
		if (b->handout.receipt == receipt)
			b->handout.expires = expires;
}

void
obx_flight_remove(ObxFlight *flight, ObxBatch *batch)
{
	ObxBatch  **link = &flight->first;
	ObxBatch   *former = NULL;

	while (*link != batch)
	{
		former = *link;
		link = &(*link)->next;
	}
	*link = batch->next;
	if (flight->last == batch)
		flight->last = former;
	flight->events -= batch->handout.nevents;
	flight->batches--;
	PQclear(batch->handout.rows);
	free(batch->tickets);
	while (batch->rejections != NULL)
		remove_rejection(batch);
	free(batch);
}

void
obx_flight_clear(ObxFlight *flight)
{
	while (flight->first != NULL)
		obx_flight_remove(flight, flight->first);
}
