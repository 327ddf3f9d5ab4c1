/*
 * A sink that keeps progress: the lane in the database is won first, then the
 * sink is claimed, which shuts former processes out; only then it is known what
 * the sink has, and nothing is sent before.
 *
 * A process that was shut out gives its hand-outs back, and claims again when
 * it has won the lane: so two of them do not shut each other out for ever.
 */
#include <stdlib.h>

#include "relay/state.h"

void
obx_relay_unclaim(ObxRelay *relay)
{
	relay->claimed = relay->claiming = false;
	/* what was sent and not ended is undone by the next claim */
	if (relay->flight.keeps_progress)
		relay->sealed = true;
}

/* Told in the log, and the end. */
static void
contradict(ObxRelay *relay, ObxExit code, const char *why)
{
	obx_error("%s", why);
	obx_relay_finish(relay, code);
}

void
obx_relay_take_standing(ObxRelay *relay, const ObxStanding *standing)
{
	const ObxStanding *former = &relay->standing;

	if (standing->lanes > 1)
		contradict(relay, OBX_EXIT_ERROR, "the subscription has several lanes: where the sink keeps"
				   " progress, its concurrency must be 1");
	if (standing->generation != former->generation ||
		standing->subscription != former->subscription || standing->seeks != former->seeks)
		obx_relay_unclaim(relay);
	relay->standing = *standing;
	if (standing->open == 0)
		obx_progress_remove_to(&relay->progress, standing->position);
}

void
obx_relay_note_acked(ObxRelay *relay, const ObxHandout *handout, int first, int count)
{
	int64_t    *positions;

	if (!relay->flight.keeps_progress)
		return;
	relay->standing.delivered += count - first;
	if (relay->progress.nsent == 0)
		return;
	positions = obx_allocate((count - first) * sizeof(int64_t));
	for (int i = first; i < count; i++)
		positions[i - first] = obx_handout_position(handout, i);
	obx_progress_remove(&relay->progress, positions, count - first);
	free(positions);
}

bool
obx_relay_claim(ObxRelay *relay)
{
	ObxText		key;

	if (!relay->flight.keeps_progress || relay->claimed)
		return true;
	if (relay->claiming || relay->flight.batches == 0)
		return false;
	relay->claiming = true;
	obx_text_init(&key);
	obx_text_printf(&key, "%s/%s", relay->standing.log, relay->settings.database.subscription);
	relay->settings.module->claim(relay->settings.sink, key.data);
	obx_text_free(&key);
	return false;
}

void
obx_relay_take_claim(ObxRelay *relay, const char *found)
{
	ObxText		why;
	bool		readable;

	if (!relay->claiming)
		return;
	obx_text_init(&why);
	obx_progress_clear(&relay->progress);
	readable = found == NULL || obx_progress_parse(found, &relay->progress);
	if (!readable)
		obx_text_printf(&why, "the sink's record of progress cannot be read: %s", found);
	if (!readable ||
		!obx_progress_reconcile(&relay->progress, found != NULL, &relay->standing, &why))
		contradict(relay, OBX_EXIT_PROGRESS, why.data);
	/* what was acked before the lane was won will not come */
	if (relay->standing.open == 0)
		obx_progress_remove_to(&relay->progress, relay->standing.position);
	if (!relay->finished)
		obx_log("the sink is claimed: it has events up to position %lld, of which %d are not known to be acked",
				(long long) relay->progress.position, relay->progress.nsent);
	obx_text_free(&why);
	relay->claimed = true;
	relay->claiming = false;
}

/* What the sink has once this is sent. */
static void
append_progress(ObxRelay *relay, ObxText *text)
{
	ObxProgress next = relay->progress;
	int64_t    *positions;
	int			count = obx_flight_list_sent(&relay->flight, &positions);

	next.sent = NULL;
	next.nsent = 0;
	obx_progress_add(&next, relay->progress.sent, relay->progress.nsent);
	obx_progress_add(&next, positions, count);
	for (int i = 0; i < count; i++)
		if (positions[i] > next.position)
			next.position = positions[i];
	next.delivered = relay->standing.delivered + relay->flight.events;
	relay->progress.position = next.position;
	obx_progress_append(text, &next);
	obx_progress_clear(&next);
	free(positions);
}

void
obx_relay_seal(ObxRelay *relay)
{
	ObxText		progress;

	if (relay->sealed)
		return;
	relay->sealed = true;
	if (!relay->flight.keeps_progress)
	{
		relay->settings.module->seal(relay->settings.sink, NULL);
		return;
	}
	obx_text_init(&progress);
	append_progress(relay, &progress);
	relay->settings.module->seal(relay->settings.sink, progress.data);
	obx_text_free(&progress);
}
