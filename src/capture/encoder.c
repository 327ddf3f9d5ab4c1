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
 * instead of a length.  Numbers and containers are aligned to four bytes, and
 * their padding counts as part of them.
 *
 * Knows types; must not know rules, triggers, events.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/uuid.h"

#include "base/compat.h"
#include "capture/encoder.h"
#include "capture/number.h"

/* How a value is written. */
typedef enum ValueKind
{
	VALUE_BOOL,
	VALUE_INT2,
	VALUE_INT4,
	VALUE_INT8,
	VALUE_NUMERIC,
	VALUE_FLOAT,				/* float4 and float8: by their text */
	VALUE_TEXT,
	VALUE_UUID,
	VALUE_DATETIME,				/* date, timestamp, timestamptz */
	VALUE_JSON,
	VALUE_JSONB,
	VALUE_NESTED,				/* whatever to_jsonb() makes of it */
	VALUE_OUTPUT				/* a string: the output function's result */
} ValueKind;

typedef struct EncodedColumn
{
	AttrNumber	attnum;
	ValueKind	kind;
	Oid			type;			/* base type */
	int			name_length;
	const char *name;
	FmgrInfo	function;		/* output function, or to_jsonb() */
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

typedef struct Writer
{
	char	   *data;
	int			length;
	int			capacity;
} Writer;

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

/* to_jsonb(anyelement) finds its argument's type in the call's expression */
static void
prepare_to_jsonb(FmgrInfo *function, Oid type)
{
	Param	   *argument = makeNode(Param);

	argument->paramkind = PARAM_EXTERN;
	argument->paramid = 1;
	argument->paramtype = type;
	argument->paramtypmod = -1;
	argument->location = -1;

	fmgr_info(F_TO_JSONB, function);
	fmgr_info_set_expr((Node *) makeFuncExpr(F_TO_JSONB, JSONBOID, list_make1(argument),
											 InvalidOid, InvalidOid,
											 COERCE_EXPLICIT_CALL),
					   function);
}

static void
prepare_output(FmgrInfo *function, Oid type)
{
	Oid			output;
	bool		is_varlena;

	getTypeOutputInfo(type, &output, &is_varlena);
	fmgr_info(output, function);
}

/* Types outside the system may have a cast to json, which to_jsonb() prefers. */
static bool
has_cast_to_json(Oid type)
{
	Oid			function;

	return type >= FirstNormalObjectId &&
		find_coercion_pathway(JSONOID, type, COERCION_EXPLICIT, &function) ==
		COERCION_PATH_FUNC && OidIsValid(function);
}

static void
prepare_value(EncodedColumn *column, Oid type)
{
	Oid			base = getBaseType(type);

	column->type = base;
	switch (base)
	{
		case BOOLOID:
			column->kind = VALUE_BOOL;
			return;
		case INT2OID:
			column->kind = VALUE_INT2;
			return;
		case INT4OID:
			column->kind = VALUE_INT4;
			return;
		case INT8OID:
			column->kind = VALUE_INT8;
			return;
		case NUMERICOID:
			column->kind = VALUE_NUMERIC;
			return;
		case FLOAT4OID:
		case FLOAT8OID:
			column->kind = VALUE_FLOAT;
			prepare_output(&column->function, base);
			return;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			column->kind = VALUE_TEXT;
			return;
		case UUIDOID:
			column->kind = VALUE_UUID;
			return;
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			column->kind = VALUE_DATETIME;
			return;
		case JSONOID:
			column->kind = VALUE_JSON;
			return;
		case JSONBOID:
			column->kind = VALUE_JSONB;
			return;
		default:
			break;
	}

	if (OidIsValid(get_element_type(base)) || base == RECORDARRAYOID ||
		type_is_rowtype(base) || has_cast_to_json(base))
	{
		column->kind = VALUE_NESTED;
		prepare_to_jsonb(&column->function, type);
	}
	else
	{
		column->kind = VALUE_OUTPUT;
		prepare_output(&column->function, base);
	}
}

/* The JEntry of child number "index" with that length, ending at "total". */
static inline JEntry
make_entry(int index, uint32 kind, uint32 length, uint32 total)
{
	if (index % JB_OFFSET_STRIDE == 0)
		return kind | total | JENTRY_HAS_OFF;
	return kind | length;
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
		entries[i] = make_entry(i, JENTRY_ISSTRING, column->name_length, total);
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
		prepare_value(column, attribute->atttypid);
	}
	qsort(encoder->columns, count, sizeof(EncodedColumn), compare_names);
	prepare_head(encoder);
	return encoder;
}

