/*
 * The relay's connection to the database.  It never waits: one question is
 * under way at most, and its answer is asked for.
 *
 * What it asks needs no session, so that a pool may stand in between.
 *
 * Must not know sinks.
 */
#ifndef OBX_BIN_CLIENT_H
#define OBX_BIN_CLIENT_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include <libpq-fe.h>

#include "database/connection.h"
#include "event/event.h"

typedef struct ObxClientOptions
{
	ObxConnectOptions connect;
	const char *subscription;
	const char *channel;		/* to listen to; NULL for none */
	int			batch;
	int64_t		lease;
	int			columns;		/* of events: OBX_COLUMN_... */
	bool		wants_standing; /* with each receipt */
} ObxClientOptions;

typedef struct ObxClient ObxClient;

/* What was received. */
typedef struct ObxHandout
{
	PGresult   *rows;
	int			nevents;
	int64_t		receipt;
	int64_t		expires;		/* by obx_now(), rather too early than too
								 * late */
} ObxHandout;

/* Where the subscription stands when a lane is won: after what was received. */
typedef struct ObxStanding
{
	char		log[64];		/* whose events these are, "" for not known */
	int			generation;
	int64_t		subscription;	/* its number */
	int64_t		seeks;
	int			lanes;
	int64_t		position;		/* all up to it is acked, if none is open */
	int64_t		delivered;		/* since the last seek */
	int64_t		open;			/* that wait for a retry, or are dead letters */
} ObxStanding;

typedef enum ObxSettleKind
{
	OBX_SETTLE_NOTHING,
	OBX_SETTLE_ACK,
	OBX_SETTLE_NACK,			/* for ever: a dead letter */
	OBX_SETTLE_EXTEND,			/* the lease begins anew */
	OBX_SETTLE_RELEASE			/* what is left goes back */
} ObxSettleKind;

typedef struct ObxSettle
{
	ObxSettleKind kind;
	int64_t		receipt;
	int64_t		position;		/* nack: which; ack: up to it, 0 for all that
								 * is left */
	const ObxHandout *handout;	/* ack: of its events only those from "first"
								 * to before "count"; or NULL */
	int			first;
	int			count;
	const char *text;			/* nack: why */
} ObxSettle;

typedef enum ObxAnswerKind
{
	OBX_ANSWER_NONE,			/* wait on */
	OBX_ANSWER_CONNECTED,		/* with the generation */
	OBX_ANSWER_LOST,
	OBX_ANSWER_DONE,			/* settled, and received if that was asked */
	OBX_ANSWER_EXPIRED,			/* the receipt is not valid any more */
	OBX_ANSWER_FAILED,			/* the server said no, for now */
	OBX_ANSWER_REFUSED,			/* the server says no: no such subscription,
								 * no right */
	OBX_ANSWER_STATUS
} ObxAnswerKind;

typedef struct ObxAnswer
{
	ObxAnswerKind kind;
	ObxHandout	handout;		/* rows is NULL if there was nothing to give */
	bool		settled;		/* FAILED, REFUSED: was the settling the
								 * cause? */
	bool		taken_back;		/* and since the event is not ours any more? */
	ObxStanding standing;		/* of a handout without a receipt, if that is
								 * wanted */
	char text[	1000];
	char		state[32];		/* of the subscription: STATUS, CONNECTED */
	int64_t		lag;
	int64_t		delivered;
} ObxAnswer;

extern ObxClient *obx_client_open(const ObxClientOptions *options);
extern void obx_client_close(ObxClient *client);

/* Begins to connect. */
extern void obx_client_connect(ObxClient *client);

/* Gives the connection up. */
extern void obx_client_disconnect(ObxClient *client);

extern bool obx_client_is_idle(const ObxClient *client);
extern bool obx_client_is_connected(const ObxClient *client);

/*
 * Asks; the client must be idle.  With a receipt, what is received stands under
 * it, beside what was received before; 0 asks for another lane.
 */
extern void obx_client_ask(ObxClient *client, const ObxSettle *settle, bool receive,
						   int64_t receipt);
extern void obx_client_ask_status(ObxClient *client);

/* A descriptor to wait for; false if there is none. */
extern bool obx_client_wait_for(ObxClient *client, struct pollfd *descriptor, int64_t * until);

/* Goes on; call it again until the answer is NONE. */
extern void obx_client_work(ObxClient *client, ObxAnswer *answer);

/* Was there a notification since the last call? */
extern bool obx_client_was_notified(ObxClient *client);

extern int	obx_client_generation(const ObxClient *client);
extern const ObxGenerations *obx_client_generations(const ObxClient *client);

extern void obx_handout_event(const ObxHandout *handout, int number, ObxEvent *event);
extern int64_t obx_handout_position(const ObxHandout *handout, int number);

#endif							/* OBX_BIN_CLIENT_H */
