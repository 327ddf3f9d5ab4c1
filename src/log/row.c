/*
 * An event as the row that is stored.
 *
 * The result equals that of heap_form_tuple().  There is only one row type, so
 * this code needs no lookups and one pass.  It can also set the id after the
 * row is formed: the id has a fixed place, and the correlation id, which
 * defaults to the id, is at the end, with only the cause behind it.
 *
 * Pure: no locks, no catalogs; but with OBX_PLAIN, heap_form_tuple() does it.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "catalog/names.h"
#include "log/event.h"
#include "log/row.h"

/* A text of the digits of an id. */
#define ID_TEXT_SIZE	(VARHDRSZ_SHORT + MAXINT8LEN)

#ifndef OBX_PLAIN

/* Appends a value with the padding that it needs and the shortest header. */
static char *
append_varlena(char *out, Datum value, HeapTupleHeader header)
{
	struct varlena *varlena = (struct varlena *) DatumGetPointer(value);

	if (VARATT_CAN_MAKE_SHORT(varlena))
	{
		Size		length = VARATT_CONVERTED_SHORT_SIZE(varlena);

		SET_VARSIZE_SHORT(out, length);
		memcpy(out + VARHDRSZ_SHORT, VARDATA(varlena), length - VARHDRSZ_SHORT);
		return out + length;
	}
	if (VARATT_IS_EXTERNAL(varlena))
		header->t_infomask |= HEAP_HASEXTERNAL;
	else if (!VARATT_IS_SHORT(varlena))
		while (out != (char *) INTALIGN(out))
			*out++ = 0;
	memcpy(out, varlena, VARSIZE_ANY(varlena));
	return out + VARSIZE_ANY(varlena);
}

static char *
append_int64(char *out, int64 value)
{
	while (out != (char *) MAXALIGN(out))
		*out++ = 0;
	memcpy(out, &value, sizeof(value));
	return out + sizeof(value);
}

/* Enough for the row, whatever its padding comes to. */
static Size
bound_size(const Datum *values, const bool *nulls)
{
	Size		size = MAXALIGN(SizeofHeapTupleHeader + BITMAPLEN(OBX_EVENT_COLUMNS)) +
	4 * sizeof(int64) + ID_TEXT_SIZE;

	for (int i = OBX_EVENT_TYPE; i <= OBX_EVENT_CORRELATION_ID; i++)
		if (!nulls[i])
			size += VARSIZE_ANY(DatumGetPointer(values[i])) + ALIGNOF_INT;
	return size + ALIGNOF_DOUBLE;
}

HeapTuple
obx_row_form(const Datum *values, const bool *nulls)
{
	HeapTuple	row = palloc(HEAPTUPLESIZE + bound_size(values, nulls));
	HeapTupleHeader header = (HeapTupleHeader) ((char *) row + HEAPTUPLESIZE);
	bool		any_null = false;
	char	   *out;

	memset(header, 0, MAXALIGN(SizeofHeapTupleHeader + BITMAPLEN(OBX_EVENT_COLUMNS)));
	for (int i = 0; i < OBX_EVENT_COLUMNS; i++)
		if (nulls[i])
			any_null = true;
		else
			header->t_bits[i >> 3] |= 1 << (i & 0x07);
	header->t_infomask = HEAP_HASVARWIDTH | (any_null ? HEAP_HASNULL : 0);
	HeapTupleHeaderSetNatts(header, OBX_EVENT_COLUMNS);
	header->t_hoff = MAXALIGN(SizeofHeapTupleHeader +
							  (any_null ? BITMAPLEN(OBX_EVENT_COLUMNS) : 0));

	out = (char *) header + header->t_hoff;
	for (int i = OBX_EVENT_ID; i <= OBX_EVENT_TIME; i++)
		out = append_int64(out, DatumGetInt64(values[i]));
	for (int i = OBX_EVENT_TYPE; i <= OBX_EVENT_CORRELATION_ID; i++)
		if (!nulls[i])
			out = append_varlena(out, values[i], header);
	if (!nulls[OBX_EVENT_CAUSATION_ID])
		out = append_int64(out, DatumGetInt64(values[OBX_EVENT_CAUSATION_ID]));

	row->t_len = out - (char *) header;
	ItemPointerSetInvalid(&row->t_self);
	row->t_tableOid = InvalidOid;
	row->t_data = header;
	return row;
}

void
obx_row_set_id(HeapTuple row, int64 id)
{
	HeapTupleHeader header = row->t_data;
	char	   *end = (char *) header + row->t_len;
	int			length;

	memcpy((char *) header + header->t_hoff, &id, sizeof(id));
	if (!(header->t_infomask & HEAP_HASNULL) ||
		!att_isnull(OBX_EVENT_CORRELATION_ID, header->t_bits))
		return;

	/* nothing lies behind: what has a cause is formed when it has its id */
	Assert(att_isnull(OBX_EVENT_CAUSATION_ID, header->t_bits));
	length = pg_ulltoa_n((uint64) id, end + VARHDRSZ_SHORT);
	SET_VARSIZE_SHORT(end, VARHDRSZ_SHORT + length);
	row->t_len += VARHDRSZ_SHORT + length;
	header->t_bits[OBX_EVENT_CORRELATION_ID >> 3] |= 1 << (OBX_EVENT_CORRELATION_ID & 0x07);
}

#else							/* OBX_PLAIN */

/* Copies "from" to where "row" lies, which has room for it. */
static void
set_row(HeapTuple row, HeapTuple from)
{
	*row = *from;
	row->t_data = (HeapTupleHeader) ((char *) row + HEAPTUPLESIZE);
	memcpy(row->t_data, from->t_data, from->t_len);
	/* it is a row of a table to be, and no datum */
	memset(&row->t_data->t_choice, 0, sizeof(row->t_data->t_choice));
}

HeapTuple
obx_row_form(const Datum *values, const bool *nulls)
{
	Relation	log = table_open(obx_object_require(OBX_EVENT), AccessShareLock);
	HeapTuple	formed = heap_form_tuple(RelationGetDescr(log), unconstify(Datum *, values),
										 unconstify(bool *, nulls));
	HeapTuple	row = palloc(HEAPTUPLESIZE + formed->t_len + MAXIMUM_ALIGNOF + ID_TEXT_SIZE);

	set_row(row, formed);
	heap_freetuple(formed);
	table_close(log, AccessShareLock);
	return row;
}

void
obx_row_set_id(HeapTuple row, int64 id)
{
	Relation	log = table_open(obx_object_require(OBX_EVENT), AccessShareLock);
	char		digits[MAXINT8LEN + 1];
	Datum		values[OBX_EVENT_COLUMNS];
	bool		nulls[OBX_EVENT_COLUMNS];
	HeapTuple	formed;

	heap_deform_tuple(row, RelationGetDescr(log), values, nulls);
	values[OBX_EVENT_ID] = Int64GetDatum(id);
	if (nulls[OBX_EVENT_CORRELATION_ID])
	{
		snprintf(digits, sizeof(digits), INT64_FORMAT, id);
		values[OBX_EVENT_CORRELATION_ID] = CStringGetTextDatum(digits);
	}
	nulls[OBX_EVENT_CORRELATION_ID] = false;
	formed = heap_form_tuple(RelationGetDescr(log), values, nulls);
	set_row(row, formed);
	heap_freetuple(formed);
	table_close(log, AccessShareLock);
}

#endif							/* OBX_PLAIN */
