/*
 * pg_outbox dead, redrive and discard: the events that a subscription has
 * given up.
 */
#include "base/log.h"
#include "cli/command.h"
#include "cli/output.h"

/* Without dead letters, a wrong name would look like a good one. */
static void
require_subscription(PGconn *conn, const char *name)
{
	if (obx_query_value(conn, "SELECT 1 FROM outbox.status s"
						" WHERE s.name OPERATOR(pg_catalog.=) $1", 1, &name) == NULL)
		obx_die(OBX_EXIT_ERROR, "subscription \"%s\" does not exist", name);
}

/* ---- dead ---- */

enum
{
	POSITION, TYPE, KEY, ATTEMPTS, FAILED_AT, BLOCKING, ERROR, DETAIL
};

static const char people_sql[] =
"SELECT d.position, d.type, d.key, d.attempts, d.failed_at, d.blocking, d.error, d.error_detail"
" FROM outbox.dead_letter d WHERE d.subscription OPERATOR(pg_catalog.=) $1 ORDER BY d.position";

static const char json_sql[] =
"SELECT pg_catalog.row_to_json(d) FROM outbox.dead_letter d"
" WHERE d.subscription OPERATOR(pg_catalog.=) $1 ORDER BY d.position";

static void
print_dead_letter(const PGresult *row, void *count)
{
	ObxText text;

	(*(long long *) count)++;
	obx_text_init(&text);
	obx_text_printf(&text, "%s%s%s  ", obx_output_bold(), PQgetvalue(row, 0, POSITION),
					obx_output_plain());
	obx_text_append_visible(&text, PQgetvalue(row, 0, TYPE));
	if (!PQgetisnull(row, 0, KEY))
	{
		obx_text_append_string(&text, "  ");
		obx_text_append_visible(&text, PQgetvalue(row, 0, KEY));
	}
	obx_text_printf(&text, "  attempts: %s, the last at %s%s\n", PQgetvalue(row, 0, ATTEMPTS),
					PQgetvalue(row, 0, FAILED_AT),
					PQgetvalue(row, 0, BLOCKING)[0] == 't' ? "; blocks its key" : "");
	obx_text_printf(&text, "    %s", obx_output_red());
	obx_text_append_visible(&text, PQgetvalue(row, 0, ERROR));
	obx_text_printf(&text, "%s\n", obx_output_plain());
	if (!PQgetisnull(row, 0, DETAIL) && PQgetvalue(row, 0, DETAIL)[0] != '\0')
	{
		obx_text_append_string(&text, "    ");
		obx_text_append_visible(&text, PQgetvalue(row, 0, DETAIL));
		obx_text_append_char(&text, '\n');
	}
	obx_output_write(&text);
	obx_text_free(&text);
}

static int
run_dead(ObxCall *call)
{
	PGconn	   *conn = obx_connect_or_die(&call->connect);
	const char *name = call->arguments[0];
	long long	count = 0;

	require_subscription(conn, name);
	if (obx_call_is_format(call, "json"))
		obx_query_rows(conn, false, json_sql, 1, &name, obx_output_row, NULL);
	else
	{
		obx_query_rows(conn, false, people_sql, 1, &name, print_dead_letter, &count);
		if (count == 0)
			obx_output_line("There are no dead letters.");
	}
	obx_output_flush();
	PQfinish(conn);
	return OBX_EXIT_OK;
}

const ObxCommand obx_dead_command = {
	.name = "dead",
	.usage = "SUBSCRIPTION [--format text|json]",
	.summary = "list the events that a subscription has given up",
	.min_arguments = 1,
	.max_arguments = 1,
	.run = run_dead,
	.options = {
		{0, "format", "FORMAT", "text|json", "text for people, or an object per line"},
		{0}
	}
};

/* ---- redrive, discard ---- */

static int
settle(ObxCall *call, const char *sql, const char *one, const char *many)
{
	const char *params[2] = {call->arguments[0], call->narguments > 1 ? call->arguments[1] : NULL};
	PGconn	   *conn;
	char	   *count;
	ObxText text;

	if (params[1] != NULL)
		obx_call_number(call, "a position", params[1], 1);
	conn = obx_connect_or_die(&call->connect);
	count = obx_query_value(conn, sql, 2, params);
	obx_text_init(&text);
	obx_text_printf(&text, "%s %s", count,
					obx_call_number(call, "a count", count, 0) == 1 ? one : many);
	obx_output_line(text.data);
	obx_output_flush();
	PQfinish(conn);
	return OBX_EXIT_OK;
}

static int
run_redrive(ObxCall *call)
{
	return settle(call, "SELECT outbox.redrive($1, $2::bigint)",
				  "dead letter is due again", "dead letters are due again");
}

static int
run_discard(ObxCall *call)
{
	return settle(call, "SELECT outbox.discard($1, $2::bigint)",
				  "dead letter was discarded", "dead letters were discarded");
}

const ObxCommand obx_redrive_command = {
	.name = "redrive",
	.usage = "SUBSCRIPTION [POSITION]",
	.summary = "make dead letters due again: one, or all",
	.min_arguments = 1,
	.max_arguments = 2,
	.run = run_redrive
};

const ObxCommand obx_discard_command = {
	.name = "discard",
	.usage = "SUBSCRIPTION [POSITION]",
	.summary = "remove dead letters: one, or all",
	.min_arguments = 1,
	.max_arguments = 2,
	.run = run_discard
};
