/*
 * Where a peer is, and who we are there, by the settings of the sink "amqp".
 */
#ifndef OBX_BIN_AMQP_ENDPOINT_H
#define OBX_BIN_AMQP_ENDPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"

#define OBX_AMQP_SECTION "amqp"

typedef struct ObxAmqpEndpoint
{
	char	   *host;
	char	   *port;
	char	   *user;			/* NULL: anonymous, or what the certificate
								 * says */
	char	   *password;
	bool		tls;
	const char *ca_file;		/* NULL: the system's */
	const char *cert_file;
	const char *key_file;
	const char *hostname;		/* that the peer is told; NULL: the host */
	const char *address;
	const char *subscription;
	int64_t		heartbeat;
	int64_t		timeout;		/* of each step of connecting */
} ObxAmqpEndpoint;

/* Sets the configuration's error if something is wrong. */
extern void obx_amqp_endpoint_read(ObxAmqpEndpoint *endpoint, ObxConfig *config);
extern void obx_amqp_endpoint_free(ObxAmqpEndpoint *endpoint);

#endif							/* OBX_BIN_AMQP_ENDPOINT_H */
