/*
 * Ranges of a table's key, as conditions of queries.
 */
#ifndef OBX_RANGE_H
#define OBX_RANGE_H

#include "utils/array.h"
#include "utils/rel.h"

typedef struct ObxRangeColumn
{
	AttrNumber	attnum;
	Oid			type;			/* of the expression below, and of parameters */
	int16		length;
	bool		by_value;
	Oid			family;			/* by which the index compares */
	Oid			compared;		/* type that the family's operators are for */
	Oid			collation;		/* of the index, if it is not the column's */
	char	   *expression;		/* the column of "t", as an operand */
} ObxRangeColumn;

typedef struct ObxRange
{
	Relation	relation;
	int			count;
	ObxRangeColumn columns[FLEXIBLE_ARRAY_MEMBER];
} ObxRange;

/* Of the index that tells the table's rows apart; ereports if there is none. */
extern ObxRange *obx_range_create(Relation rel);

/* Writes the expressions; the search_path must be that of the queries. */
extern void obx_range_write(ObxRange *range);

/* ---- parts of a query that names the table "t" ---- */

/* The key's columns. */
extern char *obx_range_expressions(const ObxRange *range);

/* For ORDER BY. */
extern char *obx_range_order(const ObxRange *range, bool descending);

/* The key is greater, or no greater, than the parameters from that number on. */
extern char *obx_range_after(const ObxRange *range, int parameter);
extern char *obx_range_until(const ObxRange *range, int parameter);

/* A column of the key is NULL. */
extern char *obx_range_is_null(const ObxRange *range);

/* ---- keys as texts that last ---- */

extern ArrayType *obx_range_to_text(const ObxRange *range, const Datum *key);
extern Datum *obx_range_from_text(const ObxRange *range, ArrayType *array);

/* Numbers and types of the columns: texts are good for the same ones only. */
extern ArrayType *obx_range_columns(const ObxRange *range);

#endif							/* OBX_RANGE_H */
