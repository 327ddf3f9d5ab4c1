/*
 * What the program says on stderr, and how it ends.
 */
#ifndef OBX_BIN_LOG_H
#define OBX_BIN_LOG_H

/* Exit codes, which scripts and systemd rely on. */
typedef enum ObxExit
{
	OBX_EXIT_OK = 0,
	OBX_EXIT_ERROR = 1,			/* usage, configuration, or the server said no */
	OBX_EXIT_DATABASE = 2,		/* no connection, or it was lost */
	OBX_EXIT_REFUSED = 3,		/* relay: the sink refuses what it is given */
	OBX_EXIT_PROGRESS = 4		/* relay: the sink's progress contradicts the
								 * log */
} ObxExit;

/* With the time in front, for a program that runs for long. */
extern void obx_log_with_time(void);

extern void obx_log(const char *format,...) __attribute__((format(printf, 1, 2)));
extern void obx_warn(const char *format,...) __attribute__((format(printf, 1, 2)));
extern void obx_error(const char *format,...) __attribute__((format(printf, 1, 2)));
extern void obx_die(ObxExit code, const char *format,...)
			__attribute__((format(printf, 2, 3), noreturn));

#endif							/* OBX_BIN_LOG_H */
