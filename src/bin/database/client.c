/*
 * The relay's connection to the database.
 *
 * A question is one string of statements, and so one transaction: what is
 * settled and what is received next are committed together, and cost one round
 * trip.  If settling fails, nothing was received.
 */
#include "database/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

/* How long an answer may take; a connection that says nothing is none. */
#define LONGEST_ANSWER		(60 * OBX_SECOND)
#define LONGEST_CONNECT		(20 * OBX_SECOND)

typedef enum State
{
	DOWN,
	CONNECTING,					/* libpq does */
	STARTING,					/* the first question */
	IDLE,
	ASKING,
	ASKING_STATUS
} State;

struct ObxClient
{
	ObxClientOptions options;
	State		state;
	PGconn	   *conn;
	PostgresPollingStatusType polling;
	int64_t		deadline;		/* of what is under way */
	bool		notified;
	bool		receiving;
	bool		settling;
	bool		settled;		/* of the question: its first statement went
								 * well */
	int64_t		asked;			/* when */
	ObxAnswer	answer;			/* of the question, as far as it has come */
	int			generation;
	ObxGenerations generations;
};

ObxClient *
obx_client_open(const ObxClientOptions *options)
{
	ObxClient  *client = obx_allocate(sizeof(ObxClient));

	client->options = *options;
	return client;
}

void
obx_client_disconnect(ObxClient *client)
{
	PQclear(client->answer.handout.rows);
	client->answer.handout.rows = NULL;
	PQfinish(client->conn);
	client->conn = NULL;
	client->state = DOWN;
}

void
obx_client_close(ObxClient *client)
{
	obx_client_disconnect(client);
	free(client->generations.list);
	free(client);
}

bool
obx_client_is_idle(const ObxClient *client)
{
	return client->state == IDLE;
}

bool
obx_client_is_connected(const ObxClient *client)
{
	return client->state >= IDLE;
}

int
obx_client_generation(const ObxClient *client)
{
	return client->generation;
}

const ObxGenerations *
obx_client_generations(const ObxClient *client)
{
	return &client->generations;
}

bool
obx_client_was_notified(ObxClient *client)
{
	bool		notified = client->notified;

	client->notified = false;
	return notified;
}

/* ---- questions ---- */

static void
ask(ObxClient *client, State state, ObxText *sql)
{
	PQclear(client->answer.handout.rows);
	memset(&client->answer, 0, sizeof(client->answer));
	client->settled = false;
	client->asked = obx_now();
	client->deadline = client->asked + LONGEST_ANSWER;
	client->state = state;
	/* an error is found when the answer is read */
	PQsendQuery(client->conn, sql->data);
	obx_text_free(sql);
}

static void
append_literal(ObxClient *client, ObxText *sql, const char *value)
{
	char	   *literal = PQescapeLiteral(client->conn, value, strlen(value));

	obx_text_append_string(sql, literal != NULL ? literal : "NULL");
	PQfreemem(literal);
}

static void
append_status(ObxClient *client, ObxText *sql)
{
	obx_text_append_string(sql, "SELECT s.state, s.lag, s.delivered, s.kind FROM outbox.status s"
						   " WHERE s.name OPERATOR(pg_catalog.=) ");
	append_literal(client, sql, client->options.subscription);
	obx_text_append_char(sql, ';');
}

/* Listens first, so that nothing is between it and the first look. */
static void
ask_first(ObxClient *client)
{
	ObxText		sql;

	obx_text_init(&sql);
	if (client->options.channel != NULL)
	{
		char	   *name = PQescapeIdentifier(client->conn, client->options.channel,
											  strlen(client->options.channel));

		obx_text_printf(&sql, "LISTEN %s;", name != NULL ? name : "\"\"");
		PQfreemem(name);
	}
	append_status(client, &sql);
	obx_text_append_string(&sql, "SELECT g.generation, g.first_id, outbox.generation()"
						   " FROM outbox.generation g ORDER BY g.first_id, g.generation");
	ask(client, STARTING, &sql);
}

