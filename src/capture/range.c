/*
 * Ranges of a table's key, as conditions of queries.
 *
 * A table is read range by range, so the queries must agree with the index on
 * what follows what, and on which keys are equal, for every type.  So they
 * compare values, never their texts; by the operators of the index's operator
 * classes, named with their schema; under the index's collations.  A domain is
 * compared as what it is made of, so that no query evaluates its constraints.
 *
 * Between transactions a key is kept as the texts of its columns, written and
 * read under settings that do not change.
 *
 * Must not know rules, events, nor what the ranges are for.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "catalog/pg_am.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "capture/key.h"
#include "capture/range.h"
#include "capture/rule.h"

/* ---- the index ---- */

static void
describe_column(ObxRangeColumn *column, Relation index, int i, Form_pg_attribute attribute)
{
	Oid			compared = index->rd_opcintype[i];

	column->attnum = attribute->attnum;
	column->family = index->rd_opfamily[i];
	column->compared = compared;
	if (index->rd_indcollation[i] != attribute->attcollation)
		column->collation = index->rd_indcollation[i];
	/* operators for any array, enum, range or row take the type itself */
	column->type = IsPolymorphicType(compared) || compared == RECORDOID
		? getBaseType(attribute->atttypid) : compared;
	get_typlenbyval(column->type, &column->length, &column->by_value);
}

ObxRange *
obx_range_create(Relation rel)
{
	Oid			index_id = obx_rule_default_index(rel);
	Relation	index;
	ObxRange   *range;
	int			count;

	if (!OidIsValid(index_id))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has no key to read it by", RelationGetRelationName(rel)),
				 errdetail("A snapshot is read in ranges of the primary key, or of the index chosen as replica identity."),
				 errhint("Add a primary key.")));
	index = index_open(index_id, AccessShareLock);
	if (index->rd_rel->relam != BTREE_AM_OID)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("index \"%s\" has no order to read table \"%s\" by",
						RelationGetRelationName(index), RelationGetRelationName(rel)),
				 errdetail("A snapshot is read in ranges of a B-tree index."),
				 errhint("Add a primary key.")));
	count = IndexRelationGetNumberOfKeyAttributes(index);
	range = palloc0(offsetof(ObxRange, columns) + count * sizeof(ObxRangeColumn));
	range->relation = rel;
	range->count = count;
	for (int i = 0; i < count; i++)
		describe_column(&range->columns[i], index, i,
						TupleDescAttr(RelationGetDescr(rel),
									  index->rd_index->indkey.values[i] - 1));
	/* the lock stays, so that the index does */
	index_close(index, NoLock);
	return range;
}

/* ---- writing ---- */

/* Qualified, and with no length that would cut values. */
static char *
name_type(Oid type)
{
	return format_type_extended(type, -1, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
}

void
obx_range_write(ObxRange *range)
{
	for (int i = 0; i < range->count; i++)
	{
		ObxRangeColumn *column = &range->columns[i];
		Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(range->relation),
													column->attnum - 1);
		char	   *name = psprintf("t.%s", quote_identifier(NameStr(attribute->attname)));

		if (column->type != attribute->atttypid)
			name = psprintf("%s::%s", name, name_type(column->type));
		if (OidIsValid(column->collation))
			name = psprintf("(%s COLLATE %s)", name, generate_collation_name(column->collation));
		column->expression = name;
	}
}

/* OPERATOR(schema.name), of the index's own. */
static char *
write_operator(const ObxRangeColumn *column, int strategy)
{
	Oid			operator = get_opfamily_member(column->family, column->compared,
											   column->compared, strategy);
	HeapTuple	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	Form_pg_operator form;
	char	   *text;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "operator family %u lacks an operator for strategy %d", column->family, strategy);
	form = (Form_pg_operator) GETSTRUCT(tuple);
	text = psprintf("OPERATOR(%s.%s)", quote_identifier(get_namespace_name(form->oprnamespace)),
					NameStr(form->oprname));

	ReleaseSysCache(tuple);
	return text;
}

char *
obx_range_expressions(const ObxRange *range)
{
	StringInfoData out;

	initStringInfo(&out);
	for (int i = 0; i < range->count; i++)
		appendStringInfo(&out, "%s%s", i > 0 ? ", " : "", range->columns[i].expression);
	return out.data;
}

char *
obx_range_order(const ObxRange *range, bool descending)
{
	StringInfoData out;

	initStringInfo(&out);
	for (int i = 0; i < range->count; i++)
		appendStringInfo(&out, "%s%s USING %s", i > 0 ? ", " : "", range->columns[i].expression,
						 write_operator(&range->columns[i], descending ? BTGreaterStrategyNumber :
										BTLessStrategyNumber));
	return out.data;
}

