/*
 * Registering event types and their contracts.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "commands/trigger.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/identity.h"
#include "catalog/registered_type.h"
#include "emit/registration.h"
#include "log/event.h"
#include "sqlapi/argument.h"

PG_FUNCTION_INFO_V1(obx_sql_register_type);
PG_FUNCTION_INFO_V1(obx_sql_unregister_type);
PG_FUNCTION_INFO_V1(obx_sql_types_changed);

static char *
get_type(FunctionCallInfo fcinfo)
{
	char	   *type = obx_argument_require_text(fcinfo, 0, "type");

	obx_event_check_type(type, strlen(type));
	return type;
}

static void
report_breaches(const ObxRegisteredType *type, int64 breaches)
{
	if (breaches > 0)
		ereport(NOTICE,
				(errmsg_plural("%lld event of type \"%s\" breaches the contract",
							   "%lld events of type \"%s\" breach the contract",
							   (unsigned long) breaches, (long long) breaches, type->type),
				 errdetail("Its newest events were looked at, %d at most.", OBX_REGISTRATION_CHECKED),
				 errhint("They stay, and so does the contract: subscribers meet both.")));
}

/* Without the white space around it. */
static char *
get_contract(FunctionCallInfo fcinfo)
{
	static const char space[] = " \t\r\n";
	char	   *contract = obx_argument_expression(fcinfo, 1, "contract");
	int			length;

	if (contract == NULL)
		return NULL;
	contract += strspn(contract, space);
	for (length = strlen(contract); length > 0 && strchr(space, contract[length - 1]); length--)
		contract[length - 1] = '\0';
	return contract;
}

/*
 * register_type(type, contract, description): returns how many of the newest
 * events of the type breach the contract.
 */
Datum
obx_sql_register_type(PG_FUNCTION_ARGS)
{
	ObxRegisteredType type = {
		.registered_by = GetUserId(),
		.registered_at = GetCurrentTimestamp()
	};
	int64		breaches;

	PreventCommandIfReadOnly("outbox.register_type()");
	type.type = get_type(fcinfo);
	type.contract = get_contract(fcinfo);
	type.description = obx_argument_text(fcinfo, 2);
	/* the functions that the contract calls look names up where they do now */
	type.search_path = obx_identity_path(namespace_search_path);
	breaches = obx_registration_store(&type);
	report_breaches(&type, breaches);
	PG_RETURN_INT64(breaches);
}

/*
 * unregister_type(type)
 */
Datum
obx_sql_unregister_type(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("outbox.unregister_type()");
	obx_registration_remove(get_type(fcinfo));
	PG_RETURN_VOID();
}

/*
 * Trigger on outbox.registered_type, for what a restore writes to it.
 */
Datum
obx_sql_types_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("outbox.types_changed() can only be called as a trigger"),
				 errhint("The extension has made the trigger that calls it.")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	PG_RETURN_POINTER(NULL);
}
