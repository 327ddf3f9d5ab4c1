/*
 * The text that to_jsonb() makes of a date or a time.
 *
 * Rows that are written together often have the same time, as now() gives it,
 * or the same date; so the last one's text is kept.  And rows that are written
 * one after the other have times of the same minute, whose texts differ in the
 * seconds only, unless the zone's offset changes within it.  So the rest of the
 * text is kept as well, and the seconds are written anew.
 *
 * OBX_PLAIN leaves each new value to PostgreSQL.
 */
#include "postgres.h"

#include <ctype.h>

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "capture/date_text.h"

static void
encode(ObxDateText *last, Datum value, Oid type)
{
	last->length = 0;
	JsonEncodeDateTime(last->string, value, type, NULL);
	last->length = strlen(last->string);
}

#ifndef OBX_PLAIN

/* How a time ends up in the text: "T", hours, minutes, seconds. */
#define HOURS_AND_MINUTES	strlen("T00:00:")

static int
digit(const char *at)
{
	return *at - '0';
}

/* Finds the minute of the value that was encoded; infinite ones have none. */
static void
note_minute(ObxDateText *last)
{
	const char *begin = strchr(last->string, 'T');
	const char *end;
	int64		elapsed;

	last->shared = false;
	last->seconds = 0;
	if (begin == NULL)
		return;
	begin += HOURS_AND_MINUTES;
	end = begin + 2;
	elapsed = (10 * digit(begin) + digit(begin + 1)) * USECS_PER_SEC;
	if (*end == '.')
	{
		int64		weight = USECS_PER_SEC;

		for (end++; isdigit((unsigned char) *end); end++)
			elapsed += digit(end) * (weight /= 10);
	}
	last->minute = last->value - elapsed;
	last->seconds = begin - last->string;
	last->rest = last->string + last->length - end;
}

/* Does the zone keep its offset through the minute? */
static bool
is_shared(const ObxDateText *last, Oid type)
{
	pg_time_t	begin;
	pg_time_t	boundary;
	long int	before;
	long int	after;
	int			is_dst;

	if (type == TIMESTAMPOID)
		return true;
	/* all offsets are whole seconds, so a minute begins with one */
	begin = timestamptz_to_time_t(last->minute);
	return pg_next_dst_boundary(&begin, &before, &is_dst, &boundary, &after, &is_dst, last->zone) == 0 ||
		boundary > begin + SECS_PER_MINUTE;
}

/* Writes the seconds anew, and what is behind them after them. */
static void
set_seconds(ObxDateText *last, int64 value)
{
	uint32		elapsed = value - last->minute;
	uint32		fraction = elapsed % USECS_PER_SEC;
	char		rest[MAXDATELEN + 1];
	char	   *out = last->string + last->seconds;

	memcpy(rest, last->string + last->length - last->rest, last->rest);
	out = pg_ultostr_zeropad(out, elapsed / USECS_PER_SEC, 2);
	if (fraction != 0)
	{
		*out++ = '.';
		out = pg_ultostr_zeropad(out, fraction, 6);
		while (out[-1] == '0')
			out--;
	}
	memcpy(out, rest, last->rest);
	last->length = out + last->rest - last->string;
	last->value = value;
}

/* Takes the text over from a time of the same minute; false if that is none. */
static bool
take_over(ObxDateText *last, int64 value, Oid type)
{
	/* infinite ones are so far away that the difference overflows */
	if (last->seconds == 0 || (uint64) value - (uint64) last->minute >= USECS_PER_MINUTE)
		return false;
	if (!last->shared)
		last->shared = is_shared(last, type);
	if (!last->shared)
		return false;
	set_seconds(last, value);
	return true;
}

#endif							/* OBX_PLAIN */

void
obx_date_text_set(ObxDateText *last, Datum datum, Oid type)
{
	int64		value = type == DATEOID ? DatumGetDateADT(datum) : DatumGetTimestamp(datum);

	if (last->length > 0 && last->zone == session_timezone)
	{
		if (last->value == value)
			return;
#ifndef OBX_PLAIN
		if (type != DATEOID && take_over(last, value, type))
			return;
#endif
	}
	encode(last, datum, type);
	last->value = value;
	last->zone = session_timezone;
#ifndef OBX_PLAIN
	if (type != DATEOID)
		note_minute(last);
#endif
}