/* ---- writing ---- */

static void
report_too_large(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("row is too large to be captured"),
			 errdetail("Its jsonb object exceeds the maximum of %u bytes.",
					   JENTRY_OFFLENMASK),
			 errhint("Leave large columns out by the rule's \"columns\" or \"exclude\".")));
}

static void
enlarge(Writer *writer, Size needed)
{
	Size		capacity = writer->capacity;

	if (writer->length + needed > JENTRY_OFFLENMASK)
		report_too_large();
	while (capacity < writer->length + needed)
		capacity *= 2;
	writer->data = repalloc(writer->data, capacity);
	writer->capacity = capacity;
}

/* Room for that many bytes at the end. */
static inline char *
reserve(Writer *writer, Size needed)
{
	if (unlikely(writer->length + needed > writer->capacity))
		enlarge(writer, needed);
	return writer->data + writer->length;
}

static inline void
append(Writer *writer, const char *bytes, Size length)
{
	memcpy(reserve(writer, length), bytes, length);
	writer->length += length;
}

static inline void
pad(Writer *writer)
{
	char	   *end = reserve(writer, sizeof(int32));
	int			padding = INTALIGN(writer->length) - writer->length;

	memset(end, 0, padding);
	writer->length += padding;
}

static void
write_uuid(Writer *writer, const unsigned char *bytes)
{
	static const char hex[] = "0123456789abcdef";
	char	   *out = reserve(writer, 2 * UUID_LEN + 4);

	for (int i = 0; i < UUID_LEN; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*out++ = '-';
		*out++ = hex[bytes[i] >> 4];
		*out++ = hex[bytes[i] & 0x0F];
	}
	writer->length += 2 * UUID_LEN + 4;
}

static uint32
write_integer(Writer *writer, int64 value)
{
	char	   *out;

	pad(writer);
	out = reserve(writer, OBX_NUMBER_INT64_SIZE);
	writer->length += obx_number_from_int64(out, value);
	return JENTRY_ISNUMERIC;
}

/* A number's text: a JSON number, or a string where JSON has no number for it. */
static uint32
write_number_text(Writer *writer, char *digits)
{
	Numeric		number;

	if (strpbrk(digits, "Nn") != NULL)
	{
		append(writer, digits, strlen(digits));
		return JENTRY_ISSTRING;
	}
	number = DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(digits),
												 ObjectIdGetDatum(InvalidOid),
												 Int32GetDatum(-1)));
	pad(writer);
	append(writer, (char *) number, VARSIZE(number));
	return JENTRY_ISNUMERIC;
}

/* A stored number is already what a jsonb holds, but for its length word. */
static uint32
write_numeric(Writer *writer, Datum value)
{
	struct varlena *number = PG_DETOAST_DATUM_PACKED(value);
	Size		length = VARSIZE_ANY_EXHDR(number);

	if (obx_number_is_special(VARDATA_ANY(number)))
		return write_number_text(writer,
								 DatumGetCString(DirectFunctionCall1(numeric_out, value)));

	pad(writer);
	SET_VARSIZE(reserve(writer, VARHDRSZ + length), VARHDRSZ + length);
	writer->length += VARHDRSZ;
	append(writer, VARDATA_ANY(number), length);
	return JENTRY_ISNUMERIC;
}

