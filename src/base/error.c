/*
 * Errors of PostgreSQL's own, on behalf of a user's mistake.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/error.h"

static bool
is_mistake(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_DATA_EXCEPTION:
		case ERRCODE_FEATURE_NOT_SUPPORTED:
		case ERRCODE_TO_CATEGORY(ERRCODE_SYNTAX_ERROR):
			return true;
		default:
			return false;
	}
}

void
obx_error_advise(MemoryContext context, const char *detail, const char *hint)
{
	ErrorData  *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	if (!is_mistake(error->sqlerrcode))
		PG_RE_THROW();
	/* they may have been made in the memory that goes with the error */
	if (error->detail == NULL)
		error->detail = pstrdup(detail);
	if (error->hint == NULL)
		error->hint = pstrdup(hint);
	FlushErrorState();
	ReThrowError(error);
}
