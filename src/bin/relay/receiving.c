/*
 * The database's side of the loop: what to ask next, and what the answers mean.
 *
 * A lane is had under a receipt, under which more can be received while what
 * came before is sent.  How many lanes there are is found by asking for one
 * more, now and then.  Whether another relay of the same
 * subscription is at work shows in what the status says was delivered.
 */
#include <stdio.h>
#include <string.h>

#include "relay/state.h"

#define PROBE_INTERVAL		(60 * OBX_SECOND)
#define STANDBY_WAIT		OBX_SECOND
#define IDLE_AFTER			OBX_SECOND
#define LONGEST_IDLE_WAIT	(200 * OBX_MILLISECOND)
#define STATUS_INTERVAL		OBX_SECOND
#define BUSY_STATUS_INTERVAL (5 * OBX_SECOND)

/* ---- the role ---- */

static void
set_role(ObxRelay *relay, bool active)
{
	if (relay->is_active != active)
		obx_log("%s", active ? "active: has events of the subscription" :
				"standby: another relay has events of the subscription");
	relay->is_active = active;
}

static void
take_status(ObxRelay *relay, const ObxAnswer *answer)
{
	bool		idle = relay->flight.batches == 0;

	if (strcmp(relay->state, answer->state) != 0 && strcmp(answer->state, "active") != 0)
		obx_log("the subscription is %s", answer->state);
	snprintf(relay->state, sizeof(relay->state), "%s", answer->state);
	relay->lag = answer->lag;

	/* somebody else has delivered, or has what we were not given twice */
	if (relay->delivered >= 0 && answer->delivered > relay->delivered && idle)
		set_role(relay, false);
	if (idle && relay->sink_up && answer->lag > 0 && relay->nothing_left &&
		strcmp(answer->state, "active") == 0)
	{
		if (relay->held_elsewhere)
			set_role(relay, false);
		relay->held_elsewhere = true;
	}
	else
		relay->held_elsewhere = false;
	relay->delivered = answer->delivered;
}

/* ---- answers ---- */

/* The same words are not said again. */
static void
tell_database_error(ObxRelay *relay, const char *what, const char *text)
{
	if (strcmp(relay->database_error, text) == 0)
		return;
	snprintf(relay->database_error, sizeof(relay->database_error), "%s", text);
	obx_warn("%s: %s", what, text);
}

static void
take_loss(ObxRelay *relay, const ObxAnswer *answer)
{
	tell_database_error(relay, "no connection to the database, which is tried again", answer->text);
	if (relay->database_lost == 0)
	{
		relay->database_lost = obx_now();
		relay->counters.database_losses++;
	}
	relay->settling = NULL;
	relay->delivered = -1;
	obx_backoff_fail(&relay->database_backoff);
	if (relay->mode != OBX_RELAY_FOREVER && !relay->database_known)
		obx_relay_finish(relay, OBX_EXIT_DATABASE);
}

/* A receipt of a log that has gone on elsewhere may be somebody else's there. */
static void
take_connection(ObxRelay *relay, const ObxAnswer *answer)
{
	int			generation = obx_client_generation(relay->client);

	if (relay->database_lost != 0 || !relay->database_known)
		obx_log("connected to the database, generation %d of the log", generation);
	if (relay->generation != 0 && relay->generation != generation)
		obx_relay_drop_all(relay);
	relay->generation = generation;
	relay->database_lost = 0;
	relay->database_known = true;
	relay->database_error[0] = '\0';
	obx_backoff_reset(&relay->database_backoff);
	obx_backoff_reset(&relay->question_backoff);
	relay->receive_at = 0;
	relay->delivered = answer->delivered;
	snprintf(relay->state, sizeof(relay->state), "%s", answer->state);
	relay->lag = answer->lag;
}

