/*
 * pg_outbox tail: the events of the log, in the order of positions.
 *
 * Nothing is missed: what was written is remembered as a position, and the
 * log is asked for what comes after it.  A notification only says when to ask,
 * so it is listened to before the log is read.  Before each question the
 * log's head is asked for: what comes before it and is not in the answer is
 * not wanted, and is not looked at again.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "cli/command.h"
#include "cli/output.h"

#define PAGE			1000
#define DEFAULT_LINES	10
#define POLL_MS			200
#define RECONNECT_MS	5000

typedef struct Tail
{
	ObxCall    *call;
	PGconn	   *conn;
	char	   *types;			/* an array in PostgreSQL's notation */
	const char *key;
	const char *since;
	bool		follow;
	bool		lost_told;
	long long	after;			/* everything up to here was written */
	long long	seen;			/* rows of the page, wanted or not */
	int			generation;		/* 0: not known yet */
} Tail;

/* The log's ends. */
typedef struct Ends
{
	long long	oldest;			/* head + 1 if there is none */
	long long	head;
	int			generation;
} Ends;

/* ---- the form of an event ---- */

#define EVENT_ROW \
	"ROW(e.id, e.xid, e.time, e.type, e.source, e.key, e.operation, e.data, e.old, e.headers," \
	" e.correlation_id, e.causation_id)::outbox.event"

#define PAGE_SQL(columns) \
	"SELECT e.position, w.wanted, " columns \
	" FROM outbox.read($1::bigint, $2::integer, $3::text[]) e," \
	" LATERAL (SELECT ($4::text IS NULL OR e.key OPERATOR(pg_catalog.=) $4::text) IS TRUE AND" \
	" ($5::timestamptz IS NULL OR e.time OPERATOR(pg_catalog.>=) $5::timestamptz) AS wanted) w"

static const char text_sql[] =
PAGE_SQL("CASE WHEN w.wanted THEN e.time END, CASE WHEN w.wanted THEN e.type END,"
		 " CASE WHEN w.wanted THEN e.key END, CASE WHEN w.wanted THEN e.data END");

static const char json_sql[] =
PAGE_SQL("CASE WHEN w.wanted THEN pg_catalog.row_to_json(e) END");

static const char cloudevents_sql[] =
PAGE_SQL("CASE WHEN w.wanted THEN outbox.to_cloudevent(" EVENT_ROW ") END");

enum
{
	POSITION, WANTED, BODY, TYPE, KEY, DATA
};

static void
write_text(const PGresult *row)
{
	ObxText text;

	obx_text_init(&text);
	obx_text_printf(&text, "%s  %s%s%s  %s", PQgetvalue(row, 0, POSITION), obx_output_dim(),
					PQgetvalue(row, 0, BODY), obx_output_plain(), obx_output_bold());
	obx_text_append_visible(&text, PQgetvalue(row, 0, TYPE));
	obx_text_printf(&text, "%s  ", obx_output_plain());
	obx_text_append_visible(&text, PQgetisnull(row, 0, KEY) ? "-" : PQgetvalue(row, 0, KEY));
	obx_text_append_string(&text, "  ");
	obx_text_append_visible(&text, PQgetvalue(row, 0, DATA));
	obx_text_append_char(&text, '\n');
	obx_output_write(&text);
	obx_text_free(&text);
}

static void
take_row(const PGresult *row, void *context)
{
	Tail	   *tail = context;

	tail->seen++;
	tail->after = atoll(PQgetvalue(row, 0, POSITION));
	if (PQgetvalue(row, 0, WANTED)[0] != 't')
		return;
	if (PQnfields(row) > DATA)
		write_text(row);
	else
		obx_output_line(PQgetvalue(row, 0, BODY));
}

/* ---- reading ---- */

/* False if the connection was lost. */
static bool
find_ends(const Tail *tail, Ends *ends)
{
	PGresult   *row = obx_query(tail->conn, tail->follow,
								"SELECT outbox.head(), outbox.oldest(), outbox.generation()",
								0, NULL);

	if (row == NULL)
		return false;
	ends->head = atoll(PQgetvalue(row, 0, 0));
	ends->oldest = PQgetisnull(row, 0, 1) ? ends->head + 1 : atoll(PQgetvalue(row, 0, 1));
	ends->generation = atoi(PQgetvalue(row, 0, 2));
	PQclear(row);
	return true;
}

