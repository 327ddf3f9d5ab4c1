/*
 * The properties of a subscription, from arguments: subscribe() takes all of
 * them, alter_subscription() those that are not NULL.
 *
 * A handler's name is looked up in the caller's search_path; its rights, and
 * all of a filter, are the owner's matter.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/identity.h"
#include "base/listener.h"
#include "delivery/call.h"
#include "delivery/completion.h"
#include "delivery/function.h"
#include "delivery/target.h"
#include "dispatch/filter.h"
#include "dispatch/match.h"
#include "dispatch/session.h"
#include "sqlapi/argument.h"
#include "sqlapi/handler.h"
#include "sqlapi/options.h"

/*
 * The arguments' numbers; subscribe() has "start" at START and the ones behind
 * it one further on, alter_subscription() has "owner" too.
 */
enum
{
	NAME,
	TYPES,
	HANDLER,
	CHANNEL,
	FILTER,
	START,
	ORDERING = START,
	CONCURRENCY,
	BATCH_SIZE,
	MAX_ATTEMPTS,
	BACKOFF,
	MAX_BACKOFF,
	TIMEOUT,
	ON_EXHAUSTED,
	PAYLOAD,
	OWNER
};

/* Lanes of a subscription; their number is part of a lock's tag. */
#define OBX_MAX_CONCURRENCY 1000

/* Lanes of all subscriptions of an owner, and of a database, together. */
#define OBX_MAX_OWNERS_LANES 20000
#define OBX_MAX_DATABASES_LANES 100000

#define OBX_MAX_BATCH_SIZE 100000

/* Is the argument, one behind "filter", to be looked at? */
static bool
is_given(FunctionCallInfo fcinfo, ObxOptions mode, int number)
{
	return mode == OBX_OPTIONS_NEW || !PG_ARGISNULL(mode + number);
}

static void
check_channel(const char *channel)
{
	if (channel[0] == '\0' || strlen(channel) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid channel name: \"%s\"", channel),
				 errdetail("A channel has 1 to %d bytes.", NAMEDATALEN - 1),
				 errhint("Choose a shorter name.")));
	if (strcmp(channel, OBX_HEAD_CHANNEL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_RESERVED_NAME),
				 errmsg("channel \"%s\" is reserved", channel),
				 errdetail("On it the extension itself says that the log has grown."),
				 errhint("Choose another name, or LISTEN to it without a subscription.")));
}

/* A worker connects as the owner. */
void
obx_options_warn_owner(Oid owner)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(owner));
	bool		can_login = HeapTupleIsValid(tuple) &&
	((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	if (OBX_WORKER_NEEDS_LOGIN && !can_login)
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("role \"%s\" cannot log in, so no background worker can serve its subscriptions",
						GetUserNameFromId(owner, true)),
				 errhint("ALTER ROLE ... LOGIN (a password is not needed), or CALL outbox.run() as that role.")));
}

/* ---- whom events go to ---- */

/*
 * Code that is named here runs as the owner, so the caller must be able to run
 * it as that role anyway.
 */
void
obx_options_require_set_role(Oid owner)
{
	if (!obx_can_act_as(GetUserId(), owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be a member of role \"%s\"", GetUserNameFromId(owner, true)),
				 errdetail("The subscription's handler and filter would run as that role."),
				 errhint("Run the command as that role, or as a member of it that may SET ROLE to it.")));
}

static void
refuse_for_aggregate(const char *name, const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("argument \"%s\" is not for aggregates", name),
			 errdetail("%s", detail),
			 errhint("%s", hint)));
}

static void
fill_target(FunctionCallInfo fcinfo, ObxSubscription *subscription)
{
	char	   *handler = obx_argument_text(fcinfo, HANDLER);
	char	   *channel = obx_argument_text(fcinfo, CHANNEL);

	if (handler == NULL && channel == NULL)
		return;
	obx_options_require_set_role(subscription->owner);
	if (subscription->kind == OBX_KIND_AGGREGATE)
	{
		if (channel != NULL)
			refuse_for_aggregate("channel", "An aggregate emits events.",
								 "Subscribe the channel to those.");
		obx_handler_resolve_reducer(handler, subscription);
		return;
	}
	if (handler != NULL && channel != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a subscription has a handler or a channel, not both"),
				 errdetail("Each event is delivered in one way."),
				 errhint("Make two subscriptions.")));

	subscription->handler_schema = subscription->handler_name = NULL;
	subscription->handler_argument = OBX_ARGUMENT_NONE;
	subscription->channel = channel;
	if (handler != NULL)
	{
		subscription->kind = OBX_KIND_FUNCTION;
		obx_handler_resolve(handler, subscription);
	}
	else
	{
		subscription->kind = OBX_KIND_CHANNEL;
		check_channel(channel);
	}
}

