/*
 * Slots: which worker processes there are, and what was asked of them.
 *
 * The process that starts a worker claims a slot for it; the worker attaches
 * to it, and its exit callback marks it as exited.  The process that starts
 * workers of that kind (the launcher for sequencers, the sequencer for
 * dispatchers) frees it, so that no exit goes unseen, also when that process
 * restarts in between.
 *
 *     FREE -> STARTING -> IDLE <-> BUSY -> EXITED -> FREE
 *                 \______________________/^
 *
 * Every field is read and written under obx_slots->lock, but as noted.
 */
#ifndef OBX_SLOT_H
#define OBX_SLOT_H

#include "datatype/timestamp.h"
#include "postmaster/bgworker.h"
#include "storage/lwlock.h"

typedef enum ObxRole
{
	OBX_ROLE_LAUNCHER,
	OBX_ROLE_SEQUENCER,
	OBX_ROLE_DISPATCHER
} ObxRole;

typedef enum ObxSlotState
{
	OBX_SLOT_FREE,
	OBX_SLOT_STARTING,			/* asked of the postmaster, not there yet */
	OBX_SLOT_IDLE,
	OBX_SLOT_BUSY,
	OBX_SLOT_EXITED				/* gone; "exit" says why */
} ObxSlotState;

typedef enum ObxExit
{
	OBX_EXIT_FAILED,			/* died, or was terminated */
	OBX_EXIT_REFUSED,			/* never got its connection */
	OBX_EXIT_LEFT,				/* was asked to, or had nothing to do */
	OBX_EXIT_GAVE_WAY,			/* sequencer: others needed its process more */
	OBX_EXIT_NOT_INSTALLED		/* sequencer: no extension in its database */
} ObxExit;

/* Rising urgency: a request never replaces a more urgent one. */
typedef enum ObxLeave
{
	OBX_LEAVE_NOT,
	OBX_LEAVE_ROOM,				/* sequencer: after its round, until its
								 * database needs one again */
	OBX_LEAVE_TURN,				/* another owner or database waits: after a
								 * turn */
	OBX_LEAVE_NOW				/* between two events */
} ObxLeave;

typedef struct ObxSlot
{
	uint32		generation;		/* counts claims; a worker knows its own */
	ObxRole		role;
	ObxSlotState state;
	ObxLeave	leave;			/* also read without the lock by the worker */
	TimestampTz leave_since;	/* when that was asked */
	ObxExit		exit;
	bool		connected;		/* got its connection */
	Oid			database;
	Oid			owner;			/* dispatchers */
	pid_t		pid;			/* 0 unless attached */
	int			procno;			/* valid while pid is */
	TimestampTz since;			/* of this state */
	TimestampTz attached_at;

	/* dispatchers */
	int32		subscription;	/* of the lane it serves, 0 between two */
	int32		lane;
	bool		cheap;			/* that is a cheap one */
	TimestampTz claimed_at;		/* since when it serves it */
	volatile int64 under_way;	/* position that it calls for, or as told to
								 * ObxWatcherNote; 0 for none; written by the
								 * worker without the lock */

	/* sequencers */
	int64		head;			/* last position given */
	uint64		progress;		/* counts passes that did something */
	TimestampTz wakes_at;		/* sleeps until then; DT_NOEND: at work */
	TimestampTz needed_at;		/* nothing is due before, whoever rings */
	TimestampTz worked_at;		/* gave positions last */
	TimestampTz waits_since;	/* its database was waiting for it since then
								 * and is not served yet; 0 for not */
	TimestampTz starved_since;	/* found no worker process, 0 if it did */
	TimestampTz starved_tried;	/* tried last */
} ObxSlot;

/* Databases without a sequencer for want of a worker process, as far as they fit. */
#define OBX_STARVED 1024

typedef struct ObxStarved
{
	Oid			database;		/* InvalidOid: free */
	TimestampTz since;
} ObxStarved;

/* Owners for which no worker could connect, as many as fit. */
#define OBX_REFUSED 256

typedef struct ObxRefused
{
	Oid			database;		/* InvalidOid: free */
	Oid			owner;
	TimestampTz since;
} ObxRefused;

/* Databases that someone is about to drop, copy or rename. */
#define OBX_HOLDS 64

typedef struct ObxHold
{
	Oid			database;		/* InvalidOid: free */
	pid_t		pid;			/* whose transaction it is */
} ObxHold;

