/*
 * A subscription that is there already, against one that is asked for: what
 * differs, in words, and whether that can be changed.
 *
 * Each property has one text, which is compared and which is shown.  So nothing
 * is changed without being named, and names are compared after they were
 * resolved: neither quotes nor capital letters make a difference.
 *
 * Where a subscription begins, who owns it, its search_path, and whether it is
 * paused are no properties: the migration that runs again leaves them.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "sqlapi/alter.h"
#include "sqlapi/argument.h"
#include "sqlapi/existing.h"

/* Bytes of a value that are shown. */
#define SHOWN 200

ObxIfExists
obx_existing_argument(FunctionCallInfo fcinfo, int number)
{
	static const char *const words[] = {"error", "keep", "alter"};

	return obx_argument_require_word(fcinfo, number, "if_exists", words, lengthof(words));
}

/* ---- properties as texts; NULL for none ---- */

typedef char *(*GetText) (const ObxSubscription *subscription);

static char *
show_interval(int64 microseconds)
{
	Interval	interval = {.time = microseconds};

	return DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(&interval)));
}

static char *
show_limit(int64 microseconds)
{
	return microseconds == 0 ? NULL : show_interval(microseconds);
}

static char *
get_types(const ObxSubscription *subscription)
{
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < subscription->ntypes; i++)
		appendStringInfo(&text, "%s%s", i > 0 ? ", " : "",
						 quote_literal_cstr(subscription->types[i]));
	return text.data;
}

static char *
get_handler(const ObxSubscription *subscription)
{
	if (subscription->handler_name == NULL)
		return NULL;
	return psprintf("%s(%s)", quote_qualified_identifier(subscription->handler_schema,
														 subscription->handler_name),
					obx_subscription_argument(subscription->handler_argument));
}

static char *
get_channel(const ObxSubscription *subscription)
{
	return subscription->channel;
}

static char *
get_filter(const ObxSubscription *subscription)
{
	return subscription->filter;
}

static char *
get_ordering(const ObxSubscription *subscription)
{
	return pstrdup(obx_subscription_ordering(subscription->ordering));
}

static char *
get_concurrency(const ObxSubscription *subscription)
{
	return psprintf("%d", subscription->concurrency);
}

static char *
get_batch_size(const ObxSubscription *subscription)
{
	return psprintf("%d", subscription->batch_size);
}

static char *
get_max_attempts(const ObxSubscription *subscription)
{
	return psprintf("%d", subscription->max_attempts);
}

static char *
get_backoff(const ObxSubscription *subscription)
{
	return show_interval(subscription->backoff);
}

static char *
get_max_backoff(const ObxSubscription *subscription)
{
	return show_interval(subscription->max_backoff);
}

static char *
get_timeout(const ObxSubscription *subscription)
{
	return show_interval(subscription->timeout);
}

static char *
get_on_exhausted(const ObxSubscription *subscription)
{
	return pstrdup(subscription->block_on_exhausted ? "block" : "dead_letter");
}

static char *
get_payload(const ObxSubscription *subscription)
{
	return pstrdup(subscription->payload_event ? "event" : "reference");
}

static char *
get_emit_type(const ObxSubscription *subscription)
{
	return subscription->emit_type;
}

static char *
get_max_events(const ObxSubscription *subscription)
{
	return subscription->max_events == 0 ? NULL :
		psprintf(INT64_FORMAT, subscription->max_events);
}

static char *
get_quiet(const ObxSubscription *subscription)
{
	return show_limit(subscription->quiet);
}

static char *
get_period(const ObxSubscription *subscription)
{
	return show_limit(subscription->period);
}

static char *
get_until(const ObxSubscription *subscription)
{
	return subscription->until;
}

typedef struct Property
{
	const char *name;			/* of the argument */
	GetText		get;
	bool		is_fixed;		/* from the beginning on */
} Property;

static const Property subscriptions[] = {
	{"types", get_types},
	{"handler", get_handler},
	{"channel", get_channel},
	{"filter", get_filter},
	{"ordering", get_ordering},
	{"concurrency", get_concurrency},
	{"batch_size", get_batch_size},
	{"max_attempts", get_max_attempts},
	{"backoff", get_backoff},
	{"max_backoff", get_max_backoff},
	{"timeout", get_timeout},
	{"on_exhausted", get_on_exhausted},
	{"payload", get_payload}
};

