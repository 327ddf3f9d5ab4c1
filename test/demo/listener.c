/*
 * An application that LISTENs to a channel subscription, and misses nothing.
 *
 *   listener CONNINFO CHANNEL [TYPE]...
 *
 * A notification tells an event's position, and reaches only those who listen
 * at that moment.  What was missed is read from the log: after every LISTEN
 * this program asks outbox.read() for what came after the last position that
 * it has seen.  LISTEN comes first and the question second, so an event is in
 * the answer, or notified, or both; the position tells which were seen.  That
 * holds for a channel that has one lane (concurrency => 1, the default), since
 * then notifications come in the order of positions.
 *
 * It prints a line per event: the time of its arrival in microseconds, the
 * position, "live" or "read", the type and the key ("-" for none).  SIGTERM
 * or SIGINT ends it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include <libpq-fe.h>

#define RECONNECT_MS 50
#define PAGE "1000"

static const char *conninfo;
static const char *channel;
static char *types;				/* an array in PostgreSQL's notation */
static long long last_position = -1;	/* -1: not yet known */
static long long count = 0;
static volatile sig_atomic_t stopped = 0;
static sigset_t while_waiting;

static void
stop(int signal_number)
{
	(void) signal_number;
	stopped = 1;
}

/*
 * Signals are let in only while we wait, so none comes between the look at
 * "stopped" and the wait.
 */
static void
wait_for(int socket, int milliseconds)
{
	struct pollfd fd = {.fd = socket,.events = POLLIN};
	struct timespec timeout = {milliseconds / 1000, (milliseconds % 1000) * 1000000L};

	if (ppoll(&fd, socket < 0 ? 0 : 1, milliseconds < 0 ? NULL : &timeout,
			  &while_waiting) < 0 && errno != EINTR)
	{
		perror("ppoll");
		exit(1);
	}
}

/* Each event once, however often it is heard of. */
static void
take(long long position, const char *how, const char *type, const char *key)
{
	struct timeval now;

	if (position <= last_position)
		return;
	last_position = position;
	count++;
	gettimeofday(&now, NULL);
	printf("%" PRId64 " %lld %s %s %s\n",
		   (int64_t) now.tv_sec * 1000000 + now.tv_usec, position, how, type, key);
}

/*
 * The text of a member of the payload, which is a flat JSON object; escapes
 * stay as they are.  A real application has a JSON library.
 */
static const char *
member(const char *payload, const char *name, char *buffer, size_t size)
{
	char		pattern[64];
	const char *start;
	size_t		length = 0;

	snprintf(pattern, sizeof(pattern), "\"%s\":", name);
	start = strstr(payload, pattern);
	if (start == NULL)
		return "-";
	start += strlen(pattern);
	start += strspn(start, " ");
	if (*start == '"')
	{
		start++;
		while (start[length] != '\0' && start[length] != '"')
			length += start[length] == '\\' && start[length + 1] != '\0' ? 2 : 1;
	}
	else
		length = strcspn(start, ",} ");
	if (length == 4 && strncmp(start, "null", 4) == 0)
		return "-";
	if (length >= size)
		length = size - 1;
	memcpy(buffer, start, length);
	buffer[length] = '\0';
	return buffer;
}

/* Run a query; NULL if the connection is lost, the end if it is refused. */
static PGresult *
query(PGconn *conn, const char *sql, int nparams, const char *const *params)
{
	PGresult   *result = PQexecParams(conn, sql, nparams, NULL, params, NULL, NULL, 0);
	ExecStatusType status = PQresultStatus(result);

	if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK)
		return result;
	if (PQstatus(conn) == CONNECTION_OK)
	{
		fprintf(stderr, "listener: %s", PQresultErrorMessage(result));
		exit(1);
	}
	PQclear(result);
	return NULL;
}

static int
listen_to_channel(PGconn *conn)
{
	char	   *name = PQescapeIdentifier(conn, channel, strlen(channel));
	char		sql[256];
	PGresult   *result;

	snprintf(sql, sizeof(sql), "LISTEN %s", name);
	PQfreemem(name);
	result = query(conn, sql, 0, NULL);
	PQclear(result);
	return result != NULL;
}

