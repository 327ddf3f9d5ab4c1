/*
 * The settings outbox.*.
 *
 * Those of the service are for the superuser, so that ALTER DATABASE and ALTER
 * SYSTEM can give them and no producer can change them; those that describe
 * events are for everyone.  Check hooks say what is wrong with a value and
 * never raise: they also run in the postmaster when it reads its files.
 *
 * Must not know what the values are used for.
 */
#include "postgres.h"

#include <limits.h>

#include "base/compat.h"
#include "base/encoding.h"
#include "base/settings.h"

int			obx_max_workers = 4;
int			obx_poll_interval = 1000;
int			obx_retention = 7 * 86400;
int			obx_max_retention = -1;
int			obx_partition_interval = 86400;
int			obx_idempotency_window = 7 * 86400;
int			obx_max_depth = 64;
int			obx_max_timeout = -1;
bool		obx_strict_types = false;
char	   *obx_correlation_id = NULL;
char	   *obx_traceparent = NULL;
char	   *obx_headers = NULL;
bool		obx_settings_verified = false;

static ObxInheritedSettings inherited = {NULL, NULL, NULL};

void
obx_settings_inherit(const ObxInheritedSettings *settings)
{
	static const ObxInheritedSettings none = {NULL, NULL, NULL};

	inherited = settings != NULL ? *settings : none;
}

static const char *
own_or_inherited(const char *own, const char *from_event)
{
	if (own != NULL && own[0] != '\0')
		return own;
	return from_event != NULL ? from_event : "";
}

static const char *
show_correlation_id(void)
{
	return own_or_inherited(obx_correlation_id, inherited.correlation_id);
}

static const char *
show_traceparent(void)
{
	return own_or_inherited(obx_traceparent, inherited.traceparent);
}

static const char *
show_headers(void)
{
	return own_or_inherited(obx_headers, inherited.headers);
}

/* Whether "count" lower-case hexadecimal digits stand there, not all zero. */
static bool
is_hex(const char *value, int count, bool zero_allowed)
{
	bool		zero = true;

	for (int i = 0; i < count; i++)
	{
		if (!((value[i] >= '0' && value[i] <= '9') || (value[i] >= 'a' && value[i] <= 'f')))
			return false;
		zero = zero && value[i] == '0';
	}
	return zero_allowed || !zero;
}

/* Whether all of it is visible ASCII. */
static bool
is_visible(const char *value)
{
	while (*value > ' ' && *value < 0x7f)
		value++;
	return *value == '\0';
}

/*
 * W3C Trace Context: version-traceid-parentid-flags.  Version 00 ends there;
 * a later one may go on after another dash, and ff is none.
 */
bool
obx_settings_traceparent_is_valid(const char *value)
{
	const int	length = 2 + 1 + 32 + 1 + 16 + 1 + 2;

	if (strlen(value) < length ||
		value[2] != '-' || value[35] != '-' || value[52] != '-' ||
		!is_hex(value, 2, true) || !is_hex(value + 3, 32, false) ||
		!is_hex(value + 36, 16, false) || !is_hex(value + 53, 2, true) ||
		strncmp(value, "ff", 2) == 0)
		return false;
	if (strncmp(value, "00", 2) == 0)
		return value[length] == '\0';
	return value[length] == '\0' || (value[length] == '-' && is_visible(value + length));
}

/* ---- what sessions set ---- */

/* assign hook: who set it may not have known the database's encoding */
static void
note_change(const char *newval, void *extra)
{
	obx_settings_verified = false;
}

void
obx_settings_verify(void)
{
	if (obx_correlation_id != NULL)
		obx_encoding_require(obx_correlation_id, "setting \"outbox.correlation_id\"");
	if (obx_headers != NULL)
		obx_encoding_require(obx_headers, "setting \"outbox.headers\"");
	obx_settings_verified = true;
}

static bool
check_traceparent(char **newval, void **extra, GucSource source)
{
	if (*newval == NULL || (*newval)[0] == '\0' || obx_settings_traceparent_is_valid(*newval))
		return true;
	GUC_check_errdetail("A W3C traceparent looks like \"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\".");
	GUC_check_errhint("Set one of that form, or nothing.");
	return false;
}