/* In the order in which obx_handout_event() takes them; of those not needed a NULL. */
static void
append_columns(ObxClient *client, ObxText *sql)
{
	static const struct
	{
		int			column;
		const char *name;
	}			list[] =
	{
		{OBX_COLUMN_TIME, "r.time"},
		{OBX_COLUMN_TYPE, "r.type"},
		{OBX_COLUMN_SOURCE, "r.source"},
		{OBX_COLUMN_KEY, "r.key"},
		{OBX_COLUMN_OPERATION, "r.operation"},
		{OBX_COLUMN_DATA, "r.data"},
		{OBX_COLUMN_OLD, "r.old"},
		{OBX_COLUMN_HEADERS, "r.headers"},
		{OBX_COLUMN_CORRELATION, "r.correlation_id"},
		{OBX_COLUMN_CAUSATION, "r.causation_id"}
	};
	int			columns = client->options.columns;

	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
	{
		const char *name = columns & list[i].column ? list[i].name : "NULL";

		/* "old" may have the columns that changed, "before" has all */
		if (list[i].column == OBX_COLUMN_OLD && columns & OBX_COLUMN_BEFORE)
			name = "r.data OPERATOR(pg_catalog.||) r.old";
		obx_text_printf(sql, "%s%s", i > 0 ? ", " : "", name);
	}
}

static void
append_positions(ObxText *sql, const ObxHandout *handout, int first, int count)
{
	obx_text_append_string(sql, ", positions => '{");
	for (int i = first; i < count; i++)
	{
		if (i > first)
			obx_text_append_char(sql, ',');
		obx_text_append_string(sql, PQgetvalue(handout->rows, i, 0));
	}
	obx_text_append_string(sql, "}'");
}

static void
append_lease(ObxClient *client, ObxText *sql)
{
	obx_text_printf(sql, "'%lld milliseconds'",
					(long long) (client->options.lease / OBX_MILLISECOND));
}

static void
append_settling(ObxClient *client, ObxText *sql, const ObxSettle *settle)
{
	static const char *const functions[] = {"", "ack", "nack", "extend", "release"};

	obx_text_printf(sql, "SELECT outbox.%s(", functions[settle->kind]);
	append_literal(client, sql, client->options.subscription);
	obx_text_printf(sql, ", %lld", (long long) settle->receipt);
	if (settle->kind == OBX_SETTLE_ACK && settle->handout != NULL)
		append_positions(sql, settle->handout, settle->first, settle->count);
	else if (settle->position > 0)
		obx_text_printf(sql, ", %lld", (long long) settle->position);
	if (settle->kind == OBX_SETTLE_NACK)
	{
		obx_text_append_string(sql, ", ");
		append_literal(client, sql, settle->text);
		obx_text_append_string(sql, ", final => true");
	}
	if (settle->kind == OBX_SETTLE_EXTEND)
	{
		obx_text_append_string(sql, ", ");
		append_lease(client, sql);
	}
	obx_text_append_string(sql, ");");
}

/* A log is known by where it began: that goes with it to other clusters. */
static void
append_standing(ObxClient *client, ObxText *sql)
{
	obx_text_append_string(sql, "SELECT s.subscription_id, s.seeks, s.lanes, s.position, s.delivered_since_seek,"
						   " s.retrying OPERATOR(pg_catalog.+) s.parked OPERATOR(pg_catalog.+) s.dead,"
						   " (SELECT pg_catalog.concat(g.system_identifier, '-', g.database) FROM outbox.generation g"
						   " WHERE g.generation OPERATOR(pg_catalog.>) 0 ORDER BY g.generation LIMIT 1)"
						   " FROM outbox.status s WHERE s.name OPERATOR(pg_catalog.=) ");
	append_literal(client, sql, client->options.subscription);
}

