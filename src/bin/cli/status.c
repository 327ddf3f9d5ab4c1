/*
 * pg_outbox status: the subscriptions, and how far they are.
 */
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/command.h"
#include "cli/output.h"

#define WATCH_SECONDS	2

static const char people_sql[] =
"SELECT s.name, s.kind, s.state, s.position, s.lag,"
" pg_catalog.date_trunc('second', GREATEST(pg_catalog.clock_timestamp(), s.oldest_pending)"
" OPERATOR(pg_catalog.-) s.oldest_pending) AS waiting,"
" s.retrying, s.parked, s.dead, s.delivered, s.failed, s.last_error"
" FROM outbox.status s ORDER BY s.name COLLATE pg_catalog.\"C\"";

static const char json_sql[] =
"SELECT pg_catalog.row_to_json(s) FROM outbox.status s ORDER BY s.name COLLATE pg_catalog.\"C\"";

static void
show(PGconn *conn, bool json)
{
	PGresult   *rows;

	if (json)
	{
		obx_query_rows(conn, false, json_sql, 0, NULL, obx_output_row, NULL);
		return;
	}
	rows = obx_query(conn, false, people_sql, 0, NULL);
	if (PQntuples(rows) > 0)
		obx_output_table(rows, true);
	else
		obx_output_line("There are no subscriptions.");
	PQclear(rows);
}

static int
run_status(ObxCall *call)
{
	PGconn	   *conn = obx_connect_or_die(&call->connect);
	bool		json = obx_call_is_format(call, "json");
	bool		watch = obx_call_has(call, "watch");

	for (;;)
	{
		if (watch && !json && isatty(STDOUT_FILENO))
			fputs("\033[H\033[2J", stdout);
		show(conn, json);
		obx_output_flush();
		if (!watch)
			break;
		if (!json)
			fputs(isatty(STDOUT_FILENO) ? "" : "\n", stdout);
		sleep(WATCH_SECONDS);
	}
	PQfinish(conn);
	return OBX_EXIT_OK;
}

const ObxCommand obx_status_command = {
	.name = "status",
	.usage = "[--watch] [--format text|json]",
	.summary = "show the subscriptions and how far they are",
	.run = run_status,
	.options = {
		{0, "watch", NULL, NULL, "show it again every 2 seconds"},
		{0, "format", "FORMAT", "text|json", "text for people, or an object per line"},
		{0}
	}
};
