/*
 * What is under way.
 */
#include "relay/flight.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define REJECTED (-1)

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

/* Those at the front that are dealt with; returns how many were confirmed. */
static int
advance(ObxBatch *batch, int64_t ticket)
{
	int			count = 0;

	while (batch->confirmed < batch->sent && batch->tickets[batch->confirmed] <= ticket)
	{
		if (batch->tickets[batch->confirmed] != REJECTED)
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

ObxBatch *
obx_flight_settle(ObxFlight *flight, bool early, ObxSettle *settle)
{
	for (ObxBatch *b = flight->first; b != NULL; b = b->next)
	{
		settle->receipt = b->handout.receipt;
		settle->position = 0;
		if (b->rejections != NULL)
		{
			settle->kind = OBX_SETTLE_NACK;
			settle->position = obx_handout_position(&b->handout, b->rejections->number);
			settle->text = b->rejections->why;
			return b;
		}
		settle->kind = OBX_SETTLE_ACK;

		/*
		 * The position makes sure that the receipt is of these events.  After
		 * a nack, the last one may have been taken back.
		 */
		if (is_dealt_with(b))
		{
			if (!b->has_nacks)
				settle->position = obx_handout_position(&b->handout, b->handout.nevents - 1);
			return b;
		}
		if (early && !b->has_nacks && b->confirmed > b->acked)
		{
			settle->position = obx_handout_position(&b->handout, b->confirmed - 1);
			return b;
		}
	}
	settle->kind = OBX_SETTLE_NOTHING;
	return NULL;
}

void
obx_flight_settled(ObxFlight *flight, ObxBatch *batch, const ObxSettle *settle)
{
	if (settle->kind == OBX_SETTLE_NACK)
	{
		batch->has_nacks = true;
		remove_rejection(batch);
	}
	else if (is_dealt_with(batch))
		obx_flight_remove(flight, batch);
	else
		batch->acked = batch->confirmed;
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