void
obx_client_ask(ObxClient *client, const ObxSettle *settle, bool receive, int64_t receipt)
{
	ObxText		sql;

	obx_text_init(&sql);
	client->settling = settle->kind != OBX_SETTLE_NOTHING;
	client->receiving = receive;
	if (client->settling)
		append_settling(client, &sql, settle);
	if (receive)
	{
		obx_text_append_string(&sql, "SELECT outbox.generation();"
							   "SELECT r.position, r.id, r.receipt, ");
		append_columns(client, &sql);
		obx_text_append_string(&sql, " FROM outbox.receive(");
		append_literal(client, &sql, client->options.subscription);
		obx_text_printf(&sql, ", %d, ", client->options.batch);
		append_lease(client, &sql);
		if (receipt > 0)
			obx_text_printf(&sql, ", receipt => %lld", (long long) receipt);
		obx_text_append_string(&sql, ") r;");
		/* behind it, in its transaction: nobody can seek meanwhile */
		if (receipt == 0 && client->options.wants_standing)
			append_standing(client, &sql);
	}
	ask(client, ASKING, &sql);
}

void
obx_client_ask_status(ObxClient *client)
{
	ObxText		sql;

	obx_text_init(&sql);
	append_status(client, &sql);
	ask(client, ASKING_STATUS, &sql);
}

/* ---- answers ---- */

static void
take_generations(ObxClient *client, const PGresult *rows)
{
	ObxGenerations *generations = &client->generations;

	generations->count = PQntuples(rows);
	generations->list = obx_reallocate(generations->list,
									   generations->count * sizeof(ObxGeneration));
	for (int i = 0; i < generations->count; i++)
	{
		generations->list[i].generation = atoi(PQgetvalue(rows, i, 0));
		generations->list[i].first_id = atoll(PQgetvalue(rows, i, 1));
	}
	client->generation = generations->count > 0 ? atoi(PQgetvalue(rows, 0, 2)) : 1;
}

static void
refuse(ObxAnswer *answer, ObxAnswerKind kind, const char *text)
{
	answer->kind = kind;
	snprintf(answer->text, sizeof(answer->text), "%s", text);
}

static void
take_status(ObxClient *client, const PGresult *row)
{
	ObxAnswer  *answer = &client->answer;

	if (PQntuples(row) == 0)
	{
		snprintf(answer->text, sizeof(answer->text), "subscription \"%s\" does not exist",
				 client->options.subscription);
		answer->kind = OBX_ANSWER_REFUSED;
		return;
	}
	snprintf(answer->state, sizeof(answer->state), "%s", PQgetvalue(row, 0, 0));
	answer->lag = atoll(PQgetvalue(row, 0, 1));
	answer->delivered = atoll(PQgetvalue(row, 0, 2));
	if (strcmp(PQgetvalue(row, 0, 3), "pull") != 0)
	{
		snprintf(answer->text, sizeof(answer->text),
				 "subscription \"%s\" has a handler or a channel: what is relayed is one without",
				 client->options.subscription);
		answer->kind = OBX_ANSWER_REFUSED;
	}
}

static void
take_standing(ObxClient *client, const PGresult *row)
{
	ObxStanding *standing = &client->answer.standing;

	if (PQntuples(row) == 0)
		return;
	standing->subscription = atoll(PQgetvalue(row, 0, 0));
	standing->seeks = atoll(PQgetvalue(row, 0, 1));
	standing->lanes = atoi(PQgetvalue(row, 0, 2));
	standing->position = atoll(PQgetvalue(row, 0, 3));
	standing->delivered = atoll(PQgetvalue(row, 0, 4));
	standing->open = atoll(PQgetvalue(row, 0, 5));
	snprintf(standing->log, sizeof(standing->log), "%s", PQgetvalue(row, 0, 6));
	standing->generation = client->generation;
}

static void
take_handout(ObxClient *client, PGresult *rows)
{
	ObxHandout *handout = &client->answer.handout;

	if (PQntuples(rows) == 0)
		return;
	handout->rows = rows;
	handout->nevents = PQntuples(rows);
	handout->receipt = atoll(PQgetvalue(rows, 0, 2));
	handout->expires = client->asked + client->options.lease;
}

