/*
 * What an error means, and when to try again.
 *
 * Must not know rows or transactions.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/encoding.h"
#include "base/error.h"
#include "dispatch/attempts.h"
#include "dispatch/retry.h"

ObxVerdict
obx_retry_judge(int sqlstate)
{
	switch (sqlstate)
	{
		case OBX_ERRCODE_RETRY_LATER:
			return OBX_VERDICT_LATER;
		case OBX_ERRCODE_DEAD_LETTER:
		case OBX_ERRCODE_TOO_DEEP:
			return OBX_VERDICT_DEAD;
		case ERRCODE_T_R_SERIALIZATION_FAILURE:
		case ERRCODE_T_R_DEADLOCK_DETECTED:
		case ERRCODE_LOCK_NOT_AVAILABLE:
			return OBX_VERDICT_AGAIN;
		case ERRCODE_ADMIN_SHUTDOWN:
		case ERRCODE_CRASH_SHUTDOWN:
		case ERRCODE_CANNOT_CONNECT_NOW:
		case ERRCODE_READ_ONLY_SQL_TRANSACTION:
			return OBX_VERDICT_INFRASTRUCTURE;
		default:
			break;
	}

	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_SYSTEM_ERROR:
			return OBX_VERDICT_INFRASTRUCTURE;
		default:
			return OBX_VERDICT_FAILURE;
	}
}

/* A random share between one half and one. */
static double
jitter(void)
{
	return 0.5 + 0.5 * obx_random();
}

/* Microseconds to wait after the n-th failure. */
static int64
backoff_after(const ObxSubscription *subscription, int failures)
{
	double		wait = (double) subscription->backoff;

	for (int i = 1; i < failures && wait < (double) subscription->max_backoff; i++)
		wait *= 2;
	return (int64) (Min(wait, (double) subscription->max_backoff) * jitter());
}

static void
set_error(const ErrorData *error, ObxDelivery *delivery)
{
	delivery->sqlstate = pstrdup(unpack_sql_state(error->sqlerrcode));
	delivery->error = error->message != NULL ? obx_encoding_clean(error->message) :
		"unknown error";
	delivery->error_detail = obx_encoding_clean(error->detail);
	delivery->error_context = obx_encoding_clean(error->context);
	delivery->failed_at = GetCurrentTimestamp();
}

void
obx_retry_note_failure(const ObxSubscription *subscription, ObxVerdict verdict,
					   const ErrorData *error, ObxDelivery *delivery)
{
	int64		wait = 0;

	set_error(error, delivery);
	Assert(delivery->state != OBX_DELIVERY_DEAD);
	switch (verdict)
	{
		case OBX_VERDICT_LATER:
			wait = subscription->backoff;
			break;
		case OBX_VERDICT_DEAD:
			delivery->attempts++;
			break;
		default:
			delivery->attempts++;
			wait = backoff_after(subscription, delivery->attempts);
			break;
	}
	obx_attempts_note(delivery, delivery->attempts + (verdict == OBX_VERDICT_LATER ? 1 : 0));

	if (verdict == OBX_VERDICT_DEAD ||
		(verdict != OBX_VERDICT_LATER && delivery->attempts >= subscription->max_attempts))
	{
		delivery->state = OBX_DELIVERY_DEAD;
		delivery->open = subscription->block_on_exhausted;
		delivery->next_at = DT_NOEND;
	}
	else
	{
		delivery->state = OBX_DELIVERY_RETRY;
		delivery->open = true;
		delivery->next_at = GetCurrentTimestamp() + wait;
	}
}
