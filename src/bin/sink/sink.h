/*
 * A sink: the engine that events are carried to.  Each is a shared module,
 * loaded when a configuration names it, that exports "obx_sink".
 *
 * Nothing here ever waits.  The relay numbers what it sends with tickets, 1, 2,
 * 3 ..., in the order of positions, and asks for results: what is confirmed up
 * to which ticket, and what went wrong.
 *
 * A sink must not know the database.
 */
#ifndef OBX_BIN_SINK_H
#define OBX_BIN_SINK_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/text.h"
#include "event/event.h"

/* Rises with each change of this file. */
#define OBX_SINK_INTERFACE 2

typedef enum ObxVerdict
{
	OBX_CONNECTED,				/* no ticket: ready to be sent to, or claimed */
	OBX_CLAIMED,				/* no ticket: claim() is done */
	OBX_CONFIRMED,				/* up to and with the ticket */
	OBX_LATER,					/* down, throttled: what is not confirmed is
								 * forgotten, and to be sent again */
	OBX_HELD,					/* no ticket: the engine takes nothing for
								 * now; what was sent stands.  CONNECTED ends
								 * that */
	OBX_AGAIN,					/* as LATER, and at once: less of it may be
								 * taken */
	OBX_NEVER,					/* this ticket is rejected, others are not
								 * concerned */
	OBX_FENCED,					/* as LATER, for another process has claimed
								 * it since */
	OBX_REFUSED,				/* as LATER, and a person must repair it */
	OBX_GONE					/* as REFUSED, and nobody can within this
								 * process */
} ObxVerdict;

typedef struct ObxSinkResult
{
	ObxVerdict	verdict;
	int64_t		ticket;			/* 0: it is not about an event */
	char text[	400];			/* why, for people */
	const char *progress;		/* CLAIMED: what was sealed last, NULL for
								 * nothing; until the next call */
} ObxSinkResult;

/* Lives as long as the call of send(). */
typedef struct ObxMessage
{
	int64_t		ticket;
	const ObxEvent *event;
	const ObxGenerations *generations;
	const char *id;				/* as obx_event_append_id() writes it */
	const char *body;
	size_t		length;
	ObxForm		form;
} ObxMessage;

/* What a sink, as it is configured, can do and needs; all is 0 at first. */
typedef struct ObxSinkTraits
{
	int			columns;		/* of events, besides those of the form */
	bool		takes_parts;	/* of a CloudEvent the body is the data alone:
								 * the sink carries the attributes */

	/*
	 * A batch and the progress that it is sealed with arrive both or not at
	 * all.  There must be one lane, and claim() comes before sending, while
	 * the lane is held.
	 */
	bool		keeps_progress;
} ObxSinkTraits;

/* "type" is Prometheus'. */
typedef void (*ObxMetricFunction) (void *context, const char *name, const char *type,
								   double value);

typedef struct ObxSinkModule
{
	int			interface;		/* OBX_SINK_INTERFACE */
	const char *name;

	/*
	 * Reads its settings: those of the section of its name, and of the first
	 * one such that only it knows.  Sets the configuration's error, or
	 * returns what the other functions are given.  Speaks to nobody.
	 */
	void	   *(*open) (ObxConfig *config, ObxSinkTraits *traits);

	/* Begins to connect; result() tells how that went. */
	void		(*connect) (void *sink);

	/*
	 * Only of one that keeps progress: shuts former processes out, and then
	 * finds the progress under that key.  result() tells it, or a failure.
	 */
	void		(*claim) (void *sink, const char *key);

	/* Takes a message, or not: then it is offered again after work(). */
	bool		(*send) (void *sink, const ObxMessage *message);

	/*
	 * Nothing more is there to be sent: do not wait for more.  Of one that
	 * keeps progress, what was taken since is a batch, which ends with it.
	 */
	void		(*seal) (void *sink, const char *progress);

	/*
	 * What to wait for before work() has something to do: descriptors, at
	 * most "max", whose number is returned; *until may be made earlier.
	 */
	int			(*wait_for) (void *sink, struct pollfd *descriptors, int max, int64_t * until);

	void		(*work) (void *sink);

	/* The next result, until there is none: false. */
	bool		(*result) (void *sink, ObxSinkResult *result);

	/* Forgets what is not confirmed, though some of it may arrive. */
	void		(*forget) (void *sink);

	void		(*close) (void *sink);

	/* Its own figures; NULL for none. */
	void		(*metrics) (void *sink, ObxMetricFunction give, void *context);
} ObxSinkModule;

/* What a module exports. */
extern const ObxSinkModule obx_sink;

#endif							/* OBX_BIN_SINK_H */
