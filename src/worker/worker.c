/*
 * Sets up what the processes need before they start: their shared memory, the
 * watchers of utility commands, and the launcher, which starts all others.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "postmaster/bgworker.h"

#include "worker/hold.h"
#include "worker/queue.h"
#include "worker/slot.h"
#include "worker/suspect.h"
#include "worker/utility.h"
#include "worker/worker.h"

#define RESTART_SECONDS 1

static void
register_launcher(void)
{
	BackgroundWorker worker = {0};

	snprintf(worker.bgw_name, BGW_MAXLEN, "pg_outbox launcher");
	snprintf(worker.bgw_type, BGW_MAXLEN, "pg_outbox launcher");
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "pg_outbox");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "obx_launcher_main");
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	/* never on a standby; at the end of recovery on one that is promoted */
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = RESTART_SECONDS;
	RegisterBackgroundWorker(&worker);
}

void
obx_worker_init(void)
{
	obx_utility_init_reassign();
	if (!process_shared_preload_libraries_in_progress)
		return;

	obx_slot_init();
	obx_queue_init();
	obx_suspect_init();
	obx_hold_init();
	obx_utility_init();

	/* pg_upgrade must find nobody at work */
	if (!IsBinaryUpgrade)
		register_launcher();
}
