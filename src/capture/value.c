/*
 * Values as children of a jsonb container.
 *
 * Each type is written the way that to_jsonb() writes it, into the bytes that
 * it would come to, but without its tree in between: a number as a numeric,
 * a date in ISO form, a jsonb as a part of the larger one.  What is rare or
 * deep (composites, types with a cast to json) is given to to_jsonb() itself.
 *
 * Numbers and containers are aligned to four bytes, counted from the start of
 * the whole jsonb, and their padding counts as part of them.
 *
 * Knows types; must not know rows, rules, triggers, events.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "parser/parse_coerce.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/uuid.h"

#include "base/compat.h"
#include "base/encoding.h"
#include "capture/numeric.h"
#include "capture/value.h"

/* ---- preparing ---- */

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
prepare_element(ObxValueType *array, Oid type)
{
	array->kind = OBX_VALUE_ARRAY;
	get_typlenbyvalalign(type, &array->element_length, &array->element_by_value,
						 &array->element_align);
	array->element = palloc0(sizeof(ObxValueType));
	obx_value_prepare(array->element, type);
}

void
obx_value_prepare(ObxValueType *value_type, Oid type)
{
	Oid			base = getBaseType(type);
	Oid			element;

	value_type->type = base;
	switch (base)
	{
		case BOOLOID:
			value_type->kind = OBX_VALUE_BOOL;
			return;
		case INT2OID:
			value_type->kind = OBX_VALUE_INT2;
			return;
		case INT4OID:
			value_type->kind = OBX_VALUE_INT4;
			return;
		case INT8OID:
			value_type->kind = OBX_VALUE_INT8;
			return;
		case NUMERICOID:
			value_type->kind = OBX_VALUE_NUMERIC;
			return;
		case FLOAT4OID:
		case FLOAT8OID:
			value_type->kind = OBX_VALUE_FLOAT;
			prepare_output(&value_type->function, base);
			return;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			value_type->kind = OBX_VALUE_TEXT;
			return;
		case UUIDOID:
			value_type->kind = OBX_VALUE_UUID;
			return;
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			value_type->kind = OBX_VALUE_DATETIME;
			value_type->last = palloc0(sizeof(ObxDateText));
			return;
		case JSONOID:
			value_type->kind = OBX_VALUE_JSON;
			return;
		case JSONBOID:
			value_type->kind = OBX_VALUE_JSONB;
			return;
		default:
			break;
	}

	element = get_element_type(base);
	if (OidIsValid(element))
		prepare_element(value_type, element);
	else if (base == RECORDARRAYOID || type_is_rowtype(base) || has_cast_to_json(base))
	{
		value_type->kind = OBX_VALUE_NESTED;
		prepare_to_jsonb(&value_type->function, type);
	}
	else
	{
		value_type->kind = OBX_VALUE_OUTPUT;
		prepare_output(&value_type->function, base);
	}
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

void
obx_writer_enlarge(ObxWriter *writer, Size needed)
{
	Size		capacity = writer->capacity;

	if (writer->length + needed > JENTRY_OFFLENMASK)
		report_too_large();
	while (capacity < writer->length + needed)
		capacity *= 2;
	writer->data = repalloc(writer->data, capacity);
	writer->capacity = capacity;
}

static inline void
pad(ObxWriter *writer)
{
	char	   *end = obx_writer_reserve(writer, sizeof(int32));
	int			padding = INTALIGN(writer->length) - writer->length;

	memset(end, 0, padding);
	writer->length += padding;
}

static void
write_uuid(ObxWriter *writer, const unsigned char *bytes)
{
	static const char hex[] = "0123456789abcdef";
	char	   *out = obx_writer_reserve(writer, 2 * UUID_LEN + 4);

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
write_integer(ObxWriter *writer, int64 value)
{
	char	   *out;

	pad(writer);
	out = obx_writer_reserve(writer, OBX_NUMBER_INT64_SIZE);
	writer->length += obx_numeric_from_int64(out, value);
	return JENTRY_ISNUMERIC;
}

/* A number's text: a JSON number, or a string where JSON has no number for it. */
static uint32
write_number_text(ObxWriter *writer, char *digits)
{
	Numeric		number;

	if (strpbrk(digits, "Nn") != NULL)
	{
		obx_writer_append(writer, digits, strlen(digits));
		return JENTRY_ISSTRING;
	}
	number = DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(digits),
												 ObjectIdGetDatum(InvalidOid),
												 Int32GetDatum(-1)));
	pad(writer);
	obx_writer_append(writer, (char *) number, VARSIZE(number));
	return JENTRY_ISNUMERIC;
}

/* A stored number differs from the number in a jsonb only in its length word. */
static uint32
write_numeric(ObxWriter *writer, Datum value)
{
	struct varlena *number = PG_DETOAST_DATUM_PACKED(value);
	Size		length = VARSIZE_ANY_EXHDR(number);

	if (obx_numeric_is_special(VARDATA_ANY(number)))
		return write_number_text(writer,
								 DatumGetCString(DirectFunctionCall1(numeric_out, value)));

	pad(writer);
	SET_VARSIZE(obx_writer_reserve(writer, VARHDRSZ + length), VARHDRSZ + length);
	writer->length += VARHDRSZ;
	obx_writer_append(writer, VARDATA_ANY(number), length);
	return JENTRY_ISNUMERIC;
}

