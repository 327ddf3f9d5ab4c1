/*
 * A row's ordering key: the text of its key columns.
 *
 * Several columns are joined by commas.  A text that has a comma in it, or
 * begins with a quote, stands in quotes, with its own quotes doubled: so what
 * begins with a quote ends with one, and everything else ends at a comma, and
 * no two rows share a key.  The text of a single column is taken as it is.
 *
 * Two sessions that write the same entity must give it the same key, or its
 * events lose their order.  But the text of dates, intervals, floats, bytea
 * and more depends on settings (DateStyle, TimeZone, extra_float_digits ...).
 * So common types are written here, without asking a setting, and the output
 * functions of all others are called with the settings pinned.  Pinning costs
 * some microseconds, which rare types can bear.
 *
 * Knows types; must not know rules, triggers, events.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/compat.h"
#include "base/encoding.h"
#include "capture/key.h"

typedef struct KeyColumn
{
	AttrNumber	attnum;
	Oid			type;			/* base type */
	bool		pinned;			/* output depends on settings, for all we know */
	bool		quotable;		/* its text may have to be quoted among others */
	FmgrInfo	output;
} KeyColumn;

struct ObxKey
{
	int			count;
	bool		pinned;			/* any of the columns */
	KeyColumn	columns[FLEXIBLE_ARRAY_MEMBER];
};

/* What output functions look at. */
static const struct
{
	const char *name;
	const char *value;
}			pinned_settings[] = {
	{"bytea_output", "hex"},
	{"datestyle", "ISO, YMD"},
	{"extra_float_digits", "1"},
	{"intervalstyle", "postgres"},
	{"lc_monetary", "C"},
	{"search_path", "pg_catalog"},
	{"timezone", "UTC"},
	{"xmlbinary", "base64"},
};

/* Is the type's text the same under all settings? */
static bool
is_settled(Oid type)
{
	switch (type)
	{
		case BOOLOID:
		case CHAROID:
		case NAMEOID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case OIDOID:
		case NUMERICOID:
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case UUIDOID:
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
		case INETOID:
		case CIDROID:
		case MACADDROID:
		case BITOID:
		case VARBITOID:
			return true;
		default:
			return type_is_enum(type);
	}
}

/* Can the type's text have a comma or a quote in it? */
static bool
is_quotable(Oid type)
{
	switch (type)
	{
		case BOOLOID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case OIDOID:
		case NUMERICOID:
		case UUIDOID:
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return false;
		default:
			return true;
	}
}

ObxKey *
obx_key_create(TupleDesc tupdesc, const AttrNumber *columns, int count)
{
	ObxKey	   *key = palloc0(offsetof(ObxKey, columns) + count * sizeof(KeyColumn));

	key->count = count;
	for (int i = 0; i < count; i++)
	{
		KeyColumn  *column = &key->columns[i];
		Oid			output;
		bool		is_varlena;

		column->attnum = columns[i];
		column->type = getBaseType(TupleDescAttr(tupdesc, columns[i] - 1)->atttypid);
		column->pinned = !is_settled(column->type);
		key->pinned |= column->pinned;
		column->quotable = count > 1 && is_quotable(column->type);
		getTypeOutputInfo(column->type, &output, &is_varlena);
		fmgr_info(output, &column->output);
	}
	return key;
}

/* As date_out() and the others write under DateStyle ISO and TimeZone UTC. */
static void
append_date(StringInfo out, DateADT date)
{
	char		buffer[MAXDATELEN + 1];
	struct pg_tm tm;

	if (DATE_NOT_FINITE(date))
		EncodeSpecialDate(date, buffer);
	else
	{
		j2date(date + POSTGRES_EPOCH_JDATE, &tm.tm_year, &tm.tm_mon, &tm.tm_mday);
		EncodeDateOnly(&tm, USE_ISO_DATES, buffer);
	}
	appendStringInfoString(out, buffer);
}