/* An empty one removes what there is; to begin with there is none. */
static void
fill_filter(FunctionCallInfo fcinfo, ObxOptions mode, ObxSubscription *subscription)
{
	char	   *filter = obx_argument_expression(fcinfo, FILTER, "filter");

	if (filter == NULL)
		return;
	obx_options_require_set_role(subscription->owner);
	subscription->filter = filter;
	if (mode == OBX_OPTIONS_ALTER && filter[0] == '\0')
		subscription->filter = NULL;
	else
		obx_filter_check(subscription);
}

/*
 * Checks the properties that stay for the new owner: with its rights and in
 * its search_path, because the former owner can create objects in its own.
 */
static void
check_taken_over(FunctionCallInfo fcinfo, ObxSubscription *subscription)
{
	bool		same_target = PG_ARGISNULL(HANDLER) && PG_ARGISNULL(CHANNEL);

	if (subscription->handler_name != NULL && same_target)
		(void) obx_function_require(subscription->handler_schema, subscription->handler_name,
									subscription->handler_argument, subscription->owner);
	if (subscription->filter != NULL && PG_ARGISNULL(FILTER))
		obx_filter_check(subscription);
	if (subscription->until != NULL)
		obx_session_check_as_owner(subscription, obx_completion_check);
}

void
obx_options_require_owner(const ObxSubscription *subscription)
{
	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(subscription->owner)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the owner of subscription \"%s\" does not exist any more",
						subscription->name),
				 errdetail("Its handler and filter would run as that role."),
				 errhint("Give it another one: outbox.alter_subscription(..., owner => ...).")));
}

static void
fill_owner(FunctionCallInfo fcinfo, ObxSubscription *subscription)
{
	char	   *name = obx_argument_text(fcinfo, OWNER);
	Oid			former = subscription->owner;

	if (name == NULL)
	{
		obx_options_require_owner(subscription);
		return;
	}
	subscription->owner = get_role_oid(name, true);
	if (!OidIsValid(subscription->owner))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\" does not exist", name),
				 errdetail("A subscription belongs to a role, whose rights its handler and filter have."),
				 errhint("Name a role as it is stored, without quotes.")));
	obx_options_require_set_role(subscription->owner);
	if (subscription->owner != former)
		subscription->search_path = obx_identity_login_path(subscription->owner);
	check_taken_over(fcinfo, subscription);
}

/* ---- how ---- */

static void
fill_order(FunctionCallInfo fcinfo, ObxOptions mode, ObxSubscription *subscription)
{
	static const char *const orderings[] = {"key", "strict", "none"};

	if (is_given(fcinfo, mode, ORDERING))
		subscription->ordering = obx_argument_require_word(fcinfo, mode + ORDERING, "ordering", orderings,
														   lengthof(orderings));
	if (is_given(fcinfo, mode, CONCURRENCY))
		subscription->concurrency = obx_argument_require_number(fcinfo, mode + CONCURRENCY,
																"concurrency", false, 1,
																OBX_MAX_CONCURRENCY);
	if (subscription->ordering == OBX_ORDERING_STRICT && subscription->concurrency > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("strict ordering has a concurrency of 1"),
				 errdetail("Lanes progress independently of one another."),
				 errhint("Use ordering => 'key', or concurrency => 1.")));
	if (subscription->kind == OBX_KIND_AGGREGATE &&
		subscription->ordering != OBX_ORDERING_KEY)
		refuse_for_aggregate("ordering", "An aggregate folds events key by key, in their order.",
							 "Leave it out.");
	if (subscription->kind == OBX_KIND_AGGREGATE && subscription->concurrency > 1)
		refuse_for_aggregate("concurrency", "Events without a key are one group, which has one lane.",
							 "Make several aggregates, with filters that divide the events.");
}

/* Each lane costs the workers memory, and a look when an event has come. */
static void
check_lanes(const ObxSubscription *subscription)
{
	int64		owners = subscription->concurrency;
	int64		all = subscription->concurrency;
	ListCell   *lc;

	foreach(lc, obx_subscription_list())
	{
		const ObxSubscription *other = lfirst(lc);

		if (other->id == subscription->id)
			continue;
		all += other->concurrency;
		if (other->owner == subscription->owner)
			owners += other->concurrency;
	}
	if (owners > OBX_MAX_OWNERS_LANES || all > OBX_MAX_DATABASES_LANES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many lanes of subscriptions"),
				 errdetail("Those of an owner can have %d together, those of a database %d.",
						   OBX_MAX_OWNERS_LANES, OBX_MAX_DATABASES_LANES),
				 errhint("Lower the concurrency of subscriptions.")));
}

