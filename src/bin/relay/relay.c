/*
 * The loop: one thread that never waits but in poll().
 *
 * An event is acked in the database after the sink has confirmed it, never
 * before: so a relay may die at any moment, and what it had not acked is
 * handed out again.
 */
#include "relay/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "relay/state.h"

#define SINK_DESCRIPTORS	16
#define LONGEST_WAIT		OBX_SECOND

/* ---- signals ---- */

static volatile sig_atomic_t stop_signals = 0;
static volatile sig_atomic_t reload_signal = 0;
static int	signal_pipe[2] = {-1, -1};

static void
note_signal(int number)
{
	int			saved = errno;

	if (number == SIGHUP)
		reload_signal = 1;
	else
		stop_signals++;
	if (write(signal_pipe[1], "", 1) < 0)
		stop_signals += 0;
	errno = saved;
}

static void
catch_signals(void)
{
	struct sigaction action = {.sa_handler = note_signal};
	static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};

	if (signal_pipe[0] >= 0)
		return;
	if (pipe(signal_pipe) != 0)
		obx_die(OBX_EXIT_ERROR, "could not make a pipe: %s", strerror(errno));
	for (int i = 0; i < 2; i++)
	{
		fcntl(signal_pipe[i], F_SETFL, O_NONBLOCK);
		fcntl(signal_pipe[i], F_SETFD, FD_CLOEXEC);
	}
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigaction(numbers[i], &action, NULL);
}

static void
take_signals(ObxRelay *relay, const char *path, const ObxConnectOptions *connect)
{
	char		bytes[64];

	while (read(signal_pipe[0], bytes, sizeof(bytes)) > 0)
		continue;
	if (stop_signals > 1)
		obx_relay_finish(relay, OBX_EXIT_OK);
	else if (stop_signals == 1 && (!relay->draining || relay->reloading))
	{
		obx_log("stopping: %d events are under way", relay->flight.events);
		obx_notify("STOPPING=1");
		relay->draining = true;
		relay->reloading = false;
	}
	if (reload_signal && !relay->draining)
	{
		ObxRelaySettings next;
		char	   *error;

		/* a file with a mistake changes nothing */
		if (obx_settings_read(path, connect, &next, &error))
		{
			obx_settings_free(&next);
			obx_log("reading the configuration again");
			relay->draining = relay->reloading = true;
		}
		else
		{
			obx_warn("the configuration stays as it was: %s", error);
			free(error);
		}
	}
	reload_signal = 0;
}

/* ---- the loop ---- */

void
obx_relay_finish(ObxRelay *relay, ObxExit code)
{
	relay->finished = true;
	relay->reloading = false;
	relay->exit = code;
}

/* Nothing is left to do, and no more is wanted. */
static bool
is_done(const ObxRelay *relay)
{
	if (relay->flight.batches > 0)
		return false;
	if (relay->draining)
		return obx_client_is_idle(relay->client) || !obx_client_is_connected(relay->client);
	if (relay->mode == OBX_RELAY_CHECK)
		return relay->sink_up && obx_client_is_connected(relay->client);
	return relay->mode == OBX_RELAY_ONCE && relay->nothing_left &&
		obx_client_is_idle(relay->client);
}

static void
earlier(int64_t * until, int64_t than)
{
	if (than < *until)
		*until = than;
}

/* Leases are to be extended at half time; what can be done about none is waited for. */
static void
wait_for_leases(const ObxRelay *relay, int64_t now, int64_t * until)
{
	for (const ObxBatch *batch = relay->flight.first; batch != NULL; batch = batch->next)
	{
		int64_t		half = batch->handout.expires - relay->settings.database.lease / 2;

		if (relay->sink_up && obx_client_is_idle(relay->client))
			earlier(until, half > relay->question_backoff.until ?
					half : relay->question_backoff.until);
		else if (batch->handout.expires > now)
			earlier(until, batch->handout.expires);
	}
}

