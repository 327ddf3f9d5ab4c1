/*
 * Is the library preloaded, as workers need it?
 *
 * Without that, all works but the workers, and events wait without a word.  So
 * whoever makes the extension or a subscription is told; not where
 * outbox.max_workers says that nobody wants workers.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "base/compat.h"
#include "base/settings.h"
#include "sqlapi/preload.h"
#include "worker/slot.h"

PG_FUNCTION_INFO_V1(obx_sql_warn_without_workers);

const char *
obx_preload_hint(void)
{
	const char *libraries = GetConfigOption("shared_preload_libraries", true, false);

	/* which ones there are is not for everybody */
	if (libraries == NULL || libraries[0] == '\0')
		libraries = "";
	else if (!superuser())
		return "Add pg_outbox to shared_preload_libraries in postgresql.conf and restart the server, or CALL outbox.run().";
	return psprintf("Set shared_preload_libraries = '%s%spg_outbox' in postgresql.conf and restart the server, or CALL outbox.run().",
					libraries, libraries[0] == '\0' ? "" : ", ");
}

void
obx_preload_warn(void)
{
	if (obx_slots != NULL || obx_max_workers == 0)
		return;
	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 errmsg("no worker will deliver events: pg_outbox is not preloaded"),
			 errhint("%s", obx_preload_hint())));
}

/*
 * warn_without_workers(), for the install script
 */
Datum
obx_sql_warn_without_workers(PG_FUNCTION_ARGS)
{
	obx_preload_warn();
	PG_RETURN_VOID();
}
