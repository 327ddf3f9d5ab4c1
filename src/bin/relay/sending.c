/*
 * The sink's side of the loop: connecting, sending in order, and what the
 * sink's verdicts mean.
 */
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

#include "relay/state.h"

/* Then the database has its turn. */
#define MOST_ROUNDS 20

/* ---- what is not ours any more ---- */

static void
forget_sent(ObxRelay *relay)
{
	obx_relay_unclaim(relay);
	if (relay->sink_up)
		relay->settings.module->forget(relay->settings.sink);
	obx_flight_rewind(&relay->flight);
	relay->formed = 0;
}

void
obx_relay_drop(ObxRelay *relay, ObxBatch *batch)
{
	bool		sent = batch->confirmed < batch->sent;

	if (relay->settling == batch)
		relay->settling = NULL;
	/* what it has of these counts again */
	if (batch->confirmed > batch->acked)
		obx_relay_unclaim(relay);
	relay->formed = 0;
	obx_flight_remove(&relay->flight, batch);
	if (sent)
		forget_sent(relay);
}

void
obx_relay_drop_receipt(ObxRelay *relay, int64_t receipt)
{
	for (ObxBatch *batch = relay->flight.first; batch != NULL;)
	{
		ObxBatch   *next = batch->next;

		if (batch->handout.receipt == receipt)
			obx_relay_drop(relay, batch);
		batch = next;
	}
}

void
obx_relay_drop_all(ObxRelay *relay)
{
	relay->settling = NULL;
	forget_sent(relay);
	obx_flight_clear(&relay->flight);
}

void
obx_relay_expire(ObxRelay *relay)
{
	int64_t		now = obx_now();

	for (ObxBatch *batch = relay->flight.first; batch != NULL;)
	{
		ObxBatch   *next = batch->next;

		/* what is dealt with is told in any case, unless we are about to go */
		if (now > batch->handout.expires && batch != relay->settling &&
			(batch->confirmed < batch->handout.nevents || relay->draining))
		{
			obx_warn("the lease ran out with %d of %d events confirmed: the others will come again",
					 batch->confirmed, batch->handout.nevents);
			relay->counters.expired++;
			obx_relay_drop(relay, batch);
			obx_relay_unclaim(relay);
		}
		batch = next;
	}
}

/* ---- verdicts ---- */

static void
take_failure(ObxRelay *relay, const ObxSinkResult *result)
{
	bool		refused = result->verdict == OBX_REFUSED || result->verdict == OBX_GONE;

	if (strcmp(relay->sink_error, result->text) != 0)
		obx_warn("sink %s: %s", relay->settings.module->name, result->text);
	snprintf(relay->sink_error, sizeof(relay->sink_error), "%s", result->text);
	relay->counters.sink_failures++;
	relay->sink_up = relay->sink_connecting = relay->sink_held = false;
	obx_relay_unclaim(relay);
	relay->giving_back = relay->giving_back || result->verdict == OBX_FENCED;
	relay->sink_refused = refused;
	obx_flight_rewind(&relay->flight);
	relay->formed = 0;
	if (refused)
		obx_backoff_refuse(&relay->sink_backoff);
	else
		obx_backoff_fail(&relay->sink_backoff);
	if (relay->mode == OBX_RELAY_CHECK)
		obx_relay_finish(relay, OBX_EXIT_REFUSED);
	else if (result->verdict == OBX_GONE || (refused && relay->mode == OBX_RELAY_ONCE))
	{
		/* what is under way goes back first: another one may have it at once */
		relay->exit = OBX_EXIT_REFUSED;
		relay->draining = true;
	}
	if (relay->exit == OBX_EXIT_REFUSED)
		obx_error("sink %s: %s", relay->settings.module->name, result->text);
}

/* What was sent stands, so that it stays ours, and is waited for. */
static void
take_hold(ObxRelay *relay, const ObxSinkResult *result)
{
	obx_warn("sink %s: %s", relay->settings.module->name, result->text);
	snprintf(relay->sink_error, sizeof(relay->sink_error), "%s", result->text);
	relay->sink_held = true;
}

static void
take_release(ObxRelay *relay)
{
	obx_log("sink %s takes events again", relay->settings.module->name);
	relay->sink_error[0] = '\0';
	relay->sink_held = false;
}

/* The sink is still there, and claimed. */
static void
take_again(ObxRelay *relay, const ObxSinkResult *result)
{
	if (strcmp(relay->sink_error, result->text) != 0)
		obx_warn("sink %s: %s", relay->settings.module->name, result->text);
	snprintf(relay->sink_error, sizeof(relay->sink_error), "%s", result->text);
	relay->counters.sink_failures++;
	obx_flight_rewind(&relay->flight);
	relay->formed = 0;
	relay->sealed = relay->flight.keeps_progress;
}

static void
take_rejection(ObxRelay *relay, const ObxSinkResult *result)
{
	ObxSinkResult blocked = *result;

	relay->counters.rejected++;
	if (!relay->settings.blocks)
	{
		obx_flight_reject(&relay->flight, result->ticket, result->text);
		obx_flight_confirm(&relay->flight, 0);
		relay->giving_back = relay->flight.keeps_progress;
		return;
	}
	/* everything waits until somebody repairs it */
	relay->settings.module->forget(relay->settings.sink);
	blocked.verdict = OBX_REFUSED;
	take_failure(relay, &blocked);
}

