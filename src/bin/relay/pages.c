/*
 * The pages of a relay: is it alive, is it ready, and its figures.
 */
#include <inttypes.h>
#include <string.h>

#include "relay/state.h"

static void
add_metric(ObxText *text, const ObxRelay *relay, const char *name, const char *type,
		   const char *label, double value)
{
	if (type != NULL)
		obx_text_printf(text, "# TYPE pg_outbox_relay_%s %s\n", name, type);
	obx_text_printf(text, "pg_outbox_relay_%s{relay=", name);
	obx_text_append_json(text, relay->settings.name);
	obx_text_append_string(text, ",subscription=");
	obx_text_append_json(text, relay->settings.database.subscription);
	obx_text_printf(text, ",sink=\"%s\"%s} %.17g\n", relay->settings.module->name, label, value);
}

typedef struct Writing
{
	ObxText    *page;
	const ObxRelay *relay;
} Writing;

/* An ObxMetricFunction. */
static void
add_sink_metric(void *context, const char *name, const char *type, double value)
{
	const Writing *writing = context;

	add_metric(writing->page, writing->relay, name, type, "", value);
}

static void
make_metrics(ObxText *text, const ObxRelay *relay)
{
	const ObxCounters *counters = &relay->counters;
	Writing		writing;

	writing.page = text;

	writing.relay = relay;
	add_metric(text, relay, "events_sent_total", "counter", "", counters->sent);
	add_metric(text, relay, "events_confirmed_total", "counter", "", counters->confirmed);
	add_metric(text, relay, "events_rejected_total", "counter", "", counters->rejected);
	if (relay->flight.keeps_progress)
		add_metric(text, relay, "events_left_out_total", "counter", "", relay->left_out);
	add_metric(text, relay, "sent_bytes_total", "counter", "", counters->bytes);
	add_metric(text, relay, "handouts_total", "counter", "", counters->handouts);
	add_metric(text, relay, "handouts_expired_total", "counter", "", counters->expired);
	add_metric(text, relay, "failures_total", "counter", ",side=\"database\"", counters->database_losses);
	add_metric(text, relay, "failures_total", NULL, ",side=\"sink\"", counters->sink_failures);
	add_metric(text, relay, "connected", "gauge", ",side=\"database\"",
			   obx_client_is_connected(relay->client));
	add_metric(text, relay, "connected", NULL, ",side=\"sink\"", relay->sink_up);
	add_metric(text, relay, "refused", "gauge", "", relay->sink_refused);
	add_metric(text, relay, "held", "gauge", "", relay->sink_held);
	add_metric(text, relay, "active", "gauge", "", relay->is_active);
	add_metric(text, relay, "events_under_way", "gauge", "", relay->flight.events);
	add_metric(text, relay, "lag_events", "gauge", "", relay->lag);
	if (counters->last_confirmed > 0)
		add_metric(text, relay, "last_confirmed_timestamp_seconds", "gauge", "",
				   counters->last_confirmed);
	if (relay->settings.module->metrics != NULL)
		relay->settings.module->metrics(relay->settings.sink, add_sink_metric, &writing);
}

bool
obx_relay_page(const char *page, ObxText *text, void *context)
{
	const ObxRelay *relay = context;
	bool		ready = true;

	if (strcmp(page, "metrics") == 0)
	{
		make_metrics(text, relay);
		return true;
	}
	if (strcmp(page, "live") == 0)
	{
		/* who answers turns */
		obx_text_append_string(text, "live\n");
		return true;
	}
	if (!obx_client_is_connected(relay->client))
	{
		obx_text_printf(text, "database: %s\n",
						relay->database_error[0] != '\0' ? relay->database_error : "connecting");
		ready = false;
	}
	if (!relay->sink_up || relay->sink_held)
	{
		obx_text_printf(text, "sink: %s\n",
						relay->sink_error[0] != '\0' ? relay->sink_error : "connecting");
		ready = false;
	}
	if (ready)
		obx_text_printf(text, "%s\n", relay->is_active ? "active" : "standby");
	return ready;
}
