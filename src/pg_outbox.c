/*
 * The module's entry: what PostgreSQL calls when it loads the library.  Calls
 * each room's init in order and knows nothing else.
 */
#include "postgres.h"

#include "fmgr.h"

#include "base/clock.h"
#include "base/doorbell.h"
#include "base/hook.h"
#include "base/identity.h"
#include "base/listener.h"
#include "base/settings.h"
#include "base/waiter.h"
#include "capture/capture.h"
#include "catalog/names.h"
#include "dispatch/guest.h"
#include "log/immutable.h"
#include "subscription/restore.h"
#include "emit/append.h"
#include "emit/contract.h"
#include "emit/depth.h"
#include "log/bookmark.h"
#include "log/generation.h"
#include "log/partition.h"
#include "pull/undone.h"
#include "subscription/retention_floor.h"
#include "worker/worker.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	obx_clock_init();
	obx_settings_init();
	obx_hook_init();
	obx_identity_init();
	obx_doorbell_init();
	obx_waiter_init();
	obx_listener_init();
	obx_names_init();
	obx_append_init();
	obx_contract_init();
	obx_depth_init();
	obx_partition_init();
	obx_generation_init();
	obx_bookmark_init();
	obx_immutable_init();
	obx_retention_floor_init();
	obx_guest_init();
	obx_undone_init();
	obx_restore_init();
	obx_capture_init();
	obx_worker_init();
}