typedef struct ObxSlots
{
	LWLock	   *lock;			/* protects slots, holds, and lanes */
	TimestampTz dispatch_from;	/* no dispatchers before: set after crashes */
	pid_t		launcher_pid;	/* 0 while there is none */
	TimestampTz launcher_since;
	TimestampTz launcher_starved_since; /* as in a sequencer's slot */
	TimestampTz launcher_starved_tried;
	uint32		openings;		/* counts workers that have gone, or have
								 * nothing to do any more */
	TimestampTz left_at;		/* when the last one has gone */
	TimestampTz scarce_at;		/* when there was no free process last */
	ObxHold		holds[OBX_HOLDS];
	ObxStarved	starved[OBX_STARVED];
	ObxRefused	refused[OBX_REFUSED];
	int			nslots;			/* never changes */
	ObxSlot		slots[FLEXIBLE_ARRAY_MEMBER];
} ObxSlots;

/* NULL where the library is not preloaded; and our own slot, in a worker. */
extern ObxSlots *obx_slots;
extern ObxSlot *obx_slot_own;

extern void obx_slot_init(void);

/* From here on, "locked" means: the caller holds obx_slots->lock, exclusively. */
#define ObxAssertLocked() Assert(LWLockHeldByMeInMode(obx_slots->lock, LW_EXCLUSIVE))
#define ObxAssertShared() Assert(LWLockHeldByMe(obx_slots->lock))

/*
 * Moves a slot along the arrows above; from BUSY to BUSY, too, since a worker
 * that attaches is BUSY before its first round.  Locked.
 */
extern void obx_slot_set_state(ObxSlot *slot, ObxSlotState state);

/*
 * Starts a worker and returns its slot's index; -1 when there is no free
 * worker process, which is not reported.  "waits_since" is a sequencer's.  Not
 * locked.
 */
extern int	obx_slot_start(ObxRole role, Oid database, Oid owner, TimestampTz waits_since);

/*
 * Marks what we started and the postmaster could not start as exited.  Not
 * locked.
 */
extern void obx_slot_reap(void);

/* Frees a slot; whoever comes late to attach to it is turned away.  Locked. */
extern void obx_slot_free(ObxSlot *slot);

/*
 * First thing in a worker: takes the slot that it was started for.  Ends the
 * process when it is not wanted any more.
 */
extern void obx_slot_attach(ObxRole role);

/* In a worker: why it will exit, unless something happens before. */
extern void obx_slot_set_exit(ObxExit exit);

/* In a worker: it has its connection and is ready to work. */
extern void obx_slot_set_connected(void);

/*
 * In a sequencer: begins a round of work; ends it, to sleep until "wakes_at",
 * though all that is due may wait until "needed_at".
 */
extern void obx_slot_begin_round(void);
extern void obx_slot_end_round(TimestampTz wakes_at, TimestampTz needed_at, bool worked);

/*
 * Notes that the database has no sequencer for want of a worker process since
 * then, 0 for that it has one or needs none; and since when that is so.
 * Locked; the second one shared, too.
 */
extern void obx_slot_set_starved(Oid database, TimestampTz since);
extern TimestampTz obx_slot_starved_since(Oid database);

/* True for a slot with a process, or one to come.  Locked or shared. */
extern bool obx_slot_is_live(const ObxSlot *slot);

/* Finds the live sequencer of a database, or NULL.  Locked or shared. */
extern ObxSlot *obx_slot_find_sequencer(Oid database);

/*
 * In a sequencer: shows in outbox.worker that no worker can connect as the
 * owner, since then, or (0) that one can; InvalidOid for all owners.  Not
 * locked.
 */
extern void obx_slot_show_refused(Oid owner, TimestampTz since);

/* Somebody may find a worker process now: wakes those who wait.  Locked. */
extern void obx_slot_tell_of_opening(void);

/* Sets the latch of a slot's process, if it has one.  Locked or shared. */
extern void obx_slot_wake(const ObxSlot *slot);

/* Asks a worker to leave, and wakes it.  Locked. */
extern void obx_slot_ask_to_leave(ObxSlot *slot, ObxLeave leave);

/* True when a transaction holds workers off that database.  Locked or shared. */
extern bool obx_slot_is_held(Oid database);

/* Registered by the lanes: what becomes of the lane of a worker that ends. */
extern void (*obx_slot_at_exit) (void);

#endif							/* OBX_SLOT_H */