/* Reads what there is up to the head; false if the connection was lost. */
static bool
read_up(Tail *tail, const Ends *ends)
{
	const char *sql = obx_call_is_format(tail->call, "json") ? json_sql :
	obx_call_is_format(tail->call, "cloudevents") ? cloudevents_sql : text_sql;
	char		after[32];
	char		limit[32];
	const char *params[] = {after, limit, tail->types, tail->key, tail->since};

	snprintf(limit, sizeof(limit), "%d", PAGE);
	do
	{
		snprintf(after, sizeof(after), "%lld", tail->after);
		tail->seen = 0;
		if (!obx_query_rows(tail->conn, tail->follow, sql, 5, params, take_row, tail))
		{
			obx_output_flush();
			return false;
		}
	} while (tail->seen == PAGE && (tail->follow || tail->after < ends->head));
	if (tail->after < ends->head)
		tail->after = ends->head;
	obx_output_flush();
	return true;
}

/* What a reader who is not told would take for a complete log. */
static void
tell_of_gaps(Tail *tail, const Ends *ends)
{
	if (tail->generation != 0 && ends->generation != tail->generation)
		obx_warn("the log goes on as generation %d: the last positions may have been given again",
				 ends->generation);
	tail->generation = ends->generation;
	if (tail->after > ends->head)
	{
		obx_warn("the log ends at position %lld, and positions up to %lld were shown: they are given again",
				 ends->head, tail->after);
		tail->after = ends->head;
	}
	if (tail->after + 1 < ends->oldest)
	{
		obx_warn("positions %lld to %lld are not kept any more", tail->after + 1, ends->oldest - 1);
		tail->after = ends->oldest - 1;
	}
}

/* ---- where to begin ---- */

/* Looks back farther and farther, until that many are found. */
static void
find_last_lines(Tail *tail, const Ends *ends, long long lines)
{
	long long	reach = lines;

	tail->after = ends->head;
	while (lines > 0)
	{
		char		from[32];
		char		count[32];
		const char *params[] = {from, tail->types, tail->key, count};
		char	   *found;

		if (reach > ends->head - ends->oldest + 1)
			reach = ends->head - ends->oldest + 1;
		snprintf(from, sizeof(from), "%lld", ends->head - reach);
		snprintf(count, sizeof(count), "%lld", lines - 1);
		found = obx_query_value(tail->conn,
								"SELECT e.position FROM outbox.read($1::bigint, 2147483647, $2::text[]) e"
								" WHERE ($3::text IS NULL OR e.key OPERATOR(pg_catalog.=) $3::text)"
								" ORDER BY e.position DESC OFFSET $4::bigint LIMIT 1", 4, params);
		if (found != NULL)
			tail->after = atoll(found) - 1;
		else if (ends->head - reach < ends->oldest)
			tail->after = ends->oldest - 1;
		free(found);
		if (tail->after < ends->head || reach <= 0 || ends->head - reach < ends->oldest)
			break;
		reach *= 4;
	}
}

static void
find_start(Tail *tail, const Ends *ends)
{
	const char *after = obx_call_value(tail->call, "after");
	const char *lines = obx_call_value(tail->call, "lines");

	if (after != NULL)
		tail->after = atoll(after);
	else if (tail->since != NULL)
		tail->after = ends->oldest - 1;
	else
		find_last_lines(tail, ends, lines != NULL ? atoll(lines) : DEFAULT_LINES);
	if (after == NULL)
		return;
	tell_of_gaps(tail, ends);
}

/* ---- following ---- */

/* Before the log is read, so that nothing comes in between. */
static bool
start_listening(Tail *tail)
{
	const char *channel = obx_call_value(tail->call, "listen");
	ObxText		sql;
	char	   *name;
	PGresult   *result;

	if (channel == NULL)
		return true;
	name = PQescapeIdentifier(tail->conn, channel, strlen(channel));
	if (name == NULL)
		obx_die(OBX_EXIT_ERROR, "%s", PQerrorMessage(tail->conn));
	obx_text_init(&sql);
	obx_text_printf(&sql, "LISTEN %s", name);
	PQfreemem(name);
	result = obx_query(tail->conn, true, sql.data, 0, NULL);
	obx_text_free(&sql);
	PQclear(result);
	return result != NULL;
}

/* Sleeps until something comes, or a while. */
static void
wait_for_more(Tail *tail)
{
	struct pollfd fd = {.fd = PQsocket(tail->conn),.events = POLLIN};
	PGnotify   *notify;

	poll(&fd, fd.fd >= 0 ? 1 : 0, POLL_MS);
	PQconsumeInput(tail->conn);
	while ((notify = PQnotifies(tail->conn)) != NULL)
		PQfreemem(notify);
}

