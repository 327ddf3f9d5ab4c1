/*
 * A consumer that pulls, as a program does it: by the protocol, with the events
 * on its own side.
 *
 *   pull drain SIZE AHEAD        all events of the subscription 'pull', SIZE at
 *                                a time; prints events and seconds
 *   pull ack SIZE                takes SIZE events, acks 10 of them one by one
 *                                in turn; prints microseconds an ack
 *   pull await SECONDS           sleeps in outbox.await(); prints for each event
 *   pull listen SECONDS          LISTENs to outbox_head; its key, and the clock
 *                                when it was there
 *
 * AHEAD is how many hand-outs are under way at a time: 1 is receive, ack, and
 * receive again; more of them are asked for under one receipt, and ack and the
 * next receive go out together.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libpq-fe.h>

static PGconn *connection;

static double
now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_REALTIME, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static void
stop(const char *what)
{
	fprintf(stderr, "pull: %s: %s", what, PQerrorMessage(connection));
	exit(1);
}

static PGresult *
check(PGresult *result, const char *what)
{
	ExecStatusType status = PQresultStatus(result);

	if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
		stop(what);
	return result;
}

static PGresult *
query(const char *sql)
{
	return check(PQexec(connection, sql), sql);
}

#define RECEIVE "SELECT position, key, data, receipt FROM outbox.receive('pull', %d, '1 minute'%s)"
#define RECEIPT_COLUMN 3

/* ---- one hand-out after the other ---- */

static long
drain_by_turns(int size)
{
	char		receive[200];
	char		ack[100];
	long		events = 0;

	snprintf(receive, sizeof(receive), RECEIVE, size, "");
	for (;;)
	{
		PGresult   *result = query(receive);
		int			count = PQntuples(result);

		if (count == 0)
			return events;
		events += count;
		snprintf(ack, sizeof(ack), "SELECT outbox.ack('pull', %s)",
				 PQgetvalue(result, 0, RECEIPT_COLUMN));
		PQclear(result);
		PQclear(query(ack));
	}
}

/* ---- several under one receipt ---- */

static void
send(const char *sql)
{
	if (!PQsendQueryParams(connection, sql, 0, NULL, NULL, NULL, NULL, 0) ||
		!PQpipelineSync(connection))
		stop(sql);
}

/* The result of what was sent first, up to its sync. */
static PGresult *
take(void)
{
	PGresult   *result = check(PQgetResult(connection), "result");
	PGresult   *end;

	if (PQgetResult(connection) != NULL)
		stop("one result was expected");
	end = PQgetResult(connection);
	if (PQresultStatus(end) != PGRES_PIPELINE_SYNC)
		stop("a sync was expected");
	PQclear(end);
	return result;
}

static long
drain_ahead(int size, int ahead)
{
	char		receive[200];
	char		more[200];
	char		ack[200];
	char		receipt[50];
	long		events = 0;
	int			under_way = 1;
	PGresult   *result;

	snprintf(receive, sizeof(receive), RECEIVE, size, "");
	result = query(receive);
	if (PQntuples(result) == 0)
		return 0;
	snprintf(receipt, sizeof(receipt), ", %s", PQgetvalue(result, 0, RECEIPT_COLUMN));
	snprintf(more, sizeof(more), RECEIVE, size, receipt);
	if (PQenterPipelineMode(connection) != 1)
		stop("pipeline");
	for (; under_way < ahead; under_way++)
		send(more);

	while (result != NULL)
	{
		int			count = PQntuples(result);

		events += count;
		if (count > 0)
		{
			/*
			 * acks of those before, and the next behind those that are asked
			 * for
			 */
			snprintf(ack, sizeof(ack), "SELECT outbox.ack('pull'%s, up_to => %s)", receipt,
					 PQgetvalue(result, count - 1, 0));
			send(ack);
			send(more);
			under_way += 2;
		}
		PQclear(result);
		result = NULL;
		while (--under_way > 0)
		{
			result = take();
			/* those of ack() have one column and one row */
			if (PQnfields(result) > 1)
				break;
			PQclear(result);
			result = NULL;
		}
	}
	return events;
}

/* ---- acks ---- */

static void
measure_acks(int size)
{
	char		sql[200];
	PGresult   *result;
	int			acks;
	double		begin;

	snprintf(sql, sizeof(sql), RECEIVE, size, "");
	result = query(sql);
	if (PQntuples(result) < size)
		stop("too few events");
	acks = size < 100 ? size : 100;
	begin = now();
	for (int i = 0; i < acks; i++)
	{
		/* from all over the hand-out */
		int			row = (int) ((long) i * size / acks);

		snprintf(sql, sizeof(sql), "SELECT outbox.ack('pull', %s, positions => '{%s}')",
				 PQgetvalue(result, 0, RECEIPT_COLUMN), PQgetvalue(result, row, 0));
		PQclear(query(sql));
	}
	printf("%.1f\n", (now() - begin) * 1e6 / acks);
	snprintf(sql, sizeof(sql), "SELECT outbox.release('pull', %s)", PQgetvalue(result, 0, RECEIPT_COLUMN));
	if (acks < size)
		PQclear(query(sql));
	PQclear(result);
}

/* ---- waiting ---- */

static void
consume_all(void)
{
	char		sql[200];

	for (;;)
	{
		PGresult   *result;
		double		at;
		int			count;

		snprintf(sql, sizeof(sql), RECEIVE, 100, "");
		result = query(sql);
		at = now();
		count = PQntuples(result);
		for (int i = 0; i < count; i++)
			printf("%s\t%.6f\n", PQgetvalue(result, i, 1), at);
		if (count == 0)
		{
			PQclear(result);
			return;
		}
		snprintf(sql, sizeof(sql), "SELECT outbox.ack('pull', %s)", PQgetvalue(result, 0, RECEIPT_COLUMN));
		PQclear(result);
		PQclear(query(sql));
	}
}

static void
wait_for_notification(double until)
{
	struct pollfd polled = {.fd = PQsocket(connection),.events = POLLIN};
	PGnotify   *notification;
	int			heard = 0;

	while (!heard && now() < until)
	{
		(void) poll(&polled, 1, 100);
		if (!PQconsumeInput(connection))
			stop("input");
		while ((notification = PQnotifies(connection)) != NULL)
		{
			heard = 1;
			PQfreemem(notification);
		}
	}
}

static void
serve(int listens, double seconds)
{
	double		until = now() + seconds;

	if (listens)
		PQclear(query("LISTEN outbox_head"));
	consume_all();
	while (now() < until)
	{
		if (listens)
			wait_for_notification(until);
		else
			PQclear(query("CALL outbox.await('pull', '500 ms')"));
		consume_all();
	}
}

int
main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	connection = PQconnectdb("");
	if (PQstatus(connection) != CONNECTION_OK)
		stop("connect");
	PQclear(query("SET application_name = 'bench consumer'"));
	if (strcmp(argv[1], "drain") == 0 && argc == 4)
	{
		double		begin = now();
		int			ahead = atoi(argv[3]);
		long		events = ahead > 1 ? drain_ahead(atoi(argv[2]), ahead) :
		drain_by_turns(atoi(argv[2]));

		printf("%ld %.6f\n", events, now() - begin);
	}
	else if (strcmp(argv[1], "ack") == 0)
		measure_acks(atoi(argv[2]));
	else
		serve(strcmp(argv[1], "listen") == 0, atof(argv[2]));
	PQfinish(connection);
	return 0;
}