/* Who comes for the first time starts at the end of the log. */
static int
find_start(PGconn *conn)
{
	PGresult   *result = query(conn, "SELECT outbox.head()", 0, NULL);

	if (result == NULL)
		return 0;
	last_position = atoll(PQgetvalue(result, 0, 0));
	PQclear(result);
	return 1;
}

/*
 * Page by page.  A page that is not full was the last one: what has come since
 * is notified.
 */
static int
catch_up(PGconn *conn)
{
	char		after[32];
	const char *params[] = {after, types};
	int			rows;

	do
	{
		PGresult   *result;

		snprintf(after, sizeof(after), "%lld", last_position);
		result = query(conn,
					   "SELECT position, type, coalesce(key, '-')"
					   " FROM outbox.read(after => $1::bigint, max_events => " PAGE ","
					   " types => $2::text[]) ORDER BY position", 2, params);
		if (result == NULL)
			return 0;
		rows = PQntuples(result);
		for (int i = 0; i < rows; i++)
			take(atoll(PQgetvalue(result, i, 0)), "read",
				 PQgetvalue(result, i, 1), PQgetvalue(result, i, 2));
		PQclear(result);
	} while (rows == atoi(PAGE));
	return 1;
}

static void
take_notifications(PGconn *conn)
{
	PGnotify   *notify;

	while ((notify = PQnotifies(conn)) != NULL)
	{
		char		position[32],
					type[256],
					key[2048];

		take(atoll(member(notify->extra, "position", position, sizeof(position))),
			 "live",
			 member(notify->extra, "type", type, sizeof(type)),
			 member(notify->extra, "key", key, sizeof(key)));
		PQfreemem(notify);
	}
	fflush(stdout);
}

/* One connection's life. */
static void
serve(PGconn *conn)
{
	if (!listen_to_channel(conn))
		return;
	if (last_position < 0 ? !find_start(conn) : !catch_up(conn))
		return;
	fprintf(stderr, "listener: listening after position %lld\n", last_position);
	take_notifications(conn);	/* those that came with the answers */
	while (!stopped)
	{
		wait_for(PQsocket(conn), -1);
		if (!PQconsumeInput(conn))
			return;
		take_notifications(conn);
	}
}

/* The arguments as the text form of an array. */
static char *
array_of(int n, char **elements)
{
	size_t		size = 8;
	char	   *array,
			   *end;

	for (int i = 0; i < n; i++)
		size += 2 * strlen(elements[i]) + 3;
	end = array = malloc(size);
	*end++ = '{';
	for (int i = 0; i < n; i++)
	{
		if (i > 0)
			*end++ = ',';
		*end++ = '"';
		for (const char *p = elements[i]; *p; p++)
		{
			if (*p == '"' || *p == '\\')
				*end++ = '\\';
			*end++ = *p;
		}
		*end++ = '"';
	}
	if (n == 0)
		*end++ = '*';
	*end++ = '}';
	*end = '\0';
	return array;
}

int
main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = stop};
	sigset_t	blocked;
	int			connections = 0;

	if (argc < 3)
	{
		fprintf(stderr, "usage: listener CONNINFO CHANNEL [TYPE]...\n");
		return 2;
	}
	conninfo = argv[1];
	channel = argv[2];
	types = array_of(argc - 3, argv + 3);

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGTERM);
	sigaddset(&blocked, SIGINT);
	sigprocmask(SIG_BLOCK, &blocked, &while_waiting);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);

	while (!stopped)
	{
		PGconn	   *conn = PQconnectdb(conninfo);

		if (PQstatus(conn) == CONNECTION_OK)
		{
			connections++;
			serve(conn);
			if (!stopped)
				fprintf(stderr, "listener: connection lost after position %lld\n",
						last_position);
		}
		PQfinish(conn);
		if (!stopped)
			wait_for(-1, RECONNECT_MS);
	}
	fprintf(stderr, "listener: %lld events over %d connections, last position %lld\n",
			count, connections, last_position);
	free(types);
	return 0;
}