static bool
check_correlation_id(char **newval, void **extra, GucSource source)
{
	if (*newval == NULL || strlen(*newval) <= OBX_CORRELATION_MAX_LENGTH)
		return true;
	GUC_check_errdetail("It has %zu bytes, the limit is %d.", strlen(*newval),
						OBX_CORRELATION_MAX_LENGTH);
	GUC_check_errhint("Set an identifier, such as a UUID.");
	return false;
}

static bool
check_headers(char **newval, void **extra, GucSource source)
{
	const char *value = *newval;

	if (value == NULL || value[0] == '\0')
		return true;
	if (strlen(value) > OBX_HEADERS_MAX_LENGTH)
	{
		GUC_check_errdetail("They have %zu bytes, the limit is %d.", strlen(value),
							OBX_HEADERS_MAX_LENGTH);
		GUC_check_errhint("Put what is long into the event's data.");
		return false;
	}
	if (!obx_json_is_valid(*newval))
	{
		GUC_check_errdetail("It is not valid JSON.");
		GUC_check_errhint("Set a JSON object, like {\"tenant\": \"acme\"}, or nothing.");
		return false;
	}
	while (*value == ' ' || *value == '\t' || *value == '\n' || *value == '\r')
		value++;
	if (*value != '{')
	{
		GUC_check_errdetail("It is not a JSON object.");
		GUC_check_errhint("Set a JSON object, like {\"tenant\": \"acme\"}, or nothing.");
		return false;
	}
	return true;
}

static void
define_integer(const char *name, const char *description, int *variable,
			   int minimum, int maximum, int unit)
{
	DefineCustomIntVariable(name, description, NULL, variable, *variable,
							minimum, maximum, PGC_SUSET, unit, NULL, NULL, NULL);
}

static void
define_string(const char *name, const char *description, char **variable,
			  GucStringCheckHook check, GucShowHook show)
{
	DefineCustomStringVariable(name, description, NULL, variable, "",
							   PGC_USERSET, 0, check, note_change, show);
}

void
obx_settings_init(void)
{
	define_integer("outbox.max_workers",
				   "Sets how many dispatchers a database may have at a time.",
				   &obx_max_workers, 0, 1024, 0);
	define_integer("outbox.poll_interval",
				   "Sets how long a sequencer sleeps when no commit wakes it.",
				   &obx_poll_interval, 10, 3600 * 1000, GUC_UNIT_MS);
	define_integer("outbox.retention",
				   "Sets how long consumed events are kept; -1 is for ever.",
				   &obx_retention, -1, INT_MAX, GUC_UNIT_S);
	define_integer("outbox.max_retention",
				   "Sets after how long even events that a subscription still needs are dropped; -1 is never.",
				   &obx_max_retention, -1, INT_MAX, GUC_UNIT_S);
	define_integer("outbox.partition_interval",
				   "Sets how much time one partition of the log covers.",
				   &obx_partition_interval, 1, INT_MAX, GUC_UNIT_S);
	define_integer("outbox.idempotency_window",
				   "Sets for how long idempotency keys and once() remember.",
				   &obx_idempotency_window, 1, INT_MAX, GUC_UNIT_S);
	define_integer("outbox.max_timeout",
				   "Sets how long a call of any handler may take; -1 is as long as its subscription says.",
				   &obx_max_timeout, -1, INT_MAX, GUC_UNIT_MS);
	define_integer("outbox.max_depth",
				   "Sets how many causes may stand above an event.",
				   &obx_max_depth, 0, INT_MAX, 0);
	DefineCustomBoolVariable("outbox.strict_types",
							 "Sets whether only events of registered types may be emitted.",
							 NULL, &obx_strict_types, false, PGC_SUSET, 0, NULL, NULL, NULL);

	define_string("outbox.correlation_id",
				  "Sets the correlation id of the events emitted.",
				  &obx_correlation_id, check_correlation_id, show_correlation_id);
	define_string("outbox.traceparent",
				  "Sets the W3C trace context of the events emitted.",
				  &obx_traceparent, check_traceparent, show_traceparent);
	define_string("outbox.headers",
				  "Sets headers, a JSON object, of the events emitted.",
				  &obx_headers, check_headers, show_headers);

	MarkGUCPrefixReserved("outbox");
}
