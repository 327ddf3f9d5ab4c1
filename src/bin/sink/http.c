/*
 * The sink "http": a web hook, by CloudEvents' binding for HTTP.
 *
 * One request of a key is under way at a time, and one batch at a time, so that
 * order per key holds.  An event is confirmed by a 2xx.  Requests that are
 * repeated have the same id, and a signature as Standard Webhooks has it.
 */
#include "sink/sink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <curl/curl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/clock.h"

#define MOST_CONNECTIONS	64
#define MOST_BATCH			10000
#define MOST_BYTES			(4 * 1024 * 1024)
#define LONGEST_RETRY_AFTER	(3600 * OBX_SECOND)

typedef enum Mode
{
	BINARY, STRUCTURED, BATCH
} Mode;

typedef struct Request
{
	CURL	   *curl;
	struct curl_slist *headers;
	ObxText		body;
	char	   *key;			/* NULL: no order */
	int64_t		first;			/* tickets */
	int64_t		last;
	bool		running;
	bool		answered;		/* well, and others before it are not yet */
	bool		failed;			/* until the failure is told */
} Request;

typedef struct Http
{
	/* settings */
	const char *url;
	Mode		mode;
	int			connections;
	int			batch;
	int64_t		timeout;
	unsigned char secret[256];
	int			secret_length;
	struct curl_slist *own_headers;

	CURLM	   *multi;
	Request		requests[MOST_CONNECTIONS];
	bool		connecting;
	int64_t		not_before;		/* Retry-After */
	int			alone;			/* so many events go in batches of one */
	ObxText		gathered;		/* the batch that is not sent yet */
	ObxText		gathered_id;
	int			ngathered;
	int64_t		gathered_first;
	int64_t		gathered_last;
	bool		sealed;
	int64_t		confirmed;		/* told */
	int64_t		newest;			/* the last ticket taken */
	ObxSinkResult rejection;	/* to be told, if ticket > 0 */
	ObxSinkResult failure;		/* to be told, if it has a text */
} Http;

/* ---- settings ---- */

static Mode
read_mode(ObxConfig *config)
{
	const char *mode = obx_config_get(config, "http", "mode");

	if (mode == NULL || strcmp(mode, "structured") == 0)
		return STRUCTURED;
	if (strcmp(mode, "binary") == 0)
		return BINARY;
	if (strcmp(mode, "batch") != 0)
		obx_config_fail(config, "http", "mode", "\"mode\" is one of binary|structured|batch");
	return BATCH;
}

static int
read_number(ObxConfig *config, const char *name, int max, int otherwise)
{
	const char *value = obx_config_get(config, "http", name);
	int			number = value != NULL ? atoi(value) : otherwise;

	if (number < 1 || number > max)
		obx_config_fail(config, "http", name, "\"%s\" must be a number from 1 to %d", name, max);
	return number;
}

/* "whsec_" and base64, as Standard Webhooks has them. */
static void
read_secret(Http *sink, ObxConfig *config)
{
	const char *value = obx_config_get(config, "http", "secret");
	size_t		length;
	int			decoded;

	if (value == NULL)
		return;
	if (strncmp(value, "whsec_", 6) == 0)
		value += 6;
	length = strlen(value);
	decoded = length == 0 || length % 4 != 0 || length > 340 ? -1 :
		EVP_DecodeBlock(sink->secret, (const unsigned char *) value, length);
	if (decoded <= 0)
	{
		obx_config_fail(config, "http", "secret", "\"secret\" must be base64, at most 255 bytes");
		return;
	}
	while (length > 0 && value[length - 1] == '=')
	{
		length--;
		decoded--;
	}
	sink->secret_length = decoded;
}

