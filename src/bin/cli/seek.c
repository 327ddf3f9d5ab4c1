/*
 * pg_outbox seek: lets a subscription go on elsewhere in the log.
 *
 * --dry-run does it in a transaction that is rolled back: so it says what
 * would be, with all errors and notices.
 */
#include <string.h>

#include "base/log.h"
#include "cli/command.h"
#include "cli/output.h"

static int
run_seek(ObxCall *call)
{
	const char *to = call->arguments[1];
	bool		is_position = strspn(to, "0123456789") == strlen(to) && *to != '\0';
	bool		dry = obx_call_has(call, "dry-run");
	const char *params[2] = {call->arguments[0], to};
	PGconn	   *conn = obx_connect_or_die(&call->connect);
	char	   *before;
	char	   *next;
	ObxText text;

	before = obx_query_value(conn, "SELECT s.position FROM outbox.status s"
							 " WHERE s.name OPERATOR(pg_catalog.=) $1", 1, params);
	PQclear(obx_query(conn, false, "BEGIN", 0, NULL));
	next = obx_query_value(conn, is_position ?
						   "SELECT outbox.seek($1, to_position => $2::bigint)" :
						   "SELECT outbox.seek($1, to_time => $2::timestamptz)", 2, params);
	PQclear(obx_query(conn, false, dry ? "ROLLBACK" : "COMMIT", 0, NULL));

	obx_text_init(&text);
	obx_text_printf(&text, "subscription \"%s\" %s at position %s; it has looked at those up to %s",
					call->arguments[0], dry ? "would go on" : "goes on", next,
					before != NULL ? before : "an unknown one");
	obx_output_line(text.data);
	obx_output_flush();
	PQfinish(conn);
	return OBX_EXIT_OK;
}

const ObxCommand obx_seek_command = {
	.name = "seek",
	.usage = "SUBSCRIPTION POSITION|TIME [--dry-run]",
	.summary = "let a subscription go on elsewhere in the log",
	.more = "Digits are a position; anything else is a time, and stands for the first segment of\n"
	"the log that was made at or after it.",
	.min_arguments = 2,
	.max_arguments = 2,
	.run = run_seek,
	.options = {
		{0, "dry-run", NULL, NULL, "say what it would do, and change nothing"},
		{0}
	}
};
