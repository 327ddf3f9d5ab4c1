/*
 * Which target a subscription has.  Knows the kinds; they do not know it.
 */
#include "postgres.h"

#include "delivery/aggregate.h"
#include "delivery/channel.h"
#include "delivery/function.h"
#include "delivery/targets.h"

ObxTarget *
obx_targets_open(const ObxSubscription *subscription)
{
	switch (subscription->kind)
	{
		case OBX_KIND_FUNCTION:
			return obx_function_open(subscription);
		case OBX_KIND_CHANNEL:
			return obx_channel_open(subscription);
		case OBX_KIND_AGGREGATE:
			return obx_aggregate_open(subscription);
		case OBX_KIND_PULL:
			break;
	}
	elog(ERROR, "subscription \"%s\" has no target", subscription->name);
	return NULL;				/* keep the compiler quiet */
}