static void *
open_http(ObxConfig *config, ObxSinkTraits *traits)
{
	Http	   *sink = obx_allocate(sizeof(Http));
	const char *authorization = obx_config_get(config, "http", "authorization");
	ObxText		header;

	sink->url = obx_config_get(config, "http", "url");
	if (sink->url == NULL)
		obx_config_fail(config, "", "sink", "\"url\" must be set in the section \"http\"");
	sink->mode = read_mode(config);
	traits->takes_parts = sink->mode == BINARY;
	sink->connections = sink->mode == BATCH ? 1 : read_number(config, "connections", MOST_CONNECTIONS, 8);
	sink->batch = sink->mode == BATCH ? read_number(config, "batch", MOST_BATCH, 100) : 1;
	sink->timeout = obx_config_duration(config, "http", "timeout", 100 * OBX_MILLISECOND,
										3600 * OBX_SECOND, 15 * OBX_SECOND);
	read_secret(sink, config);
	if (authorization != NULL)
	{
		obx_text_init(&header);
		obx_text_printf(&header, "Authorization: %s", authorization);
		sink->own_headers = curl_slist_append(NULL, header.data);
		obx_text_free(&header);
	}
	curl_global_init(CURL_GLOBAL_DEFAULT);
	sink->multi = curl_multi_init();
	obx_text_init(&sink->gathered);
	obx_text_init(&sink->gathered_id);
	for (int i = 0; i < MOST_CONNECTIONS; i++)
		obx_text_init(&sink->requests[i].body);
	return sink;
}

/* ---- headers ---- */

static void
add_header(Request *request, const char *name, const char *value)
{
	ObxText		header;

	obx_text_init(&header);
	obx_text_printf(&header, "%s: ", name);
	/* the binding percent-encodes what is not printable ASCII */
	for (const char *c = value; *c != '\0'; c++)
		if (*c <= ' ' || *c == '"' || *c == '%' || *c >= 0x7F)
			obx_uri_append_escaped(&header, *c);
		else
			obx_text_append_char(&header, *c);
	request->headers = curl_slist_append(request->headers, header.data);
	obx_text_free(&header);
}

static void
add_plain_header(Request *request, const char *name, const char *value)
{
	ObxText		header;

	obx_text_init(&header);
	obx_text_printf(&header, "%s: %s", name, value);
	request->headers = curl_slist_append(request->headers, header.data);
	obx_text_free(&header);
}

/* An ObxAttributeFunction. */
static void
add_attribute(void *context, const char *name, const char *value)
{
	char		header[40];

	snprintf(header, sizeof(header), "ce-%s", name);
	add_header(context, header, value);
}

/* webhook-id, webhook-timestamp and, with a secret, webhook-signature. */
static void
add_signature(const Http *sink, Request *request, const char *id)
{
	ObxText text;
	char		now[32];
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned char encoded[2 * EVP_MAX_MD_SIZE] = "";
	unsigned int length = 0;

	snprintf(now, sizeof(now), "%lld", (long long) time(NULL));
	add_plain_header(request, "webhook-id", id);
	add_plain_header(request, "webhook-timestamp", now);
	if (sink->secret_length == 0)
		return;
	obx_text_init(&text);
	obx_text_printf(&text, "%s.%s.", id, now);
	obx_text_append(&text, request->body.data, request->body.length);
	HMAC(EVP_sha256(), sink->secret, sink->secret_length, (unsigned char *) text.data, text.length,
		 digest, &length);
	EVP_EncodeBlock(encoded, digest, length);
	obx_text_clear(&text);
	obx_text_printf(&text, "v1,%s", encoded);
	add_plain_header(request, "webhook-signature", text.data);
	obx_text_free(&text);
}

/* ---- requests ---- */

static size_t
ignore_answer(char *data, size_t size, size_t count, void *context)
{
	(void) data;
	(void) context;
	return size * count;
}

static Request *
find_free(Http *sink)
{
	for (int i = 0; i < sink->connections; i++)
		if (!sink->requests[i].running && !sink->requests[i].answered && !sink->requests[i].failed)
			return &sink->requests[i];
	return NULL;
}

