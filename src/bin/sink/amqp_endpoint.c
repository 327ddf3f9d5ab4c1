/*
 * Reading where a peer is.
 */
#include "sink/amqp_endpoint.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define SECTION OBX_AMQP_SECTION

static const char *
get(ObxConfig *config, const char *name)
{
	return obx_config_get(config, SECTION, name);
}

/* "%41" is "A"; NULL if it is wrong. */
static char *
decode(const char *c, size_t length)
{
	char	   *decoded = obx_allocate(length + 1);
	char	   *to = decoded;

	for (size_t i = 0; i < length; i++)
	{
		char		hex[3] = {0};

		if (c[i] != '%')
		{
			*to++ = c[i];
			continue;
		}
		if (i + 2 >= length || !isxdigit((unsigned char) c[i + 1]) || !isxdigit((unsigned char) c[i + 2]))
		{
			free(decoded);
			return NULL;
		}
		memcpy(hex, c + i + 1, 2);
		*to++ = strtol(hex, NULL, 16);
		i += 2;
	}
	return decoded;
}

/* [USER[:PASSWORD]@]HOST[:PORT], HOST perhaps in brackets. */
static bool
take_apart(ObxAmqpEndpoint *endpoint, const char *rest)
{
	const char *at = strrchr(rest, '@');
	const char *host = at != NULL ? at + 1 : rest;
	const char *end = host[0] == '[' ? strchr(host, ']') : host + strcspn(host, ":/");

	if (at != NULL)
	{
		size_t		user = strcspn(rest, ":@");

		endpoint->user = decode(rest, user);
		if (rest[user] == ':' && endpoint->password == NULL)
			endpoint->password = decode(rest + user + 1, at - rest - user - 1);
		if (endpoint->user == NULL)
			return false;
	}
	if (end == NULL)
		return false;
	endpoint->host = host[0] == '[' ? decode(host + 1, end - host - 1) : decode(host, end - host);
	if (*end == ']')
		end++;
	if (*end == ':')
	{
		size_t		digits = strspn(end + 1, "0123456789");

		if (digits == 0 || digits > 5 || (end[digits + 1] != '\0' && strcmp(end + digits + 1, "/") != 0))
			return false;
		endpoint->port = decode(end + 1, digits);
	}
	else if (*end != '\0' && strcmp(end, "/") != 0)
		return false;
	else
		endpoint->port = obx_copy_string(endpoint->tls ? "5671" : "5672");
	return endpoint->host != NULL && endpoint->host[0] != '\0';
}

/* An error does not repeat it: there may be a password in it. */
static void
read_url(ObxAmqpEndpoint *endpoint, ObxConfig *config)
{
	const char *url = get(config, "url");
	const char *password = get(config, "password");
	size_t		scheme;

	if (url == NULL)
	{
		obx_config_fail(config, "", "sink", "\"url\" must be set in the section \"" SECTION "\"");
		return;
	}
	endpoint->tls = strncmp(url, "amqps:", 6) == 0;
	endpoint->password = password != NULL ? obx_copy_string(password) : NULL;
	scheme = endpoint->tls ? strlen("amqps://") : strlen("amqp://");
	if (strncmp(url, endpoint->tls ? "amqps://" : "amqp://", scheme) != 0 ||
		!take_apart(endpoint, url + scheme))
		obx_config_fail(config, SECTION, "url",
						"\"url\" must be amqp[s]://[USER[:PASSWORD]@]HOST[:PORT], with %%XX for other characters");
	else if ((endpoint->user == NULL) != (endpoint->password == NULL))
		obx_config_fail(config, SECTION, "url", "a user and a password need each other");
}

static void
read_tls(ObxAmqpEndpoint *endpoint, ObxConfig *config)
{
	endpoint->ca_file = get(config, "ca_file");
	endpoint->cert_file = get(config, "cert_file");
	endpoint->key_file = get(config, "key_file");
	if (!endpoint->tls && (endpoint->ca_file != NULL || endpoint->cert_file != NULL || endpoint->key_file != NULL))
		obx_config_fail(config, SECTION, "url", "certificates need an \"url\" with amqps://");
	else if ((endpoint->cert_file == NULL) != (endpoint->key_file == NULL))
		obx_config_fail(config, SECTION, endpoint->cert_file != NULL ? "cert_file" : "key_file",
						"\"cert_file\" and \"key_file\" need each other");
}

void
obx_amqp_endpoint_read(ObxAmqpEndpoint *endpoint, ObxConfig *config)
{
	const char *subscription = obx_config_get(config, "", "subscription");

	read_url(endpoint, config);
	read_tls(endpoint, config);
	endpoint->subscription = subscription != NULL ? subscription : "";
	endpoint->hostname = get(config, "hostname");
	endpoint->address = get(config, "address");
	if (endpoint->address == NULL || endpoint->address[0] == '\0')
		obx_config_fail(config, SECTION, "address", "\"address\" must be set in the section \"" SECTION "\"");
	endpoint->heartbeat = obx_config_duration(config, SECTION, "heartbeat", OBX_SECOND, 3600 * OBX_SECOND,
											  30 * OBX_SECOND);
	endpoint->timeout = obx_config_duration(config, SECTION, "timeout", 100 * OBX_MILLISECOND,
											3600 * OBX_SECOND, 15 * OBX_SECOND);
}

void
obx_amqp_endpoint_free(ObxAmqpEndpoint *endpoint)
{
	free(endpoint->host);
	free(endpoint->port);
	free(endpoint->user);
	free(endpoint->password);
}