/* A result that is no error; true if the rows are kept. */
static bool
take_result(ObxClient *client, PGresult *result)
{
	int			columns = PQnfields(result);

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		return false;
	if (columns == 4)
		take_status(client, result);
	else if (columns == 7)
		take_standing(client, result);
	else if (columns == 3)
		take_generations(client, result);
	else if (client->settling && !client->settled)
		client->settled = true;
	else if (columns == 1)
	{
		/*
		 * ids are looked up in what is known: forget what is not true any
		 * more
		 */
		if (atoi(PQgetvalue(result, 0, 0)) != client->generation)
			refuse(&client->answer, OBX_ANSWER_LOST, "the log goes on as another generation");
	}
	else
	{
		take_handout(client, result);
		return client->answer.handout.rows != NULL;
	}
	return false;
}

/* Is it of no use to ask again? */
static bool
is_final(const char *state)
{
	static const char *const states[] = {
		"42704",				/* no such subscription */
		"42501",				/* no right */
		"3F000", "42P01", "42883",	/* no extension */
		"22023", "55000"		/* not a pull subscription, lost */
	};

	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
		if (strcmp(state, states[i]) == 0)
			return true;
	return false;
}

static void
take_error(ObxClient *client, const PGresult *result)
{
	ObxAnswer  *answer = &client->answer;
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);

	if (answer->kind == OBX_ANSWER_LOST)
		return;
	if (PQstatus(client->conn) != CONNECTION_OK || state == NULL || severity == NULL ||
		strcmp(severity, "ERROR") != 0)
	{
		refuse(answer, OBX_ANSWER_LOST, message != NULL ? message : PQerrorMessage(client->conn));
		return;
	}
	answer->settled = client->settling && !client->settled;
	answer->taken_back = answer->settled && strcmp(state, "22023") == 0;
	answer->kind = strcmp(state, "OB004") == 0 ? OBX_ANSWER_EXPIRED :
		is_final(state) ? OBX_ANSWER_REFUSED : OBX_ANSWER_FAILED;
	snprintf(answer->text, sizeof(answer->text), "%s%s%s", message != NULL ? message : state,
			 detail != NULL ? ": " : "", detail != NULL ? detail : "");
}

/* All results of the question are there. */
static void
finish_question(ObxClient *client, ObxAnswer *answer)
{
	State		state = client->state;

	client->state = IDLE;
	if (client->answer.kind == OBX_ANSWER_NONE)
		client->answer.kind = state == STARTING ? OBX_ANSWER_CONNECTED :
			state == ASKING_STATUS ? OBX_ANSWER_STATUS : OBX_ANSWER_DONE;
	if (client->answer.kind != OBX_ANSWER_DONE)
	{
		PQclear(client->answer.handout.rows);
		client->answer.handout.rows = NULL;
	}
	if (state == STARTING && client->answer.kind == OBX_ANSWER_FAILED)
		client->answer.kind = OBX_ANSWER_LOST;
	*answer = client->answer;
	memset(&client->answer, 0, sizeof(client->answer));
	if (answer->kind == OBX_ANSWER_LOST || (state == STARTING && answer->kind == OBX_ANSWER_REFUSED))
		obx_client_disconnect(client);
}

static void
read_results(ObxClient *client, ObxAnswer *answer)
{
	while (!PQisBusy(client->conn))
	{
		PGresult   *result = PQgetResult(client->conn);
		ExecStatusType status = PQresultStatus(result);

		if (result == NULL)
		{
			finish_question(client, answer);
			return;
		}
		if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
			take_error(client, result);
		if (!take_result(client, result))
			PQclear(result);
	}
}

static void
lose(ObxClient *client, ObxAnswer *answer, const char *why)
{
	memset(answer, 0, sizeof(*answer));
	refuse(answer, OBX_ANSWER_LOST, why);
	obx_client_disconnect(client);
}

/* ---- going on ---- */

