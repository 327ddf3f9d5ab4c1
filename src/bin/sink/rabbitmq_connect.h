/*
 * Where a broker is, who we are there, and connecting; each step waits for its
 * answer.
 */
#ifndef OBX_BIN_RABBITMQ_CONNECT_H
#define OBX_BIN_RABBITMQ_CONNECT_H

#include <stdbool.h>
#include <stdint.h>

#include "sink/rabbitmq_library.h"
#include "sink/sink.h"

#define OBX_RABBITMQ_CHANNEL	1

typedef struct ObxRabbitmqEndpoint
{
	char	   *url;			/* taken apart: the next four lie in it */
	const char *host;
	const char *vhost;
	const char *user;
	const char *password;
	int			port;
	bool		tls;
	char	   *own_password;	/* the setting, in place of the URL's */
	char	   *ca_file;
	char	   *cert_file;
	char	   *key_file;
	bool		external;		/* the certificate says who we are */
	char	   *name;			/* what the broker's lists show */
	char	   *exchange;		/* must be there; or NULL */
	int			heartbeat;		/* seconds */
	int64_t		timeout;		/* of each step of connecting */
} ObxRabbitmqEndpoint;

/* How a connection ended; the first reason counts. */
typedef struct ObxRabbitmqEnd
{
	bool		is_over;
	ObxVerdict	verdict;
	bool		blames;			/* something that was published */
	long long	most_bytes;		/* the broker takes of a message; 0: not told */
	char		why[300];
} ObxRabbitmqEnd;

extern void obx_rabbitmq_end(ObxRabbitmqEnd *end, ObxVerdict verdict, const char *format,...)
			__attribute__((format(printf, 3, 4)));

/* By what the broker said when it closed the channel or the connection. */
extern void obx_rabbitmq_end_by_close(ObxRabbitmqEnd *end, int code, amqp_bytes_t reason);

/* By a status of the library, unless that is good; returns whether it ended. */
extern bool obx_rabbitmq_end_by_status(ObxRabbitmqEnd *end, const char *what, int status);

/*
 * A connection with a channel that confirms; or one without, to be destroyed,
 * and the end says why.
 */
extern amqp_connection_state_t obx_rabbitmq_connect(const ObxRabbitmqEndpoint *endpoint,
													ObxRabbitmqEnd *end);

extern void obx_rabbitmq_endpoint_free(ObxRabbitmqEndpoint *endpoint);

#endif							/* OBX_BIN_RABBITMQ_CONNECT_H */