static void
append_timestamp(StringInfo out, Timestamp timestamp, bool with_zone)
{
	char		buffer[MAXDATELEN + 1];
	struct pg_tm tm;
	fsec_t		fsec;

	if (TIMESTAMP_NOT_FINITE(timestamp))
		EncodeSpecialTimestamp(timestamp, buffer);
	else if (timestamp2tm(timestamp, NULL, &tm, &fsec, NULL, NULL) == 0)
	{
		/* no zone is shown where it is not known whether it has summer time */
		tm.tm_isdst = 0;
		EncodeDateTime(&tm, fsec, with_zone, 0, NULL, USE_ISO_DATES, buffer);
	}
	else
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	appendStringInfoString(out, buffer);
}

static void
append_column(StringInfo out, KeyColumn *column, Datum value)
{
	int			start = out->len;

	switch (column->type)
	{
		case INT2OID:
			appendStringInfo(out, "%d", DatumGetInt16(value));
			return;
		case INT4OID:
			enlargeStringInfo(out, 12);
			out->len += obx_ltoa(DatumGetInt32(value), out->data + out->len);
			return;
		case INT8OID:
			enlargeStringInfo(out, 24);
			out->len += obx_lltoa(DatumGetInt64(value), out->data + out->len);
			return;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			{
				struct varlena *string = PG_DETOAST_DATUM_PACKED(value);

				appendBinaryStringInfo(out, VARDATA_ANY(string),
									   VARSIZE_ANY_EXHDR(string));
				return;
			}
		case DATEOID:
			append_date(out, DatumGetDateADT(value));
			return;
		case TIMESTAMPOID:
			append_timestamp(out, DatumGetTimestamp(value), false);
			return;
		case TIMESTAMPTZOID:
			append_timestamp(out, DatumGetTimestampTz(value), true);
			return;
		default:
			appendStringInfoString(out, OutputFunctionCall(&column->output, value));
			obx_encoding_require(out->data + start, "a column of the key");
			return;
	}
}

/* Puts what was appended from "start" on into quotes, if it needs them. */
static void
quote_column(StringInfo out, int start)
{
	int			length = out->len - start;
	char	   *text;

	if (out->data[start] != '"' && memchr(out->data + start, ',', length) == NULL)
		return;
	text = pnstrdup(out->data + start, length);

	out->len = start;
	appendStringInfoChar(out, '"');
	for (const char *c = text; *c != '\0'; c++)
	{
		if (*c == '"')
			appendStringInfoChar(out, '"');
		appendStringInfoChar(out, *c);
	}
	appendStringInfoChar(out, '"');
	pfree(text);
}

int
obx_key_pin_settings(void)
{
	int			level = NewGUCNestLevel();

	for (int i = 0; i < lengthof(pinned_settings); i++)
		(void) set_config_option(pinned_settings[i].name, pinned_settings[i].value,
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
								 true, 0, false);
	return level;
}

text *
obx_key_encode(ObxKey *key, const Datum *values, const bool *nulls)
{
	StringInfoData buffer;
	int			level = 0;

	for (int i = 0; i < key->count; i++)
		if (nulls[key->columns[i].attnum - 1])
			return NULL;

	/* the text's length word goes in front */
	buffer.maxlen = 64;
	buffer.data = palloc(buffer.maxlen);
	buffer.len = VARHDRSZ;
	buffer.cursor = 0;

	/* an error restores the settings with its transaction */
	if (key->pinned)
		level = obx_key_pin_settings();
	for (int i = 0; i < key->count; i++)
	{
		int			start;

		if (i > 0)
			appendStringInfoChar(&buffer, ',');
		start = buffer.len;
		append_column(&buffer, &key->columns[i], values[key->columns[i].attnum - 1]);
		if (key->columns[i].quotable)
			quote_column(&buffer, start);
	}
	if (key->pinned)
		AtEOXact_GUC(true, level);

	SET_VARSIZE(buffer.data, buffer.len);
	return (text *) buffer.data;
}
