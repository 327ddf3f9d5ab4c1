/*
 * Emits events at a steady rate, and takes the clocks.
 *
 *   latency RATE SECONDS CONNECTIONS CHANNEL SQL
 *
 * Runs SQL, whose parameter $1 is the event's number, RATE times a second in
 * transactions of their own, taking turns on CONNECTIONS connections.  Prints
 * for each event its number, when it was sent, when COMMIT had returned, and when
 * a notification on CHANNEL told of it (0 if none did; with the channel "-" nobody listens):
 * in seconds of the epoch.  All clocks are this machine's.
 *
 * The schedule stands: a connection that falls behind does not wait, so that a
 * slow commit makes no event come later than it was due.
 */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libpq-fe.h>

typedef struct Sample
{
	double		begun;			/* written by the event's producer */
	double		committed;		/* likewise */
	double		heard;			/* written by the listener; 0: not (yet) */
} Sample;

static Sample *samples;
static int	count;
static double rate;
static double start;
static int	connections;
static const char *statement;
static atomic_int producing;

static double
now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_REALTIME, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static void
sleep_until(double when)
{
	double		left = when - now();
	struct timespec time = {.tv_sec = (time_t) left};

	if (left <= 0)
		return;
	time.tv_nsec = (long) ((left - time.tv_sec) * 1e9);
	nanosleep(&time, NULL);
}

static void
check(PGconn *connection, PGresult *result)
{
	if (PQresultStatus(result) != PGRES_TUPLES_OK &&
		PQresultStatus(result) != PGRES_COMMAND_OK)
	{
		fprintf(stderr, "latency: %s", PQerrorMessage(connection));
		exit(1);
	}
	PQclear(result);
}

/* A producer: every CONNECTIONS-th event is its own. */
static void *
produce(void *argument)
{
	PGconn	   *connection = PQconnectdb("");

	check(connection, PQprepare(connection, "emit", statement, 1, NULL));
	for (int i = (int) (long) argument; i < count; i += connections)
	{
		char		number[16];
		const char *values[] = {number};

		snprintf(number, sizeof(number), "%d", i);
		sleep_until(start + i / rate);
		samples[i].begun = now();
		check(connection,
			  PQexecPrepared(connection, "emit", 1, values, NULL, NULL, 0));
		samples[i].committed = now();
	}
	PQfinish(connection);
	atomic_fetch_sub(&producing, 1);
	return NULL;
}

/* The payload is the number, or an object in which it is the key. */
static void
note(const char *payload, double time)
{
	const char *key = strstr(payload, "\"key\":");
	const char *number = key == NULL ? payload : key + 6 + strspn(key + 6, " \"");
	int			index = atoi(number);

	if (index >= 0 && index < count && samples[index].heard == 0)
		samples[index].heard = time;
}

/* Reads notifications until all are there, or none comes any more. */
static void
listen_to_all(PGconn *listener)
{
	int			heard = 0;
	double		last = now();

	while (heard < count &&
		   (atomic_load(&producing) > 0 || now() - last < 5))
	{
		struct pollfd descriptor = {.fd = PQsocket(listener),.events = POLLIN};
		PGnotify   *notify;

		poll(&descriptor, 1, 100);
		if (!PQconsumeInput(listener))
		{
			fprintf(stderr, "latency: %s", PQerrorMessage(listener));
			exit(1);
		}
		while ((notify = PQnotifies(listener)) != NULL)
		{
			last = now();
			note(notify->extra, last);
			heard++;
			PQfreemem(notify);
		}
	}
}

int
main(int argc, char **argv)
{
	PGconn	   *listener = NULL;
	pthread_t  *threads;

	if (argc != 6)
	{
		fprintf(stderr, "usage: latency RATE SECONDS CONNECTIONS CHANNEL SQL\n");
		return 2;
	}
	rate = atof(argv[1]);
	count = (int) (rate * atof(argv[2]));
	connections = atoi(argv[3]);
	statement = argv[5];
	samples = calloc(count, sizeof(Sample));
	threads = calloc(connections, sizeof(pthread_t));

	if (strcmp(argv[4], "-") != 0)
	{
		char		listen[100];

		snprintf(listen, sizeof(listen), "LISTEN %s", argv[4]);
		listener = PQconnectdb("");
		check(listener, PQexec(listener, listen));
	}

	atomic_store(&producing, connections);
	start = now() + 0.1;
	for (long i = 0; i < connections; i++)
		pthread_create(&threads[i], NULL, produce, (void *) i);
	if (listener != NULL)
		listen_to_all(listener);
	for (int i = 0; i < connections; i++)
		pthread_join(threads[i], NULL);

	for (int i = 0; i < count; i++)
		printf("%d\t%.6f\t%.6f\t%.6f\n", i, samples[i].begun,
			   samples[i].committed, samples[i].heard);
	return 0;
}
