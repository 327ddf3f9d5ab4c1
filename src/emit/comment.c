/*
 * The trace context in a comment of the client's statement.
 *
 * Libraries for tracing add it to a statement, at the start or at the end, in
 * the form that sqlcommenter has made common:
 *
 *		traceparent='00-...-...-01',framework='rails'
 *
 * The statement that the client sent is searched, also for events of functions
 * and triggers.  It is searched only when an event is emitted, and once per
 * statement.  Comments inside the statement are ignored, so a literal cannot
 * be mistaken for a comment.
 */
#include "postgres.h"

#include "nodes/plannodes.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/json.h"
#include "base/settings.h"
#include "emit/comment.h"

/* Where the client's statement is within what it sent. */
typedef struct Statement
{
	const char *query;			/* all of it; not to be read later */
	TimestampTz began;			/* tells apart what has the same address */
	int			location;		/* -1: not known */
	int			length;			/* -1: to the end */
} Statement;

/* The statement last looked at, and what it says. */
static Statement known;
static Jsonb *known_headers = NULL;

/* ---- one comment ---- */

static const char *
skip_space(const char *p, const char *end)
{
	while (p < end && isspace((unsigned char) *p))
		p++;
	return p;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/*
 * Undoes the escapes of a value: percent signs, and backslashes before quotes.
 * NULL for a value with a zero byte, behind which something could hide.
 */
static char *
decode_value(const char *p, const char *end)
{
	char	   *value = palloc(end - p + 1);
	char	   *out = value;

	while (p < end)
	{
		if (*p == '%' && end - p > 2 && hex_digit(p[1]) >= 0 && hex_digit(p[2]) >= 0)
		{
			*out = (char) (hex_digit(p[1]) * 16 + hex_digit(p[2]));
			if (*out++ == '\0')
				return NULL;
			p += 3;
			continue;
		}
		if (*p == '\\' && end - p > 1)
			p++;
		*out++ = *p++;
	}
	*out = '\0';
	return value;
}

/*
 * The value of "traceparent" in a list of key='value', separated by commas;
 * NULL if it is not there, or this is no such list.
 */
static char *
parse_list(const char *p, const char *end)
{
	static const char name[] = "traceparent";
	char	   *result = NULL;

	for (;;)
	{
		const char *key = p = skip_space(p, end);
		const char *value;

		while (p < end && *p != '=' && *p != '\'' && *p != ',')
			p++;
		if (end - p < 2 || p[0] != '=' || p[1] != '\'')
			return NULL;
		value = p + 2;
		for (p = value; p < end && *p != '\''; p++)
			if (*p == '\\' && p + 1 < end)
				p++;
		if (p >= end)
			return NULL;
		if (value - 2 - key == strlen(name) && strncmp(key, name, strlen(name)) == 0)
			result = decode_value(value, p);

		p = skip_space(p + 1, end);
		if (p == end)
			return result;
		if (*p++ != ',')
			return NULL;
	}
}

/* As above, but NULL for what is no trace context. */
static char *
parse_comment(const char *p, const char *end)
{
	char	   *traceparent = parse_list(p, end);

	return traceparent != NULL && obx_settings_traceparent_is_valid(traceparent) ? traceparent : NULL;
}

/* ---- the comments around a statement ---- */

static bool
is_pair(const char *p, const char *end, const char *pair)
{
	return end - p >= 2 && p[0] == pair[0] && p[1] == pair[1];
}

/* From the last comment to the first one of those at the end. */
static char *
search_end(const char *start, const char *end)
{
	for (;;)
	{
		const char *open;
		char	   *found;

		while (end > start && (isspace((unsigned char) end[-1]) || end[-1] == ';'))
			end--;
		if (end - start < 4 || !is_pair(end - 2, end, "*/"))
			return NULL;
		for (open = end - 4; open >= start && !is_pair(open, end, "/*"); open--)
			;
		if (open < start)
			return NULL;
		found = parse_comment(open + 2, end - 2);
		if (found != NULL)
			return found;
		end = open;
	}
}

/* From the first comment to the last one of those at the start. */
static char *
search_start(const char *start, const char *end)
{
	for (;;)
	{
		const char *close;
		char	   *found;

		start = skip_space(start, end);
		if (!is_pair(start, end, "/*"))
			return NULL;
		for (close = start + 2; close < end && !is_pair(close, end, "*/"); close++)
			;
		if (close == end)
			return NULL;
		found = parse_comment(start + 2, close);
		if (found != NULL)
			return found;
		start = close + 2;
	}
}

/* ---- the statement ---- */

/*
 * What the client sent may be several statements: the portal knows which one
 * is being executed, unless it is one of a cursor within.
 */
static void
find_statement(Statement *statement)
{
	statement->query = debug_query_string;
	statement->began = GetCurrentStatementStartTimestamp();
	statement->location = statement->length = -1;
	if (ActivePortal != NULL && ActivePortal->sourceText == debug_query_string &&
		ActivePortal->stmts != NIL)
	{
		const PlannedStmt *planned = linitial_node(PlannedStmt, ActivePortal->stmts);

		statement->location = Max(planned->stmt_location, 0);
		if (planned->stmt_len > 0)
			statement->length = planned->stmt_len;
	}
}

/* From 18 on, a statement's location is behind the comments before it. */
static const char *
find_start(const char *query, const char *start)
{
	for (;;)
	{
		const char *end = start;
		const char *open;

		while (end > query && isspace((unsigned char) end[-1]))
			end--;
		if (end - query < 4 || !is_pair(end - 2, end, "*/"))
			return start;
		for (open = end - 4; open >= query && !is_pair(open, end, "/*"); open--)
			;
		if (open < query)
			return start;
		start = open;
	}
}

/* Behind the last statement's semicolon there may be a comment yet. */
static const char *
find_end(const char *end)
{
	const char *all = end + strlen(end);
	const char *p = end;

	for (;;)
	{
		while (p < all && (isspace((unsigned char) *p) || *p == ';'))
			p++;
		if (p == all)
			return all;
		if (!is_pair(p, all, "/*") || (p = strstr(p + 2, "*/")) == NULL)
			return end;
		p += 2;
	}
}

static Jsonb *
make_headers(const char *traceparent)
{
	Jsonb	   *headers = obx_json_make_string("traceparent", traceparent);
	Jsonb	   *copy = MemoryContextAlloc(TopMemoryContext, VARSIZE(headers));

	memcpy(copy, headers, VARSIZE(headers));
	return copy;
}

Jsonb *
obx_comment_headers(void)
{
	Statement	statement;
	const char *start;
	const char *end;
	char	   *traceparent;

	/* workers have no client */
	if (debug_query_string == NULL)
		return NULL;
	find_statement(&statement);
	if (statement.query == known.query && statement.began == known.began &&
		(statement.location == known.location || statement.location < 0))
		return known_headers;

	if (known_headers != NULL)
		pfree(known_headers);
	known_headers = NULL;
	known = statement;

	start = statement.query + Max(statement.location, 0);
	end = statement.length < 0 ? start + strlen(start) : find_end(start + statement.length);
	start = find_start(statement.query, start);
	traceparent = search_end(start, end);
	if (traceparent == NULL)
		traceparent = search_start(start, end);
	if (traceparent != NULL)
		known_headers = make_headers(traceparent);
	return known_headers;
}
