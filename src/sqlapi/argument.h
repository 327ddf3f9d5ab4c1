/*
 * Checking the arguments of SQL functions.
 */
#ifndef OBX_ARGUMENT_H
#define OBX_ARGUMENT_H

#include "fmgr.h"

#include "datatype/timestamp.h"

#include "catalog/subscription.h"

/*
 * If the argument is NULL, it is set to the default that the function declares
 * for it; ereport(22004) if that is none.
 */
extern void obx_argument_require(FunctionCallInfo fcinfo, int number, const char *name);

/* A text argument as a C string; NULL for NULL. */
extern char *obx_argument_text(FunctionCallInfo fcinfo, int number);

/* An expression, which processes compile: of bounded length, or NULL. */
extern char *obx_argument_expression(FunctionCallInfo fcinfo, int number, const char *name);

/* A text argument that must not be NULL. */
extern char *obx_argument_require_text(FunctionCallInfo fcinfo, int number, const char *name);

/* One of a few words, by its index. */
extern int	obx_argument_require_word(FunctionCallInfo fcinfo, int number, const char *name,
									  const char *const *words, int nwords);

/* A bigint or integer argument that must lie in a range. */
extern int64 obx_argument_require_number(FunctionCallInfo fcinfo, int number, const char *name,
										 bool is_bigint, int64 min, int64 max);

/* An array of patterns, NULL-free, not empty. */
extern char **obx_argument_require_patterns(FunctionCallInfo fcinfo, int number,
											const char *name, int *count);

/* An interval, not negative, in microseconds. */
extern int64 obx_argument_require_interval(FunctionCallInfo fcinfo, int number,
										   const char *name);

/* A timestamp that the user has written; this is said where it is none. */
extern TimestampTz obx_argument_parse_time(const char *text, const char *detail,
										   const char *hint);

/* The subscription named by the first argument; the caller must be a member of its owner. */
extern ObxSubscription *obx_argument_require_subscription(FunctionCallInfo fcinfo);

/* One of that name which must be for pulling; "function" names who asks. */
extern ObxSubscription *obx_argument_require_pull(const char *name, const char *function);

/*
 * Likewise, for functions that change it or its lanes: nobody else does until
 * the transaction ends.  The argument may have another name.
 */
extern ObxSubscription *obx_argument_lock_subscription(FunctionCallInfo fcinfo,
													   const char *name);

/* Refuses a function that moves lanes, in a handler whose lane it would move. */
extern void obx_argument_refuse_inside(const ObxSubscription *subscription,
									   const char *function);

#endif							/* OBX_ARGUMENT_H */