static void
start_request(Http *sink, Request *request, const char *id)
{
	CURL	   *curl;

	if (request->curl == NULL)
		request->curl = curl_easy_init();
	curl = request->curl;
	add_signature(sink, request, id);
	for (struct curl_slist *own = sink->own_headers; own != NULL; own = own->next)
		request->headers = curl_slist_append(request->headers, own->data);
	request->headers = curl_slist_append(request->headers, "Expect:");
	curl_easy_reset(curl);
	curl_easy_setopt(curl, CURLOPT_URL, sink->url);
	curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body.data);
	curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) request->body.length);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, request->headers);
	curl_easy_setopt(curl, CURLOPT_USERAGENT, "pg_outbox/" OBX_VERSION);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long) (sink->timeout / OBX_MILLISECOND));
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, ignore_answer);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_PRIVATE, request);
	curl_multi_add_handle(sink->multi, curl);
	request->running = true;
}

static void
end_request(Http *sink, Request *request)
{
	if (request->running)
		curl_multi_remove_handle(sink->multi, request->curl);
	curl_slist_free_all(request->headers);
	request->headers = NULL;
	free(request->key);
	request->key = NULL;
	request->running = request->answered = request->failed = false;
}

static void
send_gathered(Http *sink)
{
	Request    *request = find_free(sink);

	if (request == NULL || sink->ngathered == 0)
		return;
	obx_text_append_char(&sink->gathered, ']');
	obx_text_clear(&request->body);
	obx_text_append(&request->body, sink->gathered.data, sink->gathered.length);
	request->first = sink->gathered_first;
	request->last = sink->gathered_last;
	add_plain_header(request, "Content-Type", "application/cloudevents-batch+json");
	start_request(sink, request, sink->gathered_id.data);
	sink->ngathered = 0;
}

static bool
gather(Http *sink, const ObxMessage *message)
{
	int			most = sink->alone > 0 ? 1 : sink->batch;

	if (sink->ngathered >= most || (sink->ngathered > 0 && sink->gathered.length + message->length > MOST_BYTES))
	{
		send_gathered(sink);
		if (sink->ngathered > 0)
			return false;
	}
	if (sink->ngathered == 0)
	{
		obx_text_clear(&sink->gathered);
		obx_text_clear(&sink->gathered_id);
		obx_text_append_string(&sink->gathered_id, message->id);
		sink->gathered_first = message->ticket;
	}
	obx_text_append_char(&sink->gathered, sink->ngathered == 0 ? '[' : ',');
	obx_text_append(&sink->gathered, message->body, message->length);
	sink->ngathered++;
	sink->gathered_last = message->ticket;
	sink->newest = message->ticket;
	if (sink->alone > 0)
		sink->alone--;
	sink->sealed = false;
	return true;
}

static bool
send_http(void *context, const ObxMessage *message)
{
	Http	   *sink = context;
	const char *key = message->event->key;
	Request    *request;

	if (sink->failure.text[0] != '\0')
		return false;
	if (sink->mode == BATCH)
		return gather(sink, message);
	request = find_free(sink);
	for (int i = 0; key != NULL && i < sink->connections; i++)
		if (sink->requests[i].running && sink->requests[i].key != NULL &&
			strcmp(sink->requests[i].key, key) == 0)
			return false;
	if (request == NULL)
		return false;
	obx_text_clear(&request->body);
	if (sink->mode == BINARY && message->form == OBX_FORM_CLOUDEVENTS)
	{
		obx_event_attributes(message->event, message->generations, add_attribute, request);
		obx_text_append(&request->body, message->body, message->length);
		add_plain_header(request, "Content-Type", "application/json");
	}
	else
	{
		obx_text_append(&request->body, message->body, message->length);
		add_plain_header(request, "Content-Type", message->form == OBX_FORM_CLOUDEVENTS ?
						 "application/cloudevents+json; charset=utf-8" : "application/json");
	}
	request->key = key != NULL ? obx_copy_string(key) : NULL;
	request->first = request->last = message->ticket;
	sink->newest = message->ticket;
	start_request(sink, request, message->id);
	return true;
}