static void
take_empty_answer(ObxRelay *relay)
{
	int64_t		now = obx_now();
	int64_t		wait = relay->settings.batch_wait;
	int64_t		unused;

	if (relay->flight.batches > 0)
	{
		if (relay->receipt == 0)
		{
			relay->lanes = obx_flight_receipts(&relay->flight, &unused);
			relay->probe_at = now + PROBE_INTERVAL;
		}
		else
			relay->receive_at = now + wait;
		return;
	}
	if (relay->idle_since == 0)
		relay->idle_since = now;
	if (now - relay->idle_since > IDLE_AFTER && wait * 10 < LONGEST_IDLE_WAIT)
		wait *= 10;
	else if (now - relay->idle_since > IDLE_AFTER && wait < LONGEST_IDLE_WAIT)
		wait = LONGEST_IDLE_WAIT;
	if (!relay->is_active && wait < STANDBY_WAIT)
		wait = STANDBY_WAIT;
	relay->receive_at = now + wait;
	relay->nothing_left = true;
}

static void
take_done(ObxRelay *relay, const ObxAnswer *answer)
{
	obx_backoff_reset(&relay->question_backoff);
	relay->database_error[0] = '\0';
	if (relay->settle.kind == OBX_SETTLE_EXTEND)
		obx_flight_extend(&relay->flight, relay->settle.receipt,
						  relay->asked + relay->settings.database.lease);
	if (relay->settle.kind == OBX_SETTLE_RELEASE)
		obx_relay_drop_receipt(relay, relay->settle.receipt);
	if (relay->settling != NULL && relay->settle.kind == OBX_SETTLE_ACK)
		obx_relay_note_acked(relay, &relay->settling->handout, relay->settling->acked,
							 relay->settle.handout != NULL ? relay->settle.count :
							 relay->settling->handout.nevents);
	if (relay->settling != NULL)
	{
		/* of what is left after nacks it is not known how much that is */
		if (relay->settle.handout == NULL && relay->settle.position == 0)
			relay->delivered = -1;
		else if (relay->settle.kind == OBX_SETTLE_ACK && relay->delivered >= 0)
			relay->delivered += relay->settling->confirmed - relay->settling->acked;
		obx_flight_settled(&relay->flight, relay->settling, &relay->settle);
	}
	relay->settling = NULL;
	if (!relay->receiving)
		return;
	if (answer->handout.rows == NULL)
	{
		take_empty_answer(relay);
		return;
	}
	if (relay->receipt == 0 && relay->flight.keeps_progress)
		obx_relay_take_standing(relay, &answer->standing);
	obx_flight_add(&relay->flight, &answer->handout);
	obx_flight_extend(&relay->flight, answer->handout.receipt, answer->handout.expires);
	relay->counters.handouts++;
	relay->idle_since = 0;
	relay->nothing_left = false;
	relay->held_elsewhere = false;
	relay->receive_at = 0;
	relay->sealed = relay->flight.keeps_progress && relay->sealed;
	set_role(relay, true);
}

/* The lane is somebody else's, or may be: what was not acked comes again. */
static void
take_expiry(ObxRelay *relay, const ObxAnswer *answer)
{
	obx_warn("%s", answer->text);
	relay->counters.expired++;
	relay->settling = NULL;
	obx_relay_drop_receipt(relay, answer->settled ? relay->settle.receipt : relay->receipt);
}

/* The server refuses something that will not go away by itself. */
static void
take_refusal(ObxRelay *relay, const ObxAnswer *answer)
{
	if (answer->taken_back && relay->settle.kind == OBX_SETTLE_NACK && relay->settling != NULL)
	{
		/* with a rejected event of its key before it: it comes again */
		obx_flight_settled(&relay->flight, relay->settling, &relay->settle);
		relay->settling = NULL;
		return;
	}
	if (answer->settled && relay->settling != NULL)
	{
		obx_warn("what became of events could not be told: %s", answer->text);
		obx_relay_drop(relay, relay->settling);
		return;
	}
	obx_error("%s", answer->text);
	obx_relay_finish(relay, relay->database_known ? OBX_EXIT_DATABASE : OBX_EXIT_ERROR);
}

static void
take_answer(ObxRelay *relay, const ObxAnswer *answer)
{
	switch (answer->kind)
	{
		case OBX_ANSWER_NONE:
			break;
		case OBX_ANSWER_CONNECTED:
			take_connection(relay, answer);
			break;
		case OBX_ANSWER_LOST:
			take_loss(relay, answer);
			break;
		case OBX_ANSWER_DONE:
			take_done(relay, answer);
			break;
		case OBX_ANSWER_EXPIRED:
			take_expiry(relay, answer);
			break;
		case OBX_ANSWER_FAILED:
			tell_database_error(relay, "the database says no, and is asked again", answer->text);
			obx_backoff_fail(&relay->question_backoff);
			relay->settling = NULL;
			break;
		case OBX_ANSWER_REFUSED:
			take_refusal(relay, answer);
			break;
		case OBX_ANSWER_STATUS:
			take_status(relay, answer);
			break;
	}
}

