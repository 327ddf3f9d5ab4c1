/*
 * The settings outbox.*: see docs/settings.md for what each means.
 */
#ifndef OBX_SETTINGS_H
#define OBX_SETTINGS_H

extern int	obx_max_workers;
extern int	obx_poll_interval;	/* milliseconds */
extern int	obx_retention;		/* seconds, -1 for ever */
extern int	obx_max_retention;	/* seconds, -1 for ever */
extern int	obx_partition_interval; /* seconds */
extern int	obx_idempotency_window; /* seconds */
extern int	obx_max_depth;
extern int	obx_max_timeout;	/* milliseconds; 0 or -1: no limit */
extern bool obx_strict_types;

/* As the session set them; '' where it did not. */
/* Bytes, also of what is inherited and merged. */
#define OBX_CORRELATION_MAX_LENGTH 10000
#define OBX_HEADERS_MAX_LENGTH 1000000

extern char *obx_correlation_id;
extern char *obx_traceparent;
extern char *obx_headers;

/*
 * Are they text of the database's encoding?  The settings that a session
 * begins with are read before that is known.  Code that makes them part of an
 * event calls obx_settings_verify() first, which raises an error if they are
 * not.
 */
extern bool obx_settings_verified;
extern void obx_settings_verify(void);

/*
 * What SHOW says of the three above while they are ''.  The log's emission
 * context sets it, so that a handler sees what it inherits.
 */
typedef struct ObxInheritedSettings
{
	const char *correlation_id;
	const char *traceparent;
	const char *headers;
} ObxInheritedSettings;

extern void obx_settings_init(void);

/* Is it a W3C trace context? */
extern bool obx_settings_traceparent_is_valid(const char *value);

/* Keeps the pointers, not what they point to; NULL is for nothing inherited. */
extern void obx_settings_inherit(const ObxInheritedSettings *inherited);

#endif							/* OBX_SETTINGS_H */