/* A whole jsonb becomes a child: a container as it is, a scalar unwrapped. */
static uint32
write_jsonb(ObxWriter *writer, Jsonb *jsonb)
{
	JEntry		entry;

	if (!JB_ROOT_IS_SCALAR(jsonb))
	{
		pad(writer);
		obx_writer_append(writer, VARDATA(jsonb), VARSIZE(jsonb) - VARHDRSZ);
		return JENTRY_ISCONTAINER;
	}

	/* an array of one: its only value starts aligned, so it has no padding */
	entry = jsonb->root.children[0];
	if (JBE_ISNUMERIC(entry))
		pad(writer);
	obx_writer_append(writer, (char *) &jsonb->root.children[1], JBE_OFFLENFLD(entry));
	return entry & JENTRY_TYPEMASK;
}

static uint32
write_json(ObxWriter *writer, Datum value)
{
	char	   *json = TextDatumGetCString(value);

	return write_jsonb(writer,
					   DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json))));
}

static uint32
write_text(ObxWriter *writer, Datum value)
{
	struct varlena *string = PG_DETOAST_DATUM_PACKED(value);

	obx_writer_append(writer, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
	if ((Pointer) string != DatumGetPointer(value))
		pfree(string);
	return JENTRY_ISSTRING;
}

static uint32
write_datetime(ObxWriter *writer, Datum value, ObxValueType *value_type)
{
	obx_date_text_set(value_type->last, value, value_type->type);
	obx_writer_append(writer, value_type->last->string, value_type->last->length);
	return JENTRY_ISSTRING;
}

/*
 * One dimension of an array, as jsonb nests them: the innermost one holds the
 * elements, of which *next is the first.
 */
static void
write_dimension(ObxWriter *writer, ObxValueType *array, int depth, const int *dimensions,
				Datum *elements, bool *nulls, int *next)
{
	int			count = dimensions[0];
	Size		entries_size = count * sizeof(JEntry);
	uint32		total = 0;
	int			entries;

	pad(writer);
	*(uint32 *) obx_writer_reserve(writer, sizeof(uint32) + entries_size) = count | JB_FARRAY;
	entries = writer->length + sizeof(uint32);
	writer->length = entries + entries_size;

	for (int i = 0; i < count; i++)
	{
		int			start = writer->length;
		uint32		kind = JENTRY_ISNULL;

		if (depth > 1)
		{
			write_dimension(writer, array, depth - 1, dimensions + 1, elements, nulls, next);
			kind = JENTRY_ISCONTAINER;
		}
		else
		{
			if (!nulls[*next])
				kind = obx_value_write(writer, array->element, elements[*next]);
			(*next)++;
		}
		total += writer->length - start;
		((JEntry *) (writer->data + entries))[i] =
			obx_jentry_make(i, kind, writer->length - start, total);
	}
}

static uint32
write_array(ObxWriter *writer, ObxValueType *value_type, Datum value)
{
	static const int no_elements[] = {0};
	ArrayType  *array = DatumGetArrayTypeP(value);
	Datum	   *elements;
	bool	   *nulls;
	int			count;
	int			next = 0;

	deconstruct_array(array, ARR_ELEMTYPE(array), value_type->element_length,
					  value_type->element_by_value, value_type->element_align,
					  &elements, &nulls, &count);
	if (count == 0)
		write_dimension(writer, value_type, 1, no_elements, NULL, NULL, &next);
	else
		write_dimension(writer, value_type, ARR_NDIM(array), ARR_DIMS(array),
						elements, nulls, &next);
	return JENTRY_ISCONTAINER;
}

uint32
obx_value_write(ObxWriter *writer, ObxValueType *value_type, Datum value)
{
	char	   *string;

	switch (value_type->kind)
	{
		case OBX_VALUE_BOOL:
			return DatumGetBool(value) ? JENTRY_ISBOOL_TRUE : JENTRY_ISBOOL_FALSE;
		case OBX_VALUE_INT2:
			return write_integer(writer, DatumGetInt16(value));
		case OBX_VALUE_INT4:
			return write_integer(writer, DatumGetInt32(value));
		case OBX_VALUE_INT8:
			return write_integer(writer, DatumGetInt64(value));
		case OBX_VALUE_NUMERIC:
			return write_numeric(writer, value);
		case OBX_VALUE_FLOAT:
			return write_number_text(writer, OutputFunctionCall(&value_type->function, value));
		case OBX_VALUE_TEXT:
			return write_text(writer, value);
		case OBX_VALUE_UUID:
			write_uuid(writer, DatumGetUUIDP(value)->data);
			return JENTRY_ISSTRING;
		case OBX_VALUE_DATETIME:
			return write_datetime(writer, value, value_type);
		case OBX_VALUE_JSON:
			return write_json(writer, value);
		case OBX_VALUE_JSONB:
			return write_jsonb(writer, DatumGetJsonbP(value));
		case OBX_VALUE_ARRAY:
			return write_array(writer, value_type, value);
		case OBX_VALUE_NESTED:
			return write_jsonb(writer,
							   DatumGetJsonbP(FunctionCall1(&value_type->function, value)));
		case OBX_VALUE_OUTPUT:
			string = OutputFunctionCall(&value_type->function, value);
			/* "char" holds any byte */
			obx_encoding_require(string, "a column");
			obx_writer_append(writer, string, strlen(string));
			pfree(string);
			return JENTRY_ISSTRING;
	}
	elog(ERROR, "unknown kind of value: %d", (int) value_type->kind);
	return 0;					/* keep the compiler quiet */
}
