/*
 * The CPU time of this process: what work costs where the clock would also
 * count waiting.
 */
#include "postgres.h"

#include <sys/resource.h>

#include "base/cpu.h"

int64
obx_cpu_time(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * INT64CONST(1000000) +
		usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}
