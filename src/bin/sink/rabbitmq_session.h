/*
 * The sink "rabbitmq": what the relay's thread, which never waits, and the
 * thread of the connection, whose library does, have in common.
 *
 * Letters lie in a ring, numbered as the broker numbers them: from 1 on, anew
 * with each connection.
 */
#ifndef OBX_BIN_RABBITMQ_SESSION_H
#define OBX_BIN_RABBITMQ_SESSION_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "sink/rabbitmq_connect.h"
#include "sink/rabbitmq_letter.h"

#define OBX_RABBITMQ_QUEUED		(4 * 1024 * 1024)	/* bytes, not published
													 * yet */

typedef enum ObxRabbitmqState
{
	OBX_DOWN,
	OBX_CONNECTING,
	OBX_UP
} ObxRabbitmqState;

/*
 * The settings are written before there is a thread.  The rest is guarded by
 * the lock; but a letter that is next to be published is read without.
 */
typedef struct ObxRabbitmq
{
	/* settings */
	ObxRabbitmqEndpoint endpoint;
	ObxRabbitmqStyle style;
	bool		external;		/* the certificate says who we are */
	bool		mandatory;

	/* the relay's thread's own */
	pthread_t	thread;
	bool		has_thread;
	bool		is_connecting;	/* CONNECTED is to be told */
	bool		held_is_told;
	int64_t		newest;			/* ticket */
	int64_t		forgotten;		/* up to this ticket */
	uint64_t	alone;			/* so many letters go one by one */
	ObxSinkResult rejection;	/* to be told, if ticket > 0 */

	pthread_mutex_t lock;
	int			to_loop;		/* eventfds, which wake the other side up */
	int			to_thread;
	bool		loop_is_told;
	bool		thread_sleeps;
	bool		stopping;
	bool		abandoned;		/* the connection's thread frees all of it */
	ObxRabbitmqState state;
	int			socket;			/* -1: none, or not known */
	int64_t		sending_since;	/* within the library's publish; 0: it is not */
	bool		is_blocked;		/* by the broker, which lacks something */
	char		blocked_why[200];
	bool		wants_place;	/* the loop waits for one */
	bool		has_ended;		/* and that is not told yet */
	ObxRabbitmqEnd end;			/* why */
	int64_t		most_bytes;		/* the broker takes of a message; 0: not known */
	size_t		frame_size;		/* that was agreed on */

	ObxRabbitmqLetter *letters;
	int			capacity;
	uint64_t	first;			/* the first one that is not done */
	uint64_t	next;			/* the first one that is not published */
	uint64_t	last;			/* before the first free one */
	size_t		queued_bytes;
	int			unanswered;		/* of those that are published */
	int			untold;			/* answers that the loop was not told of */
	int64_t		untold_since;
} ObxRabbitmq;

/* The letter of a number from "first" to "last". */
extern ObxRabbitmqLetter *obx_rabbitmq_letter(const ObxRabbitmq *rabbitmq, uint64_t number);

/* What the connection's thread does, until its connection ends. */
extern void *obx_rabbitmq_session_run(void *context);

/* Once no thread uses it. */
extern void obx_rabbitmq_free(ObxRabbitmq *rabbitmq);

#endif							/* OBX_BIN_RABBITMQ_SESSION_H */
