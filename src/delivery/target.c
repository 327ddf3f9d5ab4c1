/*
 * What the targets of all kinds have in common.
 */
#include "postgres.h"

#include "access/table.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "catalog/names.h"
#include "delivery/target.h"

void
obx_target_init(ObxTarget *target, const ObxSubscription *subscription)
{
	Relation	log = table_open(obx_object_require(OBX_EVENT), AccessShareLock);

	target->subscription = subscription;
	target->runs_code = true;
	target->tupdesc = CreateTupleDescCopy(RelationGetDescr(log));
	table_close(log, AccessShareLock);
}