static void
take_confirmation(ObxRelay *relay, int64_t ticket)
{
	struct timeval now;
	int			count = obx_flight_confirm(&relay->flight, ticket);

	if (count == 0)
		return;
	gettimeofday(&now, NULL);
	relay->counters.last_confirmed = now.tv_sec + now.tv_usec / 1e6;
	relay->counters.confirmed += count;
	obx_backoff_reset(&relay->sink_backoff);
	relay->sink_error[0] = '\0';
}

/* Returns whether there were any. */
static bool
take_results(ObxRelay *relay)
{
	ObxSinkResult result;
	bool		found = false;

	while (!relay->finished && relay->settings.module->result(relay->settings.sink, &result))
	{
		found = true;
		switch (result.verdict)
		{
			case OBX_CONNECTED:
				relay->sink_up = true;
				relay->sink_connecting = relay->sink_refused = false;
				if (relay->sink_held)
					take_release(relay);
				else if (relay->sink_error[0] == '\0')
					obx_log("sink %s is ready", relay->settings.module->name);
				break;
			case OBX_CONFIRMED:
				take_confirmation(relay, result.ticket);
				break;
			case OBX_HELD:
				take_hold(relay, &result);
				break;
			case OBX_NEVER:
				take_rejection(relay, &result);
				break;
			case OBX_CLAIMED:
				obx_relay_take_claim(relay, result.progress);
				break;
			case OBX_AGAIN:
				take_again(relay, &result);
				break;
			case OBX_LATER:
			case OBX_FENCED:
			case OBX_REFUSED:
			case OBX_GONE:
				take_failure(relay, &result);
				break;
		}
	}
	return found;
}

/* ---- sending ---- */

static bool
takes_parts(const ObxRelay *relay)
{
	return relay->settings.form == OBX_FORM_CLOUDEVENTS && relay->settings.traits.takes_parts;
}

/* Its body and id, unless they are made already. */
static void
form_event(ObxRelay *relay, const ObxEvent *event, int64_t ticket)
{
	const ObxGenerations *generations = obx_client_generations(relay->client);

	if (relay->formed == ticket)
		return;
	obx_text_clear(&relay->id);
	obx_event_append_id(&relay->id, event->id, generations);
	obx_text_clear(&relay->body);
	if (!takes_parts(relay))
		obx_event_form(&relay->body, event, generations, relay->settings.form);
	relay->formed = ticket;
}

/* False if the sink has no room. */
static bool
send_next(ObxRelay *relay, ObxBatch *batch, int number)
{
	int64_t		ticket = relay->flight.ticket + 1;
	ObxEvent	event;
	ObxMessage	message;

	obx_handout_event(&batch->handout, number, &event);
	form_event(relay, &event, ticket);
	message = (ObxMessage)
	{
		.ticket = ticket,.event = &event,.generations = obx_client_generations(relay->client),
			.id = relay->id.data,.form = relay->settings.form
	};
	message.body = takes_parts(relay) ? event.data : relay->body.data;
	message.length = takes_parts(relay) ? strlen(event.data) : relay->body.length;
	if (!relay->settings.module->send(relay->settings.sink, &message))
		return false;
	obx_flight_sent(&relay->flight, batch);
	relay->sealed = false;
	relay->counters.sent++;
	relay->counters.bytes += message.length;
	return true;
}

/* What was rejected of it must not be in its record. */
static void
end_batch(ObxRelay *relay)
{
	if (relay->flight.keeps_progress)
		(void) take_results(relay);
	if (!relay->finished)
		obx_relay_seal(relay);
}

static void
send_all(ObxRelay *relay)
{
	ObxBatch   *batch;
	int			number;

	while (obx_flight_next(&relay->flight, &batch, &number))
	{
		if (relay->progress.nsent > 0 &&
			obx_progress_has(&relay->progress, obx_handout_position(&batch->handout, number)))
		{
			obx_flight_leave_out(&relay->flight, batch);
			relay->left_out++;
		}
		else if (!send_next(relay, batch, number))
		{
			if (relay->flight.keeps_progress)
				end_batch(relay);
			return;
		}
	}
	/* what was rejected before it could be sent again counts as dealt with */
	obx_flight_confirm(&relay->flight, 0);
	end_batch(relay);
}

static bool
has_nacks(const ObxRelay *relay)
{
	return relay->flight.first != NULL &&
		obx_flight_has_nacks(&relay->flight, relay->flight.first->handout.receipt);
}

/* At the end, what was not sent is given back, where that is known. */
static void
send_or_seal(ObxRelay *relay)
{
	bool		ends = relay->draining && (relay->flight.keeps_progress || !has_nacks(relay));

	if (relay->sink_up && (ends || relay->giving_back))
		obx_relay_seal(relay);
	else if (relay->sink_up && obx_relay_claim(relay))
		send_all(relay);
}

void
obx_relay_turn_sink(ObxRelay *relay)
{
	if (!relay->sink_up && !relay->sink_connecting && obx_backoff_is_over(&relay->sink_backoff))
	{
		relay->sink_connecting = true;
		relay->settings.module->connect(relay->settings.sink);
	}
	/* what is confirmed makes room */
	for (int i = 0; i < MOST_ROUNDS && (relay->sink_up || relay->sink_connecting); i++)
	{
		send_or_seal(relay);
		relay->settings.module->work(relay->settings.sink);
		if (!take_results(relay) || relay->finished)
			break;
	}
}