/* ---- answers ---- */

static void
forget_http(void *context)
{
	Http	   *sink = context;

	for (int i = 0; i < MOST_CONNECTIONS; i++)
		end_request(sink, &sink->requests[i]);
	sink->ngathered = 0;
	sink->rejection.ticket = 0;
	sink->confirmed = sink->newest;
}

static void
fail(Http *sink, ObxVerdict verdict, const char *what, const char *why)
{
	sink->failure = (ObxSinkResult)
	{
		verdict, 0, ""
	};
	snprintf(sink->failure.text, sizeof(sink->failure.text), "%s: %s", what, why);
}

static void
obey_retry_after(Http *sink, CURL * curl)
{
	curl_off_t	seconds = 0;

	if (curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &seconds) == CURLE_OK && seconds > 0)
		sink->not_before = obx_now() + (seconds < LONGEST_RETRY_AFTER / OBX_SECOND ?
										seconds * OBX_SECOND : LONGEST_RETRY_AFTER);
}

/* An answer that is no 2xx. */
static void
take_refusal(Http *sink, Request *request, long status)
{
	char text[	40];

	snprintf(text, sizeof(text), "HTTP status %ld", status);
	if (status == 408 || status == 425 || status == 429 || status >= 500)
	{
		obey_retry_after(sink, request->curl);
		fail(sink, OBX_LATER, sink->url, text);
	}
	else if (status == 401 || status == 403 || status == 404 || status == 405 || status == 407 ||
			 status == 410 || status < 400)
		fail(sink, OBX_REFUSED, sink->url, text);
	else if (request->last > request->first)
	{
		/* which one is it: they are sent one by one */
		sink->alone = request->last - request->first + 1;
		fail(sink, OBX_LATER, sink->url, text);
	}
	else
	{
		sink->rejection = (ObxSinkResult)
		{
			OBX_NEVER, request->first, ""
		};
		snprintf(sink->rejection.text, sizeof(sink->rejection.text), "%s: %s", sink->url, text);
		request->answered = true;
	}
}

static void
take_answer(Http *sink, const CURLMsg * message)
{
	Request    *request = NULL;
	CURLcode	code = message->data.result;
	long		status = 0;

	curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &request);
	curl_easy_getinfo(message->easy_handle, CURLINFO_RESPONSE_CODE, &status);
	curl_multi_remove_handle(sink->multi, request->curl);
	request->running = false;
	if (code != CURLE_OK)
		fail(sink, code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_URL_MALFORMAT ||
			 code == CURLE_UNSUPPORTED_PROTOCOL ? OBX_REFUSED : OBX_LATER,
			 sink->url, curl_easy_strerror(code));
	else if (status >= 200 && status < 300)
		request->answered = true;
	else
		take_refusal(sink, request, status);
	request->failed = !request->answered;
	curl_slist_free_all(request->headers);
	request->headers = NULL;
}

static void
work_http(void *context)
{
	Http	   *sink = context;
	CURLMsg    *message;
	int			running;
	int			left;

	if (sink->mode == BATCH && (sink->sealed || sink->ngathered >= (sink->alone > 0 ? 1 : sink->batch)))
		send_gathered(sink);
	curl_multi_perform(sink->multi, &running);
	/* one rejection at a time is told */
	while (sink->rejection.ticket == 0 && (message = curl_multi_info_read(sink->multi, &left)) != NULL)
		if (message->msg == CURLMSG_DONE)
			take_answer(sink, message);
}

/* The last ticket before the first one that is not answered. */
static int64_t
find_confirmed(Http *sink)
{
	int64_t		until = sink->ngathered > 0 ? sink->gathered_first - 1 : sink->newest;

	for (int i = 0; i < sink->connections; i++)
		if ((sink->requests[i].running || sink->requests[i].failed) &&
			sink->requests[i].first <= until)
			until = sink->requests[i].first - 1;
	return until;
}

