/*
 * Rows to jsonb.
 *
 * to_jsonb(row) looks up every column's type, output function and name for
 * every row, builds a tree and sorts its keys.  All that is the same for each
 * row of a table, so it is done once here, and encoding a row is: copy the
 * head of the object with its sorted keys, append the values, note their
 * lengths.  The result must be byte for byte what to_jsonb() gives, as users
 * may compare and index it; a regression test holds the two together.
 *
 * An object is laid out as in utils/jsonb.h: a header, one JEntry per key, one
 * JEntry per value, then the keys' and the values' bytes.  Keys are sorted by
 * length, then bytes.  Every JB_OFFSET_STRIDE'th entry holds an end offset
 * instead of a length.
 *
 * Knows rows; must not know rules, triggers, events.
 */
#include "postgres.h"

#include "utils/datetime.h"

#include "capture/encoder.h"
#include "capture/value.h"

typedef struct EncodedColumn
{
	AttrNumber	attnum;
	int			name_length;
	const char *name;
	ObxValueType type;
} EncodedColumn;

struct ObxEncoder
{
	int			count;
	EncodedColumn *columns;		/* in the order of jsonb's keys */
	int			head_length;
	int			keys_length;	/* bytes of all keys */
	char	   *head;			/* varlena header to last key, all columns */
	int			last_length;	/* of the last object: a guess */
};

/* ---- preparing ---- */

static int
compare_names(const void *a, const void *b)
{
	const EncodedColumn *left = a;
	const EncodedColumn *right = b;

	if (left->name_length != right->name_length)
		return left->name_length > right->name_length ? 1 : -1;
	return memcmp(left->name, right->name, left->name_length);
}

/* Everything that does not depend on the row; values' entries are left zero. */
static void
prepare_head(ObxEncoder *encoder)
{
	JEntry	   *entries;
	char	   *names;
	int			total = 0;
	int			entries_end = VARHDRSZ + sizeof(uint32) +
	2 * encoder->count * sizeof(JEntry);

	for (int i = 0; i < encoder->count; i++)
		encoder->keys_length += encoder->columns[i].name_length;
	encoder->head_length = entries_end + encoder->keys_length;
	encoder->head = palloc0(encoder->head_length);
	encoder->last_length = encoder->head_length + 16 * encoder->count;

	*(uint32 *) (encoder->head + VARHDRSZ) = encoder->count | JB_FOBJECT;
	entries = (JEntry *) (encoder->head + VARHDRSZ + sizeof(uint32));
	names = encoder->head + entries_end;
	for (int i = 0; i < encoder->count; i++)
	{
		EncodedColumn *column = &encoder->columns[i];

		memcpy(names + total, column->name, column->name_length);
		total += column->name_length;
		entries[i] = obx_jentry_make(i, JENTRY_ISSTRING, column->name_length, total);
	}
}

ObxEncoder *
obx_encoder_create(TupleDesc tupdesc, const AttrNumber *columns, int count)
{
	ObxEncoder *encoder = palloc0(sizeof(ObxEncoder));

	encoder->count = count;
	encoder->columns = palloc0(count * sizeof(EncodedColumn));
	for (int i = 0; i < count; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(tupdesc, columns[i] - 1);
		EncodedColumn *column = &encoder->columns[i];

		column->attnum = columns[i];
		column->name = pstrdup(NameStr(attribute->attname));
		column->name_length = strlen(column->name);
		obx_value_prepare(&column->type, attribute->atttypid);
	}
	qsort(encoder->columns, count, sizeof(EncodedColumn), compare_names);
	prepare_head(encoder);
	return encoder;
}

/* ---- writing ---- */

/* The head for the included columns only; returns how many there are. */
static int
write_partial_head(ObxWriter *writer, ObxEncoder *encoder, const bool *include,
				   int *keys_length)
{
	int			count = 0;
	int			total = 0;
	int			index = 0;
	JEntry	   *entries;

	for (int i = 0; i < encoder->count; i++)
		count += include[encoder->columns[i].attnum - 1];

	/* no longer than the whole head, so there is room */
	entries = (JEntry *) (writer->data + VARHDRSZ + sizeof(uint32));
	*(uint32 *) (writer->data + VARHDRSZ) = count | JB_FOBJECT;
	writer->length = VARHDRSZ + sizeof(uint32) + 2 * count * sizeof(JEntry);
	for (int i = 0; i < encoder->count; i++)
	{
		EncodedColumn *column = &encoder->columns[i];

		if (!include[column->attnum - 1])
			continue;
		obx_writer_append(writer, column->name, column->name_length);
		total += column->name_length;
		entries[index] = obx_jentry_make(index, JENTRY_ISSTRING, column->name_length, total);
		index++;
	}
	*keys_length = total;
	return count;
}

Jsonb *
obx_encoder_encode(ObxEncoder *encoder, const Datum *values, const bool *nulls,
				   const bool *include)
{
	ObxWriter	writer;
	int			index = encoder->count;
	int			total = encoder->keys_length;

	writer.capacity = encoder->last_length + MAXDATELEN + 1;
	writer.data = palloc(writer.capacity);
	writer.length = encoder->head_length;
	if (include == NULL)
		memcpy(writer.data, encoder->head, encoder->head_length);
	else
		index = write_partial_head(&writer, encoder, include, &total);

	/* values' entries go on counting where those of the keys end */
	for (int i = 0; i < encoder->count; i++)
	{
		EncodedColumn *column = &encoder->columns[i];
		int			attribute = column->attnum - 1;
		int			start = writer.length;
		uint32		kind = JENTRY_ISNULL;
		JEntry	   *entries;

		if (include != NULL && !include[attribute])
			continue;
		if (!nulls[attribute])
			kind = obx_value_write(&writer, &column->type, values[attribute]);
		total += writer.length - start;
		entries = (JEntry *) (writer.data + VARHDRSZ + sizeof(uint32));
		entries[index] = obx_jentry_make(index, kind, writer.length - start, total);
		index++;
	}

	SET_VARSIZE(writer.data, writer.length);
	if (include == NULL)
		encoder->last_length = Max(encoder->head_length, Min(writer.length, 4096));
	return (Jsonb *) writer.data;
}