/* Only what aggregate() has as arguments; the rest is alter_subscription()'s. */
static const Property aggregates[] = {
	{"types", get_types},
	{"reducer", get_handler},
	{"filter", get_filter},
	{"emit_type", get_emit_type, true},
	{"max_events", get_max_events, true},
	{"quiet", get_quiet, true},
	{"period", get_period, true},
	{"until", get_until, true}
};

/* ---- comparing ---- */

static bool
is_same(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* A filter may be long. */
static char *
shorten(const char *text)
{
	int			length;

	if (text == NULL)
		return pstrdup("none");
	length = pg_mbcliplen(text, strlen(text), SHOWN);
	return psprintf("%.*s%s", length, text, text[length] == '\0' ? "" : "...");
}

static void
refuse_fixed(const ObxSubscription *existing, const char *property, const char *old,
			 const char *new)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot alter \"%s\" of aggregate \"%s\"", property, existing->name),
			 errdetail("It is %s, and %s is asked for.", shorten(old), shorten(new)),
			 errhint("Make an aggregate of another name, or remove this one first with outbox.unsubscribe(), which drops its open windows.")));
}

/* Consumers that pull have hand-outs, aggregates windows, which others have not. */
static void
check_kind(const ObxSubscription *existing, const ObxSubscription *wanted)
{
	if (existing->kind == wanted->kind ||
		(existing->kind != OBX_KIND_AGGREGATE &&
		 (wanted->kind == OBX_KIND_FUNCTION || wanted->kind == OBX_KIND_CHANNEL)))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot alter the kind of subscription \"%s\"", existing->name),
			 errdetail("Its kind is %s, and %s is asked for.", obx_kind_name(existing->kind),
					   obx_kind_name(wanted->kind)),
			 errhint("Choose another name, or remove it first with outbox.unsubscribe().")));
}

/* A line for each property that differs; NULL for none. */
static char *
describe_changes(const ObxSubscription *existing, const ObxSubscription *wanted)
{
	bool		is_aggregate = wanted->kind == OBX_KIND_AGGREGATE;
	const Property *properties = is_aggregate ? aggregates : subscriptions;
	int			count = is_aggregate ? lengthof(aggregates) : lengthof(subscriptions);
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < count; i++)
	{
		char	   *old = properties[i].get(existing);
		char	   *new = properties[i].get(wanted);

		if (is_same(old, new))
			continue;
		if (properties[i].is_fixed)
			refuse_fixed(existing, properties[i].name, old, new);
		appendStringInfo(&text, "%s%s: %s -> %s", text.len > 0 ? "\n" : "",
						 properties[i].name, shorten(old), shorten(new));
	}
	return text.len > 0 ? text.data : NULL;
}

/* ---- changing ---- */

static void
take_over(ObxSubscription *subscription, const ObxSubscription *wanted)
{
	/* the same list stays the same pointer, which says that nothing changes */
	if (!is_same(get_types(subscription), get_types(wanted)))
	{
		subscription->types = wanted->types;
		subscription->ntypes = wanted->ntypes;
	}
	subscription->kind = wanted->kind;
	subscription->handler_schema = wanted->handler_schema;
	subscription->handler_name = wanted->handler_name;
	subscription->handler_argument = wanted->handler_argument;
	subscription->filter = wanted->filter;
	if (wanted->kind == OBX_KIND_AGGREGATE)
		return;
	subscription->channel = wanted->channel;
	subscription->ordering = wanted->ordering;
	subscription->concurrency = wanted->concurrency;
	subscription->batch_size = wanted->batch_size;
	subscription->max_attempts = wanted->max_attempts;
	subscription->backoff = wanted->backoff;
	subscription->max_backoff = wanted->max_backoff;
	subscription->timeout = wanted->timeout;
	subscription->block_on_exhausted = wanted->block_on_exhausted;
	subscription->payload_event = wanted->payload_event;
}

void
obx_existing_alter(ObxSubscription *existing, const ObxSubscription *wanted,
				   const char *function)
{
	ObxSubscription new = *existing;
	char	   *changes;

	check_kind(existing, wanted);
	changes = describe_changes(existing, wanted);
	if (changes == NULL)
	{
		ereport(NOTICE,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("subscription \"%s\" already exists, and nothing differs",
						existing->name)));
		return;
	}
	take_over(&new, wanted);
	obx_alter_apply(existing, &new, function);
	ereport(NOTICE,
			(errmsg("altered subscription \"%s\", which already exists", existing->name),
			 errdetail("%s", changes)));
}