static bool
tell_result(void *context, ObxSinkResult *result)
{
	Http	   *sink = context;
	int64_t		confirmed;

	if (sink->rejection.ticket > 0)
	{
		*result = sink->rejection;
		sink->rejection.ticket = 0;
		return true;
	}
	if (sink->connecting)
	{
		if (obx_now() < sink->not_before)
			return false;
		sink->connecting = false;
		*result = (ObxSinkResult)
		{
			OBX_CONNECTED, 0, ""
		};
		return true;
	}
	confirmed = find_confirmed(sink);
	for (int i = 0; i < sink->connections; i++)
		if (sink->requests[i].answered)
			end_request(sink, &sink->requests[i]);
	if (confirmed > sink->confirmed)
	{
		sink->confirmed = confirmed;
		*result = (ObxSinkResult)
		{
			OBX_CONFIRMED, confirmed, ""
		};
		return true;
	}
	if (sink->failure.text[0] == '\0')
		return false;
	*result = sink->failure;
	sink->failure.text[0] = '\0';
	forget_http(sink);
	return true;
}

static void
connect_http(void *context)
{
	Http	   *sink = context;

	/* a web server is met with the first request */
	sink->connecting = true;
}

static void
seal_http(void *context, const char *progress)
{
	Http	   *sink = context;

	(void) progress;
	sink->sealed = true;
}

static int
wait_for_http(void *context, struct pollfd *descriptors, int max, int64_t * until)
{
	Http	   *sink = context;
	fd_set		in;
	fd_set		out;
	fd_set		bad;
	int			highest = -1;
	int			count = 0;
	long		timeout = -1;
	int64_t		at = OBX_FOREVER;

	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_ZERO(&bad);
	curl_multi_fdset(sink->multi, &in, &out, &bad, &highest);
	for (int fd = 0; fd <= highest && count < max; fd++)
		if (FD_ISSET(fd, &in) || FD_ISSET(fd, &out))
			descriptors[count++] = (struct pollfd)
		{
			.fd = fd,.events = (FD_ISSET(fd, &in) ? POLLIN : 0) | (FD_ISSET(fd, &out) ? POLLOUT : 0)
		};
	curl_multi_timeout(sink->multi, &timeout);
	if (timeout >= 0)
		at = obx_now() + timeout * OBX_MILLISECOND;
	/* such as the look-up of a name, which has no descriptor */
	for (int i = 0; highest < 0 && i < sink->connections; i++)
		if (sink->requests[i].running && at > obx_now() + 10 * OBX_MILLISECOND)
			at = obx_now() + 10 * OBX_MILLISECOND;
	if (sink->connecting)
		at = sink->not_before;
	if (sink->rejection.ticket > 0 || sink->failure.text[0] != '\0')
		at = 0;
	if (at < *until)
		*until = at;
	return count;
}

static void
close_http(void *context)
{
	Http	   *sink = context;

	forget_http(sink);
	for (int i = 0; i < MOST_CONNECTIONS; i++)
	{
		if (sink->requests[i].curl != NULL)
			curl_easy_cleanup(sink->requests[i].curl);
		obx_text_free(&sink->requests[i].body);
	}
	curl_multi_cleanup(sink->multi);
	curl_slist_free_all(sink->own_headers);
	obx_text_free(&sink->gathered);
	obx_text_free(&sink->gathered_id);
	free(sink);
}

const ObxSinkModule obx_sink = {
	.interface = OBX_SINK_INTERFACE,
	.name = "http",
	.open = open_http,
	.connect = connect_http,
	.send = send_http,
	.seal = seal_http,
	.wait_for = wait_for_http,
	.work = work_http,
	.result = tell_result,
	.forget = forget_http,
	.close = close_http
};
