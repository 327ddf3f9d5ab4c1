/*
 * Registering event types, with their contracts.
 *
 * Only members of the role that registered a type may change or remove it.  That
 * is checked before the log is searched, for a quick answer, and again under the
 * lock that registrations take.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/acl.h"

#include "emit/append.h"
#include "emit/contract.h"
#include "emit/registration.h"

/* The type's newest events are found among so many of all types. */
#define SEARCHED_EVENTS 1000000

static void
check_registrar(const char *name)
{
	const ObxRegisteredType *type = obx_registered_type_find(name);

	if (type != NULL && !has_privs_of_role(GetUserId(), type->registered_by))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be a member of the role that registered event type \"%s\"",
						type->type),
				 errdetail("It was registered by role \"%s\".",
						   GetUserNameFromId(type->registered_by, true)),
				 errhint("Run the command as that role, or as a member of it.")));
}

int64
obx_registration_store(ObxRegisteredType *type)
{
	int64		breaches = 0;

	check_registrar(type->type);
	if (type->contract != NULL)
	{
		type->expression = obx_contract_qualify(type->type, type->contract);
		obx_append_flush();
		breaches = obx_contract_count_breaches(type, OBX_REGISTRATION_CHECKED, SEARCHED_EVENTS);
	}

	obx_registered_type_lock();
	check_registrar(type->type);
	obx_registered_type_put(type);
	return breaches;
}

void
obx_registration_remove(const char *type)
{
	check_registrar(type);
	obx_registered_type_lock();
	check_registrar(type);
	if (!obx_registered_type_delete(type))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("event type \"%s\" is not registered", type),
				 errdetail("No outbox.register_type() was committed for it, or it was removed."),
				 errhint("The view outbox.event_type lists the registered types.")));
}