/* ---- questions ---- */

/*
 * Whether to receive, and under which receipt.  At the first time, and now and
 * then, another lane is asked for.
 */
static bool
wants_to_receive(ObxRelay *relay)
{
	const ObxFlight *flight = &relay->flight;
	int64_t		now = obx_now();
	int64_t		smallest;
	int			receipts = obx_flight_receipts(flight, &smallest);

	relay->receipt = 0;
	if (flight->batches == 0)
		relay->giving_back = false;
	if (relay->giving_back || relay->draining || !relay->sink_up || relay->sink_refused || now < relay->receive_at)
		return false;
	if (flight->events == 0)
		return true;
	if (flight->events + relay->settings.database.batch > relay->settings.window)
		return false;
	if (!flight->keeps_progress && (relay->lanes == 0 || receipts < relay->lanes || now >= relay->probe_at))
		return true;
	relay->receipt = smallest;
	return !obx_flight_has_nacks(flight, smallest);
}

/* A receipt whose lease is half over. */
static ObxBatch *
find_ageing(const ObxRelay *relay)
{
	int64_t		now = obx_now();

	for (ObxBatch *batch = relay->flight.first; batch != NULL; batch = batch->next)
		if (now > batch->handout.expires - relay->settings.database.lease / 2)
			return batch;
	return NULL;
}

/*
 * What else to tell of a receipt.  While the sink is there, its lease goes on;
 * else others may try.  At the end, what was not sent goes back, and what an
 * engine that takes nothing does not confirm is waited for no longer than that.
 */
static void
keep_or_release(ObxRelay *relay)
{
	ObxBatch   *ageing = find_ageing(relay);

	if ((relay->draining || relay->giving_back) && relay->flight.first != NULL && obx_flight_is_quiet(&relay->flight))
	{
		relay->settle.kind = OBX_SETTLE_RELEASE;
		relay->settle.receipt = relay->flight.first->handout.receipt;
	}
	else if (ageing != NULL && relay->sink_up && !(relay->draining && relay->sink_held))
	{
		relay->settle.kind = OBX_SETTLE_EXTEND;
		relay->settle.receipt = ageing->handout.receipt;
	}
}

void
obx_relay_ask(ObxRelay *relay)
{
	int64_t		now = obx_now();
	bool		receive;

	if (relay->mode == OBX_RELAY_CHECK || !obx_client_is_idle(relay->client) ||
		!obx_backoff_is_over(&relay->question_backoff))
		return;
	relay->settling = obx_flight_settle(&relay->flight,
										relay->draining || relay->giving_back ||
										find_ageing(relay) != NULL,
										&relay->settle);
	if (relay->settling == NULL)
		keep_or_release(relay);
	receive = wants_to_receive(relay);
	if (relay->settle.kind != OBX_SETTLE_NOTHING || receive)
	{
		relay->receiving = receive;
		relay->asked = now;
		obx_client_ask(relay->client, &relay->settle, receive, relay->receipt);
	}
	else if (now >= relay->status_at)
	{
		relay->status_at = now +
			(relay->flight.batches > 0 ? BUSY_STATUS_INTERVAL : STATUS_INTERVAL);
		obx_client_ask_status(relay->client);
	}
}

void
obx_relay_turn_database(ObxRelay *relay)
{
	ObxAnswer	answer;

	if (!obx_client_is_connected(relay->client) && relay->database_lost != 0 &&
		relay->settings.give_up > 0 && obx_now() - relay->database_lost > relay->settings.give_up)
	{
		obx_error("gave up on the database: %s", relay->database_error);
		obx_relay_finish(relay, OBX_EXIT_DATABASE);
		return;
	}
	do
	{
		obx_client_work(relay->client, &answer);
		take_answer(relay, &answer);
	} while (answer.kind != OBX_ANSWER_NONE && !relay->finished);
	if (obx_client_was_notified(relay->client))
	{
		relay->receive_at = 0;
		relay->idle_since = 0;
	}
}