/* Waits until one of the sides has something to do. */
static void
wait_for_work(ObxRelay *relay)
{
	struct pollfd descriptors[2 + SINK_DESCRIPTORS + OBX_MONITOR_CLIENTS + 1];
	int			count = 0;
	int64_t		now = obx_now();
	int64_t		until = now + LONGEST_WAIT;

	descriptors[count++] = (struct pollfd)
	{
		.fd = signal_pipe[0],.events = POLLIN
	};
	if (obx_client_wait_for(relay->client, &descriptors[count], &until))
		count++;
	else
		earlier(&until, relay->database_backoff.until);
	if (obx_client_is_idle(relay->client))
	{
		if (relay->sink_up && !relay->draining && relay->flight.batches == 0)
			earlier(&until, relay->receive_at > relay->question_backoff.until ?
					relay->receive_at : relay->question_backoff.until);
		if (relay->flight.batches > 0 && relay->receive_at > now)
			earlier(&until, relay->receive_at);
		earlier(&until, relay->status_at > relay->question_backoff.until ?
				relay->status_at : relay->question_backoff.until);
	}
	if (relay->sink_up || relay->sink_connecting)
		count += relay->settings.module->wait_for(relay->settings.sink, &descriptors[count],
												  SINK_DESCRIPTORS, &until);
	else
		earlier(&until, relay->sink_backoff.until);
	if (relay->monitor != NULL)
		count += obx_monitor_wait_for(relay->monitor, &descriptors[count], &until);
	wait_for_leases(relay, now, &until);
	poll(descriptors, count, until <= now ? 0 : (int) ((until - now + 999) / 1000));
}

static void
turn(ObxRelay *relay)
{
	if (!obx_client_is_connected(relay->client) &&
		obx_backoff_is_over(&relay->database_backoff) && !relay->finished)
	{
		struct pollfd unused;
		int64_t		until = OBX_FOREVER;

		if (!obx_client_wait_for(relay->client, &unused, &until) && until == OBX_FOREVER)
			obx_client_connect(relay->client);
	}
	obx_relay_turn_database(relay);
	if (!relay->finished)
		obx_relay_expire(relay);
	if (!relay->finished)
		obx_relay_turn_sink(relay);
	if (!relay->finished)
		obx_relay_ask(relay);
	if (relay->monitor != NULL)
		obx_monitor_work(relay->monitor);
}

static void
tell_systemd(ObxRelay *relay, bool *told, int64_t * watchdog_at)
{
	int64_t		interval = obx_notify_interval();

	if (!*told && relay->sink_up && obx_client_is_connected(relay->client))
	{
		obx_notify("READY=1");
		*told = true;
	}
	if (interval > 0 && obx_now() >= *watchdog_at)
	{
		obx_notify("WATCHDOG=1");
		*watchdog_at = obx_now() + interval;
	}
}

/* ---- beginning and end ---- */

static bool
open_relay(ObxRelay *relay)
{
	char	   *error;

	relay->delivered = -1;
	relay->flight.keeps_progress = relay->sealed = relay->settings.traits.keeps_progress;
	obx_text_init(&relay->body);
	obx_text_init(&relay->id);
	if (relay->settings.listen != NULL && relay->mode == OBX_RELAY_FOREVER)
	{
		relay->monitor = obx_monitor_open(relay->settings.listen, obx_relay_page, relay, &error);
		if (relay->monitor == NULL)
		{
			obx_error("%s", error);
			free(error);
			return false;
		}
	}
	relay->client = obx_client_open(&relay->settings.database);
	return true;
}

static void
close_relay(ObxRelay *relay)
{
	obx_flight_clear(&relay->flight);
	obx_progress_clear(&relay->progress);
	if (relay->client != NULL)
		obx_client_close(relay->client);
	if (relay->monitor != NULL)
		obx_monitor_close(relay->monitor);
	obx_text_free(&relay->body);
	obx_text_free(&relay->id);
	obx_settings_free(&relay->settings);
}

static void
tell_check(const ObxRelay *relay)
{
	obx_log("subscription \"%s\" is %s, %lld events behind; sink %s is ready",
			relay->settings.database.subscription, relay->state, (long long) relay->lag,
			relay->settings.module->name);
}

int
obx_relay_run(const char *path, const ObxConnectOptions *connect, ObxRelayMode mode)
{
	bool		told = false;
	int64_t		watchdog_at = 0;
	ObxExit		code;
	bool		again;

	obx_log_with_time();
	catch_signals();
	/* the forms of times that are relied on; poolers know these settings */
	setenv("PGTZ", "UTC", 1);
	setenv("PGDATESTYLE", "ISO", 1);
	do
	{
		ObxRelay	relay = {.mode = mode};
		char	   *error;

		if (!obx_settings_read(path, connect, &relay.settings, &error))
			obx_die(OBX_EXIT_ERROR, "%s", error);
		if (!open_relay(&relay))
		{
			close_relay(&relay);
			return OBX_EXIT_ERROR;
		}
		while (!relay.finished && !is_done(&relay))
		{
			take_signals(&relay, path, connect);
			turn(&relay);
			tell_systemd(&relay, &told, &watchdog_at);
			if (!relay.finished && !is_done(&relay))
				wait_for_work(&relay);
		}
		if (mode == OBX_RELAY_CHECK && !relay.finished && !relay.draining)
			tell_check(&relay);
		code = relay.exit;
		again = relay.reloading;
		close_relay(&relay);
	} while (again);
	obx_log("stopped");
	return code;
}
