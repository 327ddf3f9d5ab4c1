/*
 * Limits on the contents of an event, and expressions over its columns.
 *
 * Knows the columns; must not know who emits or who reads.
 */
#include "postgres.h"

#include "access/table.h"
#include "parser/parse_relation.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "base/settings.h"
#include "catalog/names.h"
#include "log/event.h"

static void
check_length(const char *what, int length, int limit)
{
	if (length > limit)
		ereport(ERROR,
				(errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
				 errmsg("event %s is too long", what),
				 errdetail("It has %d bytes, the limit is %d.", length, limit),
				 errhint("Put what is long into the event's data.")));
}

void
obx_event_check_type(const char *type, int length)
{
	if (length == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("event type must not be empty"),
				 errdetail("A type has 1 to %d bytes.", OBX_TYPE_MAX_LENGTH),
				 errhint("Name what happened, such as OrderPlaced.")));
	check_length("type", length, OBX_TYPE_MAX_LENGTH);
	if (memchr(type, '*', length) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("event type \"%.*s\" must not contain \"*\"", length, type),
				 errdetail("In the patterns of a subscription \"*\" stands for any run of characters."),
				 errhint("Choose a type without \"*\".")));
}

void
obx_event_check_source(const char *source, int length)
{
	check_length("source", length, OBX_SOURCE_MAX_LENGTH);
}

void
obx_event_check_key(const char *key, int length)
{
	check_length("key", length, OBX_KEY_MAX_LENGTH);
}

void
obx_event_check_correlation(int length)
{
	check_length("correlation id", length, OBX_CORRELATION_MAX_LENGTH);
}

void
obx_event_check_headers(int length)
{
	if (length > OBX_HEADERS_MAX_LENGTH)
		ereport(ERROR,
				(errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
				 errmsg("event headers are too long"),
				 errdetail("They have %d bytes, the limit is %d.", length, OBX_HEADERS_MAX_LENGTH),
				 errhint("Put what is long into the event's data.")));
}

Node *
obx_event_analyze(const char *text, const ObxExpressionKind *kind, Oid owner)
{
	ParseState *pstate = make_parsestate(NULL);
	Relation	log = table_open(obx_object_require(OBX_EVENT), AccessShareLock);
	Node	   *expression;

	addNSItemToQuery(pstate,
					 addRangeTableEntryForRelation(pstate, log, AccessShareLock, NULL,
												   false, false),
					 false, true, true);
	expression = obx_expression_analyze(pstate, text, kind, owner);
	table_close(log, AccessShareLock);
	return expression;
}
