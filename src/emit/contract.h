/*
 * Contracts: conditions that the data of a type's events must fulfil.
 */
#ifndef OBX_CONTRACT_H
#define OBX_CONTRACT_H

#include "utils/jsonb.h"

#include "base/settings.h"
#include "catalog/registered_type.h"

/* From _PG_init. */
extern void obx_contract_init(void);

/* True once this session knows that no type is registered. */
extern bool obx_contract_none;

/*
 * ereport(ERROR) unless an event of this type (text) may have these data
 * (jsonb).  For the emitting code; the event is not in the log yet.
 */
extern void obx_contract_require(Datum type, Datum data);

static inline void
obx_contract_check(Datum type, Datum data)
{
	if (unlikely(!obx_contract_none || obx_strict_types))
		obx_contract_require(type, data);
}

/*
 * Returns the contract with all its names qualified, so that it means the same
 * in every session; ereports its faults.  Runs as the current user, in its
 * search_path.
 */
extern char *obx_contract_qualify(const char *type, const char *contract);

/*
 * How many of the newest events of the type, at most "limit" of them, do not
 * fit; those are looked for among the newest "among" events of the log.  The
 * caller has flushed what this transaction emits.
 */
extern int64 obx_contract_count_breaches(const ObxRegisteredType *type, int limit, int64 among);

#endif							/* OBX_CONTRACT_H */