static void
connect_again(Tail *tail)
{
	int			wait = 100;

	if (!tail->lost_told)
		obx_warn("the connection was lost; it is tried again from position %lld on", tail->after + 1);
	tail->lost_told = true;
	PQfinish(tail->conn);
	for (;;)
	{
		char	   *error;

		tail->conn = obx_connect(&tail->call->connect, &error);
		if (tail->conn != NULL)
		{
			if (start_listening(tail))
				return;
			PQfinish(tail->conn);
		}
		else
			free(error);
		poll(NULL, 0, wait);
		wait = wait * 2 < RECONNECT_MS ? wait * 2 : RECONNECT_MS;
	}
}

static void
follow(Tail *tail)
{
	for (;;)
	{
		Ends		ends;

		wait_for_more(tail);
		if (!find_ends(tail, &ends))
		{
			connect_again(tail);
			continue;
		}
		if (tail->lost_told)
			obx_log("the connection is back");
		tail->lost_told = false;
		tell_of_gaps(tail, &ends);
		if (ends.head > tail->after && !read_up(tail, &ends))
			connect_again(tail);
	}
}

/* ---- the command ---- */

/* The patterns as an array of SQL: each in quotes. */
static char *
make_types(const ObxCall *call)
{
	ObxText		types;

	if (call->nrepeated + call->narguments == 0)
		return obx_copy_string("{*}");
	obx_text_init(&types);
	for (int i = 0; i < call->nrepeated + call->narguments; i++)
	{
		const char *pattern = i < call->nrepeated ? call->repeated[i] :
		call->arguments[i - call->nrepeated];

		obx_text_append_string(&types, i == 0 ? "{\"" : ",\"");
		for (; *pattern != '\0'; pattern++)
		{
			if (*pattern == '"' || *pattern == '\\')
				obx_text_append_char(&types, '\\');
			obx_text_append_char(&types, *pattern);
		}
		obx_text_append_char(&types, '"');
	}
	obx_text_append_char(&types, '}');
	return types.data;
}

static int
run_tail(ObxCall *call)
{
	Tail		tail = {.call = call};
	Ends		ends;

	if (obx_call_has(call, "lines") + obx_call_has(call, "after") + obx_call_has(call, "since") > 1)
		obx_call_refuse(call, "only one of -n, --after and --since can be given");
	if (obx_call_has(call, "lines"))
		obx_call_number(call, "a number of events", obx_call_value(call, "lines"), 0);
	if (obx_call_has(call, "after"))
		obx_call_number(call, "a position", obx_call_value(call, "after"), 0);
	if (call->narguments > 0 && call->nrepeated == 0)
		obx_call_refuse(call, "\"%s\" is no option: patterns come after --types", call->arguments[0]);
	tail.types = make_types(call);
	tail.key = obx_call_value(call, "key");
	tail.since = obx_call_value(call, "since");
	tail.follow = obx_call_has(call, "follow");
	/* times of programs are in one zone, and without a locale's form */
	if (obx_call_value(call, "format") != NULL && !obx_call_is_format(call, "text"))
		setenv("PGTZ", "UTC", 1);

	tail.conn = obx_connect_or_die(&call->connect);
	start_listening(&tail);
	if (!find_ends(&tail, &ends))
		obx_die(OBX_EXIT_DATABASE, "%s", PQerrorMessage(tail.conn));
	tail.generation = ends.generation;
	find_start(&tail, &ends);
	if (!read_up(&tail, &ends))
		connect_again(&tail);
	if (tail.follow)
		follow(&tail);
	PQfinish(tail.conn);
	return OBX_EXIT_OK;
}

const ObxCommand obx_tail_command = {
	.name = "tail",
	.usage = "[-f] [-n N | --after POSITION | --since TIME] [--types PATTERN...] [--key KEY] "
	"[--format text|json|cloudevents]",
	.summary = "show the last events, and go on with what comes",
	.more = "Without -n, --after and --since it begins with the last 10 events that are wanted.\n"
	"With -f, --listen names the channel of a subscription, whose notifications make it look\n"
	"at once; it looks every 200 ms anyway, and goes on after a lost connection.",
	.max_arguments = OBX_MAX_REPEATED,
	.run = run_tail,
	.options = {
		{'f', "follow", NULL, NULL, "go on with what comes"},
		{'n', "lines", "N", NULL, "begin with the last N events"},
		{0, "after", "POSITION", NULL, "begin after this position"},
		{0, "since", "TIME", NULL, "only events that were emitted at this time or later"},
		{0, "types", "PATTERN...", NULL, "only events of these types; * stands for any characters"},
		{0, "key", "KEY", NULL, "only events with this key"},
		{0, "format", "FORMAT", "text|json|cloudevents", "text for people, or an object per line"},
		{0, "listen", "CHANNEL", NULL, "a channel whose notifications tell of new events"},
		{0}
	}
};
