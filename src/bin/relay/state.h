/*
 * What a relay knows while it runs.  For the files of this room.
 */
#ifndef OBX_BIN_STATE_H
#define OBX_BIN_STATE_H

#include "base/clock.h"
#include "base/log.h"
#include "relay/flight.h"
#include "relay/monitor.h"
#include "relay/progress.h"
#include "relay/settings.h"

typedef struct ObxCounters
{
	int64_t		sent;
	int64_t		confirmed;
	int64_t		bytes;
	int64_t		rejected;
	int64_t		handouts;
	int64_t		expired;		/* hand-outs whose lease ran out */
	int64_t		database_losses;
	int64_t		sink_failures;
	double		last_confirmed; /* Unix time */
} ObxCounters;

typedef struct ObxRelay
{
	ObxRelaySettings settings;
	ObxRelayMode mode;
	ObxMonitor *monitor;		/* NULL for none */
	ObxFlight	flight;
	ObxCounters counters;

	/* the database */
	ObxClient  *client;
	ObxBackoff	database_backoff;
	ObxBackoff	question_backoff;
	int64_t		database_lost;	/* since when; 0: it is there */
	bool		database_known; /* it answered once */
	int			generation;
	ObxBatch   *settling;		/* what the question under way is about */
	ObxSettle	settle;
	bool		receiving;
	int64_t		receipt;		/* that it receives under; 0: another lane */
	int64_t		asked;			/* when */
	char		database_error[1000];	/* the last one told; "" when all is
										 * well */

	/* receiving */
	int			lanes;			/* receipts that can be had at once; 0: not
								 * known */
	int64_t		probe_at;		/* when to try one more */
	int64_t		receive_at;
	int64_t		idle_since;		/* 0: not idle */
	bool		nothing_left;	/* the last answer was empty, with nothing
								 * under way */

	/* the role, by what others do */
	bool		is_active;
	int64_t		status_at;
	int64_t		delivered;		/* as the status said, and what was acked
								 * since; -1: not known */
	int64_t		lag;
	bool		held_elsewhere; /* the last status looked so */
	char		state[32];		/* of the subscription */

	/* the sink */
	bool		sink_up;
	bool		sink_connecting;
	bool		sink_refused;
	bool		sink_held;		/* it is up, and takes nothing for now */
	bool		sealed;

	/* a sink that keeps progress */
	bool		claimed;		/* others are shut out, and it is known */
	bool		claiming;
	bool		giving_back;	/* nothing is sent until what is left is
								 * released */
	ObxStanding standing;		/* at the last receipt; "delivered" since */
	ObxProgress progress;		/* of it "sent" is what former processes, or
								 * hand-outs, have left */
	int64_t		left_out;		/* events, counted */
	ObxBackoff	sink_backoff;
	char		sink_error[400];
	ObxText		body;			/* of the event that is sent next */
	ObxText		id;
	int64_t		formed;			/* its ticket, if it is formed; else 0 */

	/* the end */
	bool		draining;
	bool		reloading;
	bool		finished;
	ObxExit		exit;
} ObxRelay;

/* The end, with this code. */
extern void obx_relay_finish(ObxRelay *relay, ObxExit code);

/* The database's part of a turn of the loop: answers. */
extern void obx_relay_turn_database(ObxRelay *relay);

/* And the next question, by what the answers and the sink have led to. */
extern void obx_relay_ask(ObxRelay *relay);

/* The sink's part. */
extern void obx_relay_turn_sink(ObxRelay *relay);

/* What the sink has must be read anew before anything is sent. */
extern void obx_relay_unclaim(ObxRelay *relay);

/* The hand-out's events from "first" to before "count" are acked. */
extern void obx_relay_note_acked(ObxRelay *relay, const ObxHandout *handout, int first, int count);

/* Where the subscription stands when a lane was won. */
extern void obx_relay_take_standing(ObxRelay *relay, const ObxStanding *standing);

/* Claims the sink, if that is to be done; true if it can be sent to. */
extern bool obx_relay_claim(ObxRelay *relay);
extern void obx_relay_take_claim(ObxRelay *relay, const char *found);

/* Ends what was sent since, together with the progress. */
extern void obx_relay_seal(ObxRelay *relay);

/* Gives hand-outs up whose lease has run out: they come again. */
extern void obx_relay_expire(ObxRelay *relay);

/* The batch is not ours any more. */
extern void obx_relay_drop(ObxRelay *relay, ObxBatch *batch);
extern void obx_relay_drop_receipt(ObxRelay *relay, int64_t receipt);
extern void obx_relay_drop_all(ObxRelay *relay);

/* An ObxPageFunction; the context is the relay. */
extern bool obx_relay_page(const char *page, ObxText *text, void *context);

#endif							/* OBX_BIN_STATE_H */