static void
fill_limits(FunctionCallInfo fcinfo, ObxOptions mode, ObxSubscription *subscription)
{
	static const char *const exhausted[] = {"dead_letter", "block"};
	static const char *const payloads[] = {"reference", "event"};

	if (is_given(fcinfo, mode, BATCH_SIZE))
		subscription->batch_size = obx_argument_require_number(fcinfo, mode + BATCH_SIZE,
															   "batch_size", false, 1,
															   OBX_MAX_BATCH_SIZE);
	if (is_given(fcinfo, mode, MAX_ATTEMPTS))
		subscription->max_attempts = obx_argument_require_number(fcinfo, mode + MAX_ATTEMPTS,
																 "max_attempts", false, 1,
																 INT_MAX);
	if (is_given(fcinfo, mode, BACKOFF))
		subscription->backoff = obx_argument_require_interval(fcinfo, mode + BACKOFF,
															  "backoff");
	if (is_given(fcinfo, mode, MAX_BACKOFF))
		subscription->max_backoff = obx_argument_require_interval(fcinfo, mode + MAX_BACKOFF,
																  "max_backoff");
	if (is_given(fcinfo, mode, TIMEOUT))
		subscription->timeout = obx_argument_require_interval(fcinfo, mode + TIMEOUT,
															  "timeout");
	if (is_given(fcinfo, mode, TIMEOUT) &&
		obx_call_time_limit(subscription) != subscription->timeout)
		ereport(NOTICE,
				(errmsg("calls of subscription \"%s\" end after %g s",
						subscription->name, obx_call_time_limit(subscription) / 1e6),
				 errdetail("The setting outbox.max_timeout bounds every subscription's timeout.")));
	if (is_given(fcinfo, mode, ON_EXHAUSTED))
		subscription->block_on_exhausted = obx_argument_require_word(fcinfo, mode + ON_EXHAUSTED,
																	 "on_exhausted", exhausted,
																	 lengthof(exhausted)) == 1;
	if (subscription->kind == OBX_KIND_AGGREGATE && !PG_ARGISNULL(mode + PAYLOAD))
		refuse_for_aggregate("payload", "It is for channels.", "Leave it out.");
	if (is_given(fcinfo, mode, PAYLOAD))
		subscription->payload_event = obx_argument_require_word(fcinfo, mode + PAYLOAD, "payload",
																payloads, lengthof(payloads)) == 1;
}

/* Patterns that match what it emits do no harm: the dispatcher leaves that out. */
void
obx_options_check_types(const ObxSubscription *subscription)
{
	const char *type = subscription->emit_type;

	for (int i = 0; i < subscription->ntypes; i++)
		if (strcmp(subscription->types[i], type) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("aggregate \"%s\" cannot fold the events that it emits",
							subscription->name),
					 errdetail("One of its types is \"%s\".", type),
					 errhint("Name other types to be folded, or emit another type.")));
}

void
obx_options_fill(FunctionCallInfo fcinfo, ObxOptions mode, ObxSubscription *subscription)
{
	Oid			owner = subscription->owner;

	if (mode == OBX_OPTIONS_NEW)
		subscription->kind = OBX_KIND_PULL;
	if (mode == OBX_OPTIONS_NEW || !PG_ARGISNULL(TYPES))
		subscription->types = obx_argument_require_patterns(fcinfo, TYPES, "types",
															&subscription->ntypes);
	if (subscription->kind == OBX_KIND_AGGREGATE)
		obx_options_check_types(subscription);
	/* before the rights of the owner are checked */
	if (mode == OBX_OPTIONS_ALTER)
		fill_owner(fcinfo, subscription);
	fill_target(fcinfo, subscription);
	fill_filter(fcinfo, mode, subscription);
	fill_order(fcinfo, mode, subscription);
	if (is_given(fcinfo, mode, CONCURRENCY) || subscription->owner != owner)
		check_lanes(subscription);
	fill_limits(fcinfo, mode, subscription);

	if (subscription->kind != OBX_KIND_PULL &&
		(mode == OBX_OPTIONS_NEW || subscription->owner != owner))
		obx_options_warn_owner(subscription->owner);
}
