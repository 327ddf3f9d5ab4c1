/*
 * The headers of librabbitmq, which have moved: those of the old place say that
 * they are deprecated, and Debian 11 and 12 have no others.
 */
#ifndef OBX_BIN_RABBITMQ_LIBRARY_H
#define OBX_BIN_RABBITMQ_LIBRARY_H

#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/framing.h>
#include <rabbitmq-c/ssl_socket.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#endif

#endif							/* OBX_BIN_RABBITMQ_LIBRARY_H */
