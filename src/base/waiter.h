/*
 * Sessions that wait for something new to pull: how they are woken.
 */
#ifndef OBX_WAITER_H
#define OBX_WAITER_H

/* From _PG_init: shared memory and the transaction callback. */
extern void obx_waiter_init(void);

/*
 * The session is woken, by its latch, whenever there may be something new in
 * its database, until it leaves; false where nobody could: without preload,
 * or where too many wait.
 */
extern bool obx_waiter_enter(void);
extern void obx_waiter_leave(void);

/* Wakes all who wait in our database; costs one look where nobody does. */
extern void obx_waiter_wake(void);

/* Likewise when the current transaction ends, however it does. */
extern void obx_waiter_arm(void);

#endif							/* OBX_WAITER_H */
