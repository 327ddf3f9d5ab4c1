/*
 * The CPU time of this process.
 */
#ifndef OBX_CPU_H
#define OBX_CPU_H

/* In microseconds, since the process began. */
extern int64 obx_cpu_time(void);

#endif							/* OBX_CPU_H */
