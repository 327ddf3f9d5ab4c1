/*
 * Shared by all worker processes: their session, their waits, their errors.
 */
#ifndef OBX_PROCESS_H
#define OBX_PROCESS_H

#include "datatype/timestamp.h"
#include "utils/palloc.h"

#include "base/compat.h"

/* Signals, then the connection of our slot; "activity" is shown meanwhile. */
extern void obx_process_connect(Oid database, Oid owner, const char *application);

/* Settings that a database or a role may have and we cannot work under. */
extern void obx_process_override_settings(bool synchronous);

/*
 * Top of every loop: resets the latch, serves interrupts, reads the files of
 * settings again if asked.  Ends the process quietly when it was terminated.
 */
extern void obx_process_check(void);

/* Bottom of every loop: sleeps until woken, or until that time. */
extern void obx_process_wait(TimestampTz until);

/* Ends this worker for that reason (an ObxExit), without a word in the log. */
pg_noreturn extern void obx_process_leave(int reason);

typedef enum ObxInstalled
{
	OBX_INSTALLED,
	OBX_INSTALLED_NOT,
	OBX_INSTALLED_ANOTHER,		/* it was dropped and created again since this
								 * process began, which must leave */
	OBX_INSTALLED_CHANGING		/* someone is about to drop it, or it is of
								 * another version: ask again soon */
} ObxInstalled;

/*
 * In a transaction that has just begun: whether the extension is here, and for
 * the rest of the transaction will be.  Waits for nobody.
 */
extern ObxInstalled obx_process_lock_extension(void);

/* A step that fails again and again is reported once in full, then counted. */
typedef struct ObxFailures
{
	const char *what;			/* "could not ..." */
	int			count;			/* in a row */
	int			sqlstate;		/* of the last */
	TimestampTz retry_at;		/* 0 unless it failed last time */
} ObxFailures;

/*
 * Runs step(arg) in a transaction of its own; false if it failed, which is
 * reported, and the time to try again is in failures->retry_at.
 */
extern bool obx_process_run(void (*step) (void *), void *arg, ObxFailures *failures);

/*
 * In PG_CATCH: reports the error if it is news, aborts the transaction and
 * returns to that memory context.
 */
extern void obx_process_recover(ObxFailures *failures, MemoryContext context);

#endif							/* OBX_PROCESS_H */
