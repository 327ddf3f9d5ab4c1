/*
 * Registering event types, with their contracts.
 */
#ifndef OBX_REGISTRATION_H
#define OBX_REGISTRATION_H

#include "catalog/registered_type.h"

/* A new contract is compared with so many of the type's newest events at most. */
#define OBX_REGISTRATION_CHECKED 1000

/*
 * Registers the type, or replaces its row, for the current user; fills in the
 * qualified contract.  Returns how many of the events compared breach it.
 */
extern int64 obx_registration_store(ObxRegisteredType *type);

/* An error if the type is not registered. */
extern void obx_registration_remove(const char *type);

#endif							/* OBX_REGISTRATION_H */
