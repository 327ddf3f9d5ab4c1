/*
 * A server of three small pages.  A client gets one answer and is let go; who
 * dawdles is let go, too.
 */
#include "relay/monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

#define LONGEST_REQUEST 4096
#define LONGEST_VISIT	(5 * OBX_SECOND)

typedef struct Visitor
{
	int			socket;			/* -1: a free place */
	int64_t		until;
	char		request[LONGEST_REQUEST];
	size_t		read;
	ObxText		answer;			/* once there is one */
	size_t		written;
} Visitor;

struct ObxMonitor
{
	int			socket;
	ObxPageFunction make;
	void	   *context;
	Visitor		visitors[OBX_MONITOR_CLIENTS];
};

static void
set_nonblocking(int socket)
{
	fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) | O_NONBLOCK);
	fcntl(socket, F_SETFD, FD_CLOEXEC);
}

/* "127.0.0.1:9188", "[::1]:9188", "host:9188"; an empty host is all of them. */
static int
open_socket(const char *listen_to, ObxText *error)
{
	char	   *host = obx_copy_string(listen_to);
	char	   *port = strrchr(host, ':');
	char	   *name = host;
	struct addrinfo hints = {.ai_flags = AI_PASSIVE,.ai_socktype = SOCK_STREAM};
	struct addrinfo *address = NULL;
	int			result = -1;
	int			on = 1;

	if (port == NULL)
	{
		obx_text_printf(error, "\"%s\" is no HOST:PORT", listen_to);
		free(host);
		return -1;
	}
	*port++ = '\0';
	if (name[0] == '[' && name[strlen(name) - 1] == ']')
	{
		name[strlen(name) - 1] = '\0';
		name++;
	}
	on = getaddrinfo(name[0] != '\0' ? name : NULL, port, &hints, &address);
	if (on != 0)
		obx_text_printf(error, "\"%s\": %s", listen_to, gai_strerror(on));
	else
	{
		on = 1;
		result = socket(address->ai_family, SOCK_STREAM, 0);
		if (result < 0 ||
			setsockopt(result, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
			bind(result, address->ai_addr, address->ai_addrlen) != 0 ||
			listen(result, 64) != 0)
		{
			obx_text_printf(error, "could not listen to \"%s\": %s", listen_to, strerror(errno));
			if (result >= 0)
				close(result);
			result = -1;
		}
		freeaddrinfo(address);
	}
	free(host);
	return result;
}

ObxMonitor *
obx_monitor_open(const char *listen_to, ObxPageFunction make, void *context, char **error)
{
	ObxMonitor *monitor = obx_allocate(sizeof(ObxMonitor));
	ObxText text;

	obx_text_init(&text);
	monitor->make = make;
	monitor->context = context;
	for (int i = 0; i < OBX_MONITOR_CLIENTS; i++)
		monitor->visitors[i].socket = -1;
	monitor->socket = open_socket(listen_to, &text);
	if (monitor->socket < 0)
	{
		*error = text.data;

		free(monitor);
		return NULL;
	}
	set_nonblocking(monitor->socket);
	obx_text_free(&text);
	return monitor;
}

static void
dismiss(Visitor *visitor)
{
	close(visitor->socket);
	visitor->socket = -1;
	if (visitor->answer.data != NULL)
		obx_text_free(&visitor->answer);
}

void
obx_monitor_close(ObxMonitor *monitor)
{
	for (int i = 0; i < OBX_MONITOR_CLIENTS; i++)
		if (monitor->visitors[i].socket >= 0)
			dismiss(&monitor->visitors[i]);
	close(monitor->socket);
	free(monitor);
}

/* ---- answers ---- */

static void
answer(Visitor *visitor, const char *status, const char *body)
{
	obx_text_init(&visitor->answer);
	obx_text_printf(&visitor->answer,
					"HTTP/1.1 %s\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
					"Content-Length: %zu\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n%s",
					status, strlen(body), body);
}

static void
answer_request(ObxMonitor *monitor, Visitor *visitor)
{
	char	   *path = visitor->request + 5;
	ObxText		page;
	bool		good;

	if (strncmp(visitor->request, "GET /", 5) != 0)
	{
		answer(visitor, "405 Method Not Allowed", "only GET\n");
		return;
	}
	path[strcspn(path, " ?\r\n")] = '\0';
	if (strcmp(path, "metrics") != 0 && strcmp(path, "live") != 0 && strcmp(path, "ready") != 0)
	{
		answer(visitor, "404 Not Found", "there are /metrics, /live and /ready\n");
		return;
	}
	obx_text_init(&page);
	good = monitor->make(path, &page, monitor->context);
	answer(visitor, good ? "200 OK" : "503 Service Unavailable", page.data);
	obx_text_free(&page);
}

static void
serve(ObxMonitor *monitor, Visitor *visitor)
{
	if (visitor->answer.data == NULL)
	{
		ssize_t		length = recv(visitor->socket, visitor->request + visitor->read,
								  LONGEST_REQUEST - 1 - visitor->read, 0);

		if (length == 0 || (length < 0 && errno != EAGAIN && errno != EINTR))
		{
			dismiss(visitor);
			return;
		}
		if (length > 0)
			visitor->read += length;
		visitor->request[visitor->read] = '\0';
		if (strstr(visitor->request, "\r\n\r\n") != NULL)
			answer_request(monitor, visitor);
		else if (visitor->read == LONGEST_REQUEST - 1)
			answer(visitor, "431 Request Header Fields Too Large", "too long\n");
	}
	if (visitor->answer.data != NULL)
	{
		ssize_t		length = send(visitor->socket, visitor->answer.data + visitor->written,
								  visitor->answer.length - visitor->written, MSG_NOSIGNAL);

		if (length > 0)
			visitor->written += length;
		if (visitor->written == visitor->answer.length ||
			(length < 0 && errno != EAGAIN && errno != EINTR))
			dismiss(visitor);
	}
}

static void
let_in(ObxMonitor *monitor)
{
	for (int i = 0; i < OBX_MONITOR_CLIENTS; i++)
	{
		Visitor    *visitor = &monitor->visitors[i];

		if (visitor->socket >= 0)
			continue;
		visitor->socket = accept(monitor->socket, NULL, NULL);
		if (visitor->socket < 0)
			return;
		set_nonblocking(visitor->socket);
		visitor->until = obx_now() + LONGEST_VISIT;
		visitor->read = visitor->written = 0;
		visitor->answer.data = NULL;
	}
}

int
obx_monitor_wait_for(ObxMonitor *monitor, struct pollfd *descriptors, int64_t * until)
{
	int			count = 0;

	for (int i = 0; i < OBX_MONITOR_CLIENTS; i++)
	{
		const Visitor *visitor = &monitor->visitors[i];

		if (visitor->socket < 0)
			continue;
		descriptors[count++] = (struct pollfd)
		{
			.fd = visitor->socket,.events = visitor->answer.data != NULL ? POLLOUT : POLLIN
		};
		if (visitor->until < *until)
			*until = visitor->until;
	}
	/* others wait until there is a place */
	if (count < OBX_MONITOR_CLIENTS)
		descriptors[count++] = (struct pollfd)
	{
		.fd = monitor->socket,.events = POLLIN
	};
	return count;
}

void
obx_monitor_work(ObxMonitor *monitor)
{
	let_in(monitor);
	for (int i = 0; i < OBX_MONITOR_CLIENTS; i++)
	{
		Visitor    *visitor = &monitor->visitors[i];

		if (visitor->socket >= 0)
			serve(monitor, visitor);
		if (visitor->socket >= 0 && obx_now() > visitor->until)
			dismiss(visitor);
	}
}