/* A whole jsonb becomes a child: a container as it is, a scalar unwrapped. */
static uint32
write_jsonb(Writer *writer, Jsonb *jsonb)
{
	JEntry		entry;

	if (!JB_ROOT_IS_SCALAR(jsonb))
	{
		pad(writer);
		append(writer, VARDATA(jsonb), VARSIZE(jsonb) - VARHDRSZ);
		return JENTRY_ISCONTAINER;
	}

	/* an array of one: its only value starts aligned, so it has no padding */
	entry = jsonb->root.children[0];
	if (JBE_ISNUMERIC(entry))
		pad(writer);
	append(writer, (char *) &jsonb->root.children[1], JBE_OFFLENFLD(entry));
	return entry & JENTRY_TYPEMASK;
}

static uint32
write_json(Writer *writer, Datum value)
{
	char	   *json = TextDatumGetCString(value);

	return write_jsonb(writer,
					   DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json))));
}

static uint32
write_text(Writer *writer, Datum value)
{
	struct varlena *string = PG_DETOAST_DATUM_PACKED(value);

	append(writer, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
	if ((Pointer) string != DatumGetPointer(value))
		pfree(string);
	return JENTRY_ISSTRING;
}

static uint32
write_datetime(Writer *writer, Datum value, Oid type)
{
	char	   *out = reserve(writer, MAXDATELEN + 1);

	JsonEncodeDateTime(out, value, type, NULL);
	writer->length += strlen(out);
	return JENTRY_ISSTRING;
}

/* Appends one value that is not NULL; returns its JEntry's type bits. */
static uint32
write_value(Writer *writer, EncodedColumn *column, Datum value)
{
	char	   *string;

	switch (column->kind)
	{
		case VALUE_BOOL:
			return DatumGetBool(value) ? JENTRY_ISBOOL_TRUE : JENTRY_ISBOOL_FALSE;
		case VALUE_INT2:
			return write_integer(writer, DatumGetInt16(value));
		case VALUE_INT4:
			return write_integer(writer, DatumGetInt32(value));
		case VALUE_INT8:
			return write_integer(writer, DatumGetInt64(value));
		case VALUE_NUMERIC:
			return write_numeric(writer, value);
		case VALUE_FLOAT:
			return write_number_text(writer, OutputFunctionCall(&column->function, value));
		case VALUE_TEXT:
			return write_text(writer, value);
		case VALUE_UUID:
			write_uuid(writer, DatumGetUUIDP(value)->data);
			return JENTRY_ISSTRING;
		case VALUE_DATETIME:
			return write_datetime(writer, value, column->type);
		case VALUE_JSON:
			return write_json(writer, value);
		case VALUE_JSONB:
			return write_jsonb(writer, DatumGetJsonbP(value));
		case VALUE_NESTED:
			return write_jsonb(writer,
							   DatumGetJsonbP(FunctionCall1(&column->function, value)));
		case VALUE_OUTPUT:
			string = OutputFunctionCall(&column->function, value);
			append(writer, string, strlen(string));
			pfree(string);
			return JENTRY_ISSTRING;
	}
	elog(ERROR, "unknown kind of value: %d", (int) column->kind);
	return 0;					/* keep the compiler quiet */
}

/* The head for the included columns only; returns how many there are. */
static int
write_partial_head(Writer *writer, ObxEncoder *encoder, const bool *include,
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
		append(writer, column->name, column->name_length);
		total += column->name_length;
		entries[index] = make_entry(index, JENTRY_ISSTRING, column->name_length, total);
		index++;
	}
	*keys_length = total;
	return count;
}

Jsonb *
obx_encoder_encode(ObxEncoder *encoder, const Datum *values, const bool *nulls,
				   const bool *include)
{
	Writer		writer;
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
			kind = write_value(&writer, column, values[attribute]);
		total += writer.length - start;
		entries = (JEntry *) (writer.data + VARHDRSZ + sizeof(uint32));
		entries[index] = make_entry(index, kind, writer.length - start, total);
		index++;
	}

	SET_VARSIZE(writer.data, writer.length);
	if (include == NULL)
		encoder->last_length = Max(encoder->head_length, Min(writer.length, 4096));
	return (Jsonb *) writer.data;
}