/* Do the columns' operators have one name?  Then rows can be compared by it. */
static bool
share_operator(const ObxRange *range, int strategy)
{
	char	   *first = write_operator(&range->columns[0], strategy);

	for (int i = 1; i < range->count; i++)
		if (strcmp(write_operator(&range->columns[i], strategy), first) != 0)
			return false;
	return true;
}

static char *
write_parameters(const ObxRange *range, int parameter)
{
	StringInfoData out;

	initStringInfo(&out);
	for (int i = 0; i < range->count; i++)
		appendStringInfo(&out, "%s$%d", i > 0 ? ", " : "", parameter + i);
	return out.data;
}

/*
 * (a, b) > ($1, $2), which an index serves as it is; or column by column, where
 * operators are of different schemas: a >= $1 AND (a > $1 OR a = $1 AND b > $2).
 * "strict" is the strategy for all columns but the last, "last" that for it.
 */
static char *
write_comparison(const ObxRange *range, int parameter, int strict, int last)
{
	StringInfoData out;
	int			bound = strict == BTGreaterStrategyNumber ? BTGreaterEqualStrategyNumber :
	BTLessEqualStrategyNumber;

	if (share_operator(range, last))
		return psprintf("(%s) %s (%s)", obx_range_expressions(range),
						write_operator(&range->columns[0], last),
						write_parameters(range, parameter));

	initStringInfo(&out);
	for (int i = 0; i < range->count; i++)
	{
		const ObxRangeColumn *column = &range->columns[i];
		int			number = parameter + i;

		if (i == range->count - 1)
			appendStringInfo(&out, "%s %s $%d", column->expression,
							 write_operator(column, last), number);
		else
			appendStringInfo(&out, "(%s %s $%d AND (%s %s $%d OR %s %s $%d AND ",
							 column->expression, write_operator(column, bound), number,
							 column->expression, write_operator(column, strict), number,
							 column->expression, write_operator(column, BTEqualStrategyNumber),
							 number);
	}
	for (int i = 1; i < range->count; i++)
		appendStringInfoString(&out, "))");
	return out.data;
}

char *
obx_range_after(const ObxRange *range, int parameter)
{
	return write_comparison(range, parameter, BTGreaterStrategyNumber, BTGreaterStrategyNumber);
}

char *
obx_range_until(const ObxRange *range, int parameter)
{
	return write_comparison(range, parameter, BTLessStrategyNumber, BTLessEqualStrategyNumber);
}

char *
obx_range_is_null(const ObxRange *range)
{
	StringInfoData out;

	/* unlike IS NULL, this is false for rows whose columns are all NULL */
	initStringInfo(&out);
	for (int i = 0; i < range->count; i++)
		appendStringInfo(&out, "%s%s IS NOT DISTINCT FROM NULL", i > 0 ? " OR " : "",
						 range->columns[i].expression);
	return out.data;
}

/* ---- texts ---- */

ArrayType *
obx_range_to_text(const ObxRange *range, const Datum *key)
{
	Datum	   *texts = palloc(range->count * sizeof(Datum));
	int			level = obx_key_pin_settings();

	for (int i = 0; i < range->count; i++)
	{
		Oid			output;
		bool		is_varlena;

		getTypeOutputInfo(range->columns[i].type, &output, &is_varlena);
		texts[i] = CStringGetTextDatum(OidOutputFunctionCall(output, key[i]));
	}
	AtEOXact_GUC(true, level);
	return construct_array(texts, range->count, TEXTOID, -1, false, TYPALIGN_INT);
}

Datum *
obx_range_from_text(const ObxRange *range, ArrayType *array)
{
	Datum	   *texts;
	Datum	   *key = palloc(range->count * sizeof(Datum));
	int			count;
	int			level = obx_key_pin_settings();

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &texts, NULL, &count);
	if (count != range->count)
		elog(ERROR, "key has %d columns instead of %d", count, range->count);
	for (int i = 0; i < count; i++)
	{
		Oid			input;
		Oid			parameter;

		getTypeInputInfo(range->columns[i].type, &input, &parameter);
		key[i] = OidInputFunctionCall(input, TextDatumGetCString(texts[i]), parameter, -1);
	}
	AtEOXact_GUC(true, level);
	return key;
}

ArrayType *
obx_range_columns(const ObxRange *range)
{
	Datum	   *columns = palloc(range->count * sizeof(Datum));

	for (int i = 0; i < range->count; i++)
		columns[i] = CStringGetTextDatum(psprintf("%d %s", range->columns[i].attnum,
												  name_type(range->columns[i].type)));
	return construct_array(columns, range->count, TEXTOID, -1, false, TYPALIGN_INT);
}
