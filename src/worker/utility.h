/*
 * Utility commands that concern the workers.
 */
#ifndef OBX_UTILITY_H
#define OBX_UTILITY_H

/* From _PG_init, only where the library is preloaded. */
extern void obx_utility_init(void);

/*
 * From _PG_init, preloaded or not: lets subscriptions follow REASSIGN OWNED,
 * for which PostgreSQL fires no event trigger.
 */
extern void obx_utility_init_reassign(void);

#endif							/* OBX_UTILITY_H */