void
obx_client_connect(ObxClient *client)
{
	const char *names[OBX_CONNECT_PARAMETERS];
	const char *values[OBX_CONNECT_PARAMETERS];

	obx_connect_parameters(&client->options.connect, names, values);
	client->conn = PQconnectStartParams(names, values, 1);
	client->polling = PGRES_POLLING_WRITING;
	client->deadline = obx_now() + LONGEST_CONNECT;
	client->state = CONNECTING;
}

static void
go_on_connecting(ObxClient *client, ObxAnswer *answer)
{
	if (client->conn == NULL || PQstatus(client->conn) == CONNECTION_BAD)
		client->polling = PGRES_POLLING_FAILED;
	else
		client->polling = PQconnectPoll(client->conn);
	if (client->polling == PGRES_POLLING_FAILED)
		lose(client, answer, client->conn != NULL ? PQerrorMessage(client->conn) : "out of memory");
	else if (client->polling == PGRES_POLLING_OK)
		ask_first(client);
}

bool
obx_client_wait_for(ObxClient *client, struct pollfd *descriptor, int64_t * until)
{
	if (client->state == DOWN)
		return false;
	if (client->state != IDLE && client->deadline < *until)
		*until = client->deadline;
	*descriptor = (struct pollfd)
	{
		.fd = PQsocket(client->conn),.events = POLLIN
	};
	if (client->state == CONNECTING && client->polling == PGRES_POLLING_WRITING)
		descriptor->events = POLLOUT;
	if (descriptor->fd < 0)
		*until = 0;
	return descriptor->fd >= 0;
}

/* libpq's connecting must be asked only when its descriptor is ready. */
static bool
is_ready(ObxClient *client)
{
	struct pollfd descriptor = {.fd = PQsocket(client->conn)};

	descriptor.events = client->polling == PGRES_POLLING_WRITING ? POLLOUT : POLLIN;
	return descriptor.fd < 0 || poll(&descriptor, 1, 0) != 0;
}

void
obx_client_work(ObxClient *client, ObxAnswer *answer)
{
	PGnotify   *notify;

	answer->kind = OBX_ANSWER_NONE;
	answer->handout.rows = NULL;
	if (client->state == DOWN)
		return;
	if (client->state == CONNECTING && (client->conn == NULL || is_ready(client)))
		go_on_connecting(client, answer);
	else if (client->state != CONNECTING)
	{
		if (!PQconsumeInput(client->conn) && client->state == IDLE)
		{
			lose(client, answer, PQerrorMessage(client->conn));
			return;
		}
		while ((notify = PQnotifies(client->conn)) != NULL)
		{
			client->notified = true;
			PQfreemem(notify);
		}
		if (client->state != IDLE)
			read_results(client, answer);
	}
	if (client->state != DOWN && client->state != IDLE && obx_now() > client->deadline)
		lose(client, answer, "the server does not answer");
}

/* ---- hand-outs ---- */

static const char *
get_text(const PGresult *rows, int row, int column)
{
	return PQgetisnull(rows, row, column) ? NULL : PQgetvalue(rows, row, column);
}

void
obx_handout_event(const ObxHandout *handout, int number, ObxEvent *event)
{
	const PGresult *rows = handout->rows;

	event->position = atoll(PQgetvalue(rows, number, 0));
	event->id = atoll(PQgetvalue(rows, number, 1));
	event->time = get_text(rows, number, 3);
	event->type = get_text(rows, number, 4);
	event->source = get_text(rows, number, 5);
	event->key = get_text(rows, number, 6);
	event->operation = get_text(rows, number, 7);
	event->data = get_text(rows, number, 8);
	event->old = get_text(rows, number, 9);
	event->headers = get_text(rows, number, 10);
	event->correlation_id = get_text(rows, number, 11);
	event->causation_id = get_text(rows, number, 12);
}

int64_t
obx_handout_position(const ObxHandout *handout, int number)
{
	return atoll(PQgetvalue(handout->rows, number, 0));
}
