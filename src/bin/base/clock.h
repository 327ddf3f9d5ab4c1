/*
 * Time that does not jump, durations as people write them, and waiting longer
 * and longer.
 */
#ifndef OBX_BIN_CLOCK_H
#define OBX_BIN_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define OBX_MILLISECOND INT64_C(1000)
#define OBX_SECOND		INT64_C(1000000)
#define OBX_FOREVER		INT64_MAX

/* Microseconds since some moment; no clock that is set changes it. */
extern int64_t obx_now(void);

/* "20ms", "30s", "5min", "1h"; false for anything else. */
extern bool obx_duration_parse(const char *text, int64_t * duration);

/* What was tried in vain is tried again later, and then later still. */
typedef struct ObxBackoff
{
	int			failures;
	int64_t		until;			/* not before; 0: at once */
} ObxBackoff;

/* From 100 ms to 30 s, shortened by chance, so that many do not come at once. */
extern void obx_backoff_fail(ObxBackoff *backoff);

/* For what only a person can repair: 10 to 30 s. */
extern void obx_backoff_refuse(ObxBackoff *backoff);
extern void obx_backoff_reset(ObxBackoff *backoff);
extern bool obx_backoff_is_over(const ObxBackoff *backoff);

#endif							/* OBX_BIN_CLOCK_H */
