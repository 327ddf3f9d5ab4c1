/*
 * The text that to_jsonb() makes of a date or a time.
 */
#ifndef OBX_DATE_TEXT_H
#define OBX_DATE_TEXT_H

#include "pgtime.h"
#include "utils/datetime.h"

/* The text of one column's last value, and what the next one can have of it. */
typedef struct ObxDateText
{
	int64		value;
	const		pg_tz *zone;
	int			length;			/* 0: none yet */
	char		string[MAXDATELEN + 1];

	/* of a time: the minute it lies in, as the clock of its zone shows it */
	int64		minute;			/* when it began */
	bool		shared;			/* the texts of the minute's times differ in
								 * the seconds only */
	int			seconds;		/* their place in the text; 0: it has none */
	int			rest;			/* how much is behind them */
} ObxDateText;

/*
 * Makes last->string and last->length those of a date, timestamp or timestamptz.
 * The struct begins with all zeroes and serves one type.
 */
extern void obx_date_text_set(ObxDateText *last, Datum value, Oid type);

#endif							/* OBX_DATE_TEXT_H */
