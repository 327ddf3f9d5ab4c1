/*
 * Values as children of a jsonb container.
 */
#ifndef OBX_VALUE_H
#define OBX_VALUE_H

#include "fmgr.h"
#include "utils/jsonb.h"

#include "capture/date_text.h"

/* A jsonb that grows; its length word is part of the data. */
typedef struct ObxWriter
{
	char	   *data;			/* in the current memory context */
	int			length;
	int			capacity;
} ObxWriter;

/* How the values of a type are written. */
typedef enum ObxValueKind
{
	OBX_VALUE_BOOL,
	OBX_VALUE_INT2,
	OBX_VALUE_INT4,
	OBX_VALUE_INT8,
	OBX_VALUE_NUMERIC,
	OBX_VALUE_FLOAT,			/* float4 and float8: by their text */
	OBX_VALUE_TEXT,
	OBX_VALUE_UUID,
	OBX_VALUE_DATETIME,			/* date, timestamp, timestamptz */
	OBX_VALUE_JSON,
	OBX_VALUE_JSONB,
	OBX_VALUE_ARRAY,
	OBX_VALUE_NESTED,			/* whatever to_jsonb() makes of it */
	OBX_VALUE_OUTPUT			/* a string: the output function's result */
} ObxValueKind;

typedef struct ObxValueType
{
	ObxValueKind kind;
	Oid			type;			/* base type */
	ObxDateText *last;			/* of dates and times: the one last written */
	FmgrInfo	function;		/* output function, or to_jsonb() */
	struct ObxValueType *element;	/* of an array */
	int16		element_length;
	bool		element_by_value;
	char		element_align;
} ObxValueType;

/* In the current memory context; looks up catalogs. */
extern void obx_value_prepare(ObxValueType *value_type, Oid type);

/*
 * Appends one value that is not NULL, with the padding that it needs; returns
 * the type bits of its JEntry.
 */
extern uint32 obx_value_write(ObxWriter *writer, ObxValueType *value_type, Datum value);

extern void obx_writer_enlarge(ObxWriter *writer, Size needed);

/* Room for that many bytes at the end. */
static inline char *
obx_writer_reserve(ObxWriter *writer, Size needed)
{
	if (unlikely(writer->length + needed > writer->capacity))
		obx_writer_enlarge(writer, needed);
	return writer->data + writer->length;
}

static inline void
obx_writer_append(ObxWriter *writer, const char *bytes, Size length)
{
	memcpy(obx_writer_reserve(writer, length), bytes, length);
	writer->length += length;
}

/* The JEntry of child number "index" with that length, ending at "total". */
static inline JEntry
obx_jentry_make(int index, uint32 kind, uint32 length, uint32 total)
{
	if (index % JB_OFFSET_STRIDE == 0)
		return kind | total | JENTRY_HAS_OFF;
	return kind | length;
}

#endif							/* OBX_VALUE_H */
