/*
 * Connecting as psql does: libpq reads the PG* variables, services and
 * .pgpass; what is left is to ask for a password.
 *
 * Statements qualify every name, since the search_path is the user's.
 */
#include "database/connection.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>

#include "base/log.h"
#include "base/text.h"

void
obx_connect_parameters(const ObxConnectOptions *options,
					   const char **names, const char **values)
{
	int			n = 0;

	/* what stands behind the connection string wins over what is in it */
	names[n] = "client_encoding";
	values[n++] = "UTF8";
	names[n] = "dbname";
	values[n++] = options->dbname;
	names[n] = "host";
	values[n++] = options->host;
	names[n] = "port";
	values[n++] = options->port;
	names[n] = "user";
	values[n++] = options->user;
	names[n] = "password";
	values[n++] = options->password;
	names[n] = "fallback_application_name";
	values[n++] = "pg_outbox";
	names[n] = NULL;
	values[n] = NULL;
}

/* From the terminal, without showing it; "" without one. */
static char *
ask_password(const char *user)
{
	FILE	   *terminal = fopen("/dev/tty", "r+");
	FILE	   *in = terminal != NULL ? terminal : stdin;
	FILE	   *out = terminal != NULL ? terminal : stderr;
	struct termios former;
	bool		hidden = false;
	char	   *line = NULL;
	size_t		size = 0;
	ssize_t		length;

	if (tcgetattr(fileno(in), &former) == 0)
	{
		struct termios silent = former;

		silent.c_lflag &= ~ECHO;
		hidden = tcsetattr(fileno(in), TCSAFLUSH, &silent) == 0;
	}
	if (user != NULL)
		fprintf(out, "Password for user %s: ", user);
	else
		fputs("Password: ", out);
	fflush(out);
	length = getline(&line, &size, in);
	if (hidden)
	{
		tcsetattr(fileno(in), TCSAFLUSH, &former);
		fputc('\n', out);
	}
	if (terminal != NULL)
		fclose(terminal);
	if (length < 0)
	{
		free(line);
		return obx_copy_string("");
	}
	line[strcspn(line, "\r\n")] = '\0';
	return line;
}

PGconn *
obx_connect(ObxConnectOptions *options, char **error)
{
	const char *names[OBX_CONNECT_PARAMETERS];
	const char *values[OBX_CONNECT_PARAMETERS];
	PGconn	   *conn;

	if (options->prompt == OBX_PROMPT_ALWAYS && options->password == NULL)
		options->password = ask_password(options->user);
	for (;;)
	{
		obx_connect_parameters(options, names, values);
		conn = PQconnectdbParams(names, values, 1);
		if (conn != NULL && PQstatus(conn) == CONNECTION_OK)
			return conn;
		if (conn == NULL || !PQconnectionNeedsPassword(conn) ||
			options->password != NULL || options->prompt == OBX_PROMPT_NEVER)
			break;
		options->password = ask_password(PQuser(conn));
		PQfinish(conn);
	}
	*error = obx_copy_string(conn != NULL ? PQerrorMessage(conn) : "out of memory");
	PQfinish(conn);
	return NULL;
}

PGconn *
obx_connect_or_die(ObxConnectOptions *options)
{
	char	   *error;
	PGconn	   *conn = obx_connect(options, &error);

	if (conn == NULL)
		obx_die(OBX_EXIT_DATABASE, "%s", error);
	return conn;
}

/*
 * Is there no connection any more?  What the server says as the last thing
 * comes before libpq sees that the connection is closed.
 */
static bool
is_lost(PGconn *conn, const PGresult *result)
{
	const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);

	return PQstatus(conn) != CONNECTION_OK ||
		(severity != NULL && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0));
}

/* The server's error in the words of psql; does not return. */
static void
report_failure(PGconn *conn, const PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if (is_lost(conn, result))
		obx_die(OBX_EXIT_DATABASE, "%s", PQerrorMessage(conn));
	if (state != NULL && (strcmp(state, "3F000") == 0 ||
						  strcmp(state, "42P01") == 0 || strcmp(state, "42883") == 0))
		obx_error("the extension pg_outbox is not in database \"%s\", or another version of it",
				  PQdb(conn));
	obx_die(OBX_EXIT_ERROR, "%s", PQresultErrorMessage(result));
}

static bool
is_good(const PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);

	return status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;
}

PGresult *
obx_query(PGconn *conn, bool survive, const char *sql, int nparams,
		  const char *const *params)
{
	PGresult   *result = PQexecParams(conn, sql, nparams, NULL, params, NULL, NULL, 0);

	if (is_good(result))
		return result;
	if (!survive || !is_lost(conn, result))
		report_failure(conn, result);
	PQclear(result);
	return NULL;
}

bool
obx_query_rows(PGconn *conn, bool survive, const char *sql, int nparams,
			   const char *const *params, ObxRowFunction take, void *context)
{
	PGresult   *result;
	bool		lost = false;

	if (!PQsendQueryParams(conn, sql, nparams, NULL, params, NULL, NULL, 0))
	{
		if (survive && PQstatus(conn) != CONNECTION_OK)
			return false;
		obx_die(OBX_EXIT_DATABASE, "%s", PQerrorMessage(conn));
	}
	PQsetSingleRowMode(conn);
	while ((result = PQgetResult(conn)) != NULL)
	{
		if (PQresultStatus(result) == PGRES_SINGLE_TUPLE)
			take(result, context);
		else if (!is_good(result))
		{
			if (!survive || !is_lost(conn, result))
				report_failure(conn, result);
			lost = true;
		}
		PQclear(result);
	}
	return !lost;
}

char *
obx_query_value(PGconn *conn, const char *sql, int nparams, const char *const *params)
{
	PGresult   *result = obx_query(conn, false, sql, nparams, params);
	char	   *value = NULL;

	if (PQntuples(result) > 0 && !PQgetisnull(result, 0, 0))
		value = obx_copy_string(PQgetvalue(result, 0, 0));
	PQclear(result);
	return value;
}
