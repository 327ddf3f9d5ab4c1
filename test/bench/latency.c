/*
 * Latency from commit to handler and from commit to listener.
 *
 *   latency RATE SECONDS
 *
 * Publishes RATE events a second, each in a transaction of its own, and takes
 * the clock when COMMIT has returned.  The handler of the database writes down
 * the clock when it was called; a second connection listens and takes the
 * clock when a notification is read.  All clocks are this machine's.  Prints
 * the median and the 99th percentile in milliseconds.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libpq-fe.h>

typedef struct Sample
{
	double		committed;
	double		heard;			/* 0: not (yet) */
	double		handled;
} Sample;

static double
now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_REALTIME, &time);
	return time.tv_sec * 1e3 + time.tv_nsec / 1e6;
}

static PGresult *
run(PGconn *connection, const char *sql)
{
	PGresult   *result = PQexec(connection, sql);

	if (PQresultStatus(result) != PGRES_TUPLES_OK &&
		PQresultStatus(result) != PGRES_COMMAND_OK)
	{
		fprintf(stderr, "latency: %s", PQerrorMessage(connection));
		exit(1);
	}
	return result;
}

/* Reads notifications until a time; their payload begins with position and id. */
static void
listen_until(PGconn *listener, double until, Sample *samples, long first_id, int count)
{
	double		left;

	while ((left = until - now()) > 0)
	{
		struct pollfd descriptor = {.fd = PQsocket(listener),.events = POLLIN};
		PGnotify   *notify;

		poll(&descriptor, 1, left < 1 ? 1 : (int) left);
		PQconsumeInput(listener);
		while ((notify = PQnotifies(listener)) != NULL)
		{
			double		time = now();
			char	   *id = strstr(notify->extra, "\"id\":");
			long		index = id == NULL ? -1 : atol(id + 5) - first_id;

			if (index >= 0 && index < count)
				samples[index].heard = time;
			PQfreemem(notify);
		}
	}
}

static int
compare(const void *left, const void *right)
{
	double		difference = *(const double *) left - *(const double *) right;

	return (difference > 0) - (difference < 0);
}

static void
report(const char *what, const Sample *samples, int count, int heard)
{
	double	   *values = malloc(count * sizeof(double));
	int			n = 0;

	for (int i = 0; i < count; i++)
	{
		double		time = heard ? samples[i].heard : samples[i].handled;

		if (time > 0)
			values[n++] = time - samples[i].committed;
	}
	if (n == 0)
	{
		fprintf(stderr, "latency: nothing arrived\n");
		exit(1);
	}
	qsort(values, n, sizeof(double), compare);
	printf("%-22s p50 %6.2f ms   p99 %6.2f ms   (%d of %d events)\n", what,
		   values[n / 2], values[n * 99 / 100], n, count);
	free(values);
}

int
main(int argc, char **argv)
{
	double		rate = argc > 1 ? atof(argv[1]) : 100;
	int			count = (int) (rate * (argc > 2 ? atof(argv[2]) : 10));
	PGconn	   *publisher = PQconnectdb("");
	PGconn	   *listener = PQconnectdb("");
	Sample	   *samples = calloc(count, sizeof(Sample));
	long		first_id = 0;
	double		start;
	PGresult   *result;

	run(listener, "LISTEN bench");
	start = now();
	for (int i = 0; i < count; i++)
	{
		long		id;

		result = run(publisher, "SELECT outbox.publish('Measured', key => 'k')");
		samples[i].committed = now();
		id = atol(PQgetvalue(result, 0, 0));
		PQclear(result);
		if (i == 0)
			first_id = id;
		listen_until(listener, start + (i + 1) * 1e3 / rate, samples, first_id, count);
	}
	listen_until(listener, now() + 1000, samples, first_id, count);

	run(publisher, "SELECT outbox.wait()");
	result = run(publisher, "SELECT id, extract(epoch FROM at) * 1000 FROM handled");
	for (int i = 0; i < PQntuples(result); i++)
	{
		long		index = atol(PQgetvalue(result, i, 0)) - first_id;

		if (index >= 0 && index < count)
			samples[index].handled = atof(PQgetvalue(result, i, 1));
	}

	report("commit to handler", samples, count, 0);
	report("commit to listener", samples, count, 1);
	return 0;
}
