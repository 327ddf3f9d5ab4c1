/*
 * pg_outbox trace and why: what came of what, and where an event is.
 */
#include <string.h>

#include "base/log.h"
#include "cli/command.h"
#include "cli/output.h"

/* ---- trace ---- */

static const char *
find_correlation(ObxCall *call, PGconn *conn)
{
	const char *id = obx_call_value(call, "event");
	const char *correlation;

	if (id == NULL)
		return call->arguments[0];
	correlation = obx_query_value(conn, "SELECT e.correlation_id FROM outbox.event e"
								  " WHERE e.id OPERATOR(pg_catalog.=) $1::bigint", 1, &id);
	if (correlation == NULL)
		obx_die(OBX_EXIT_ERROR, "event %s is not in the log", id);
	return correlation;
}

static void
print_lines(PGconn *conn, const char *sql, const char *argument)
{
	char	   *text = obx_query_value(conn, sql, 1, &argument);

	if (text == NULL)
		obx_die(OBX_EXIT_ERROR, "the server says nothing about \"%s\"", argument);
	for (char *line = text; line != NULL;)
	{
		char	   *next = strchr(line, '\n');
		ObxText		out;

		if (next != NULL)
			*next++ = '\0';
		obx_text_init(&out);
		obx_text_append_visible(&out, line);
		if (next == NULL || *next != '\0' || *line != '\0')
			obx_output_line(out.data);
		obx_text_free(&out);
		line = next != NULL && *next != '\0' ? next : NULL;
	}
}

static int
run_trace(ObxCall *call)
{
	PGconn	   *conn;
	const char *correlation;

	if ((call->narguments == 1) == obx_call_has(call, "event"))
		obx_call_refuse(call, "give either a correlation or --event");
	if (obx_call_has(call, "event"))
		obx_call_number(call, "an event's id", obx_call_value(call, "event"), 1);
	conn = obx_connect_or_die(&call->connect);
	correlation = find_correlation(call, conn);
	if (obx_query_value(conn, "SELECT 1 FROM outbox.trace($1) LIMIT 1", 1, &correlation) == NULL)
		obx_die(OBX_EXIT_ERROR, "there are no events of the correlation \"%s\"", correlation);
	if (obx_call_is_format(call, "json"))
		obx_query_rows(conn, false, "SELECT pg_catalog.row_to_json(t) FROM outbox.trace($1) t",
					   1, &correlation, obx_output_row, NULL);
	else if (obx_call_is_format(call, "mermaid"))
		print_lines(conn, "SELECT outbox.trace_mermaid($1)", correlation);
	else
		print_lines(conn, "SELECT outbox.trace_text($1)", correlation);
	obx_output_flush();
	PQfinish(conn);
	return OBX_EXIT_OK;
}

const ObxCommand obx_trace_command = {
	.name = "trace",
	.usage = "CORRELATION | --event ID [--format text|mermaid|json]",
	.summary = "show what an event led to, as a tree",
	.max_arguments = 1,
	.run = run_trace,
	.options = {
		{0, "event", "ID", NULL, "the chain that the event with this id belongs to"},
		{0, "format", "FORMAT", "text|mermaid|json",
		"text for people, a flowchart, or an object per line"},
		{0}
	}
};

/* ---- why ---- */

static int
run_why(ObxCall *call)
{
	PGconn	   *conn;

	obx_call_number(call, "an event's id", call->arguments[0], 1);
	conn = obx_connect_or_die(&call->connect);
	print_lines(conn, "SELECT outbox.why_not_delivered($1::bigint)", call->arguments[0]);
	obx_output_flush();
	PQfinish(conn);
	return OBX_EXIT_OK;
}

const ObxCommand obx_why_command = {
	.name = "why",
	.usage = "EVENT-ID",
	.summary = "say where an event is, and why it was not delivered",
	.min_arguments = 1,
	.max_arguments = 1,
	.run = run_why
};
