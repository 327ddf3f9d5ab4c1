/*
 * A connection by AMQP 1.0 with one link, which sends to one address.  It never
 * waits.
 */
#ifndef OBX_BIN_AMQP_CONNECTION_H
#define OBX_BIN_AMQP_CONNECTION_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include <proton/delivery.h>
#include <proton/link.h>

#include "sink/amqp_endpoint.h"
#include "sink/sink.h"

typedef struct ObxAmqpConnection ObxAmqpConnection;

/* Called for each delivery about which the peer has said something. */
typedef void (*ObxAmqpDeliveryFunction) (void *context, pn_delivery_t * delivery);

/* Begins to connect. */
extern ObxAmqpConnection *obx_amqp_connection_new(const ObxAmqpEndpoint *endpoint,
												  ObxAmqpDeliveryFunction take, void *context);

/* What was sent is forgotten; the peer is told, if that needs no waiting. */
extern void obx_amqp_connection_free(ObxAmqpConnection *connection);

extern int	obx_amqp_connection_wait_for(ObxAmqpConnection *connection, struct pollfd *descriptor,
										 int64_t * until);
extern void obx_amqp_connection_work(ObxAmqpConnection *connection);

/* To send by; NULL while there is none. */
extern pn_link_t * obx_amqp_connection_link(const ObxAmqpConnection *connection);

/* Bytes that were taken, and not sent yet. */
extern size_t obx_amqp_connection_unsent(const ObxAmqpConnection *connection);

/* Does the peer say that it is this product? */
extern bool obx_amqp_connection_is_to(const ObxAmqpConnection *connection, const char *product);

/* Has it ended?  Then why. */
extern bool obx_amqp_connection_is_over(const ObxAmqpConnection *connection, ObxVerdict *verdict,
										const char **why);

/* What an error of the peer's calls for; "never" is for one that is about a message. */
extern ObxVerdict obx_amqp_verdict(const char *condition, ObxVerdict never);

#endif							/* OBX_BIN_AMQP_CONNECTION_H */
