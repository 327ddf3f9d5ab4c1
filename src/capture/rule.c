/*
 * A capture rule as it was asked for: to and from the JSON argument of its
 * triggers, and its column names resolved against a table.
 *
 * The argument is all that is stored of a rule.  So rules need no table of
 * their own, go with the table, and come back with a dump of it.
 *
 * Must not know events.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_index.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "capture/rule.h"

static const char *const old_values_name[] = {
	[OBX_OLD_NONE] = "none",
	[OBX_OLD_CHANGED] = "changed",
	[OBX_OLD_ALL] = "all",
};

static const char *const operation_name[] = {"insert", "update", "delete", "truncate"};

bool
obx_old_values_parse(const char *text, ObxOldValues *value)
{
	for (int i = 0; i < lengthof(old_values_name); i++)
		if (strcmp(text, old_values_name[i]) == 0)
		{
			*value = i;
			return true;
		}
	return false;
}

/* ---- writing ---- */

static void
append_member(StringInfo json, const char *name, const char *value)
{
	appendStringInfo(json, "%s\"%s\": ", json->len > 1 ? ", " : "", name);
	if (value == NULL)
		appendStringInfoString(json, "null");
	else
		escape_json(json, value);
}

static void
append_names(StringInfo json, const char *name, List *names)
{
	const char *separator = "";
	ListCell   *lc;

	if (names == NIL)
	{
		append_member(json, name, NULL);
		return;
	}
	appendStringInfo(json, "%s\"%s\": [", json->len > 1 ? ", " : "", name);
	foreach(lc, names)
	{
		appendStringInfoString(json, separator);
		escape_json(json, lfirst(lc));
		separator = ", ";
	}
	appendStringInfoChar(json, ']');
}

char *
obx_rule_to_json(const ObxRule *rule)
{
	StringInfoData json;
	List	   *operations = NIL;

	for (int i = 0; i < lengthof(operation_name); i++)
		if (rule->operations & (OBX_CAPTURE_INSERT << i))
			operations = lappend(operations, unconstify(char *, operation_name[i]));

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	append_member(&json, "name", rule->name);
	append_member(&json, "type", rule->type);
	append_names(&json, "operations", operations);
	if (rule->no_key)
		appendStringInfoString(&json, ", \"key\": []");
	else
		append_names(&json, "key", rule->key);
	append_names(&json, "columns", rule->columns);
	append_names(&json, "exclude", rule->exclude);
	append_member(&json, "old_values", old_values_name[rule->old_values]);
	append_member(&json, "condition", rule->condition);
	if (rule->schema_version > 1)
		appendStringInfo(&json, ", \"schema_version\": %d", rule->schema_version);
	appendStringInfoChar(&json, '}');
	return json.data;
}

/* ---- reading ---- */

static void
report_damaged(const char *member)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("trigger's argument is not a capture rule"),
			 errdetail("Its member \"%s\" is missing or of the wrong kind.", member),
			 errhint("Make and remove rules with outbox.capture() and outbox.uncapture().")));
}

static bool
find_member(Jsonb *json, const char *name, JsonbValue *value)
{
	JsonbValue	key;
	JsonbValue *found;

	key.type = jbvString;
	key.val.string.val = unconstify(char *, name);
	key.val.string.len = strlen(name);
	found = findJsonbValueFromContainer(&json->root, JB_FOBJECT, &key);
	if (found == NULL || found->type == jbvNull)
		return false;
	*value = *found;
	return true;
}

static char *
read_string(Jsonb *json, const char *name)
{
	JsonbValue	value;

	if (!find_member(json, name, &value))
		return NULL;
	if (value.type != jbvString)
		report_damaged(name);
	return pnstrdup(value.val.string.val, value.val.string.len);
}

/* "found", if given, tells an empty list from none. */
static List *
read_names(Jsonb *json, const char *name, bool *found)
{
	JsonbValue	value;
	List	   *names = NIL;
	bool		is_there = find_member(json, name, &value);

	if (found != NULL)
		*found = is_there;
	if (!is_there)
		return NIL;
	if (value.type != jbvBinary || !JsonContainerIsArray(value.val.binary.data))
		report_damaged(name);
	for (int i = 0; i < JsonContainerSize(value.val.binary.data); i++)
	{
		JsonbValue *item = getIthJsonbValueFromContainer(value.val.binary.data, i);

		if (item->type != jbvString)
			report_damaged(name);
		names = lappend(names, pnstrdup(item->val.string.val, item->val.string.len));
	}
	return names;
}

static int
read_operations(Jsonb *json)
{
	int			operations = 0;
	ListCell   *lc;

	foreach(lc, read_names(json, "operations", NULL))
		for (int i = 0; i < lengthof(operation_name); i++)
		if (strcmp(lfirst(lc), operation_name[i]) == 0)
			operations |= OBX_CAPTURE_INSERT << i;
	return operations != 0 ? operations : OBX_CAPTURE_ALL;
}

static int
read_schema_version(Jsonb *json)
{
	JsonbValue	value;

	if (!find_member(json, "schema_version", &value))
		return 1;
	if (value.type != jbvNumeric)
		report_damaged("schema_version");
	return DatumGetInt32(DirectFunctionCall1(numeric_int4,
											 NumericGetDatum(value.val.numeric)));
}

ObxRule *
obx_rule_from_json(const char *text)
{
	Jsonb	   *json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
	ObxRule    *rule = palloc0(sizeof(ObxRule));
	char	   *old_values;

	if (!JB_ROOT_IS_OBJECT(json))
		report_damaged("name");
	rule->name = read_string(json, "name");
	if (rule->name == NULL)
		report_damaged("name");
	rule->type = read_string(json, "type");
	rule->operations = read_operations(json);
	rule->key = read_names(json, "key", &rule->no_key);
	rule->no_key &= rule->key == NIL;
	rule->columns = read_names(json, "columns", NULL);
	rule->exclude = read_names(json, "exclude", NULL);
	rule->condition = read_string(json, "condition");
	rule->schema_version = read_schema_version(json);
	old_values = read_string(json, "old_values");
	if (old_values == NULL || !obx_old_values_parse(old_values, &rule->old_values))
		report_damaged("old_values");
	return rule;
}

/* ---- names ---- */

void
obx_rule_check_table_name(const char *name)
{
	if (strchr(name, '*') != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("table name \"%s\" cannot be part of an event type", name),
				 errdetail("In the patterns of a subscription \"*\" stands for any run of characters."),
				 errhint("Give the rule a type.")));
}

/* ---- columns ---- */

AttrNumber
obx_column_require(Relation rel, const char *column, const char *role)
{
	AttrNumber	attnum = get_attnum(RelationGetRelid(rel), column);

	if (attnum == InvalidAttrNumber)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of relation \"%s\" does not exist",
						column, RelationGetRelationName(rel)),
				 errdetail("The capture rule names it in \"%s\".", role),
				 errhint("Names are written as they are stored, without quotes.  If the column was renamed or dropped, make the rule anew: outbox.uncapture(), then outbox.capture().")));
	if (attnum < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
				 errmsg("column \"%s\" of relation \"%s\" is a system column",
						column, RelationGetRelationName(rel)),
				 errdetail("The capture rule names it in \"%s\".", role),
				 errhint("Name columns of the table's own.")));
	if (obx_attribute_is_virtual(TupleDescAttr(RelationGetDescr(rel), attnum - 1)))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("column \"%s\" of relation \"%s\" is a virtual generated column",
						column, RelationGetRelationName(rel)),
				 errdetail("Its value is computed when it is read, so a changed row does not hold it."),
				 errhint("Leave the column out, or make it a STORED one.")));
	return attnum;
}

static AttrNumber *
require_columns(Relation rel, List *names, const char *role)
{
	AttrNumber *columns = palloc(list_length(names) * sizeof(AttrNumber) + 1);
	ListCell   *lc;
	int			i = 0;

	foreach(lc, names)
		columns[i++] = obx_column_require(rel, lfirst(lc), role);
	return columns;
}

AttrNumber *
obx_rule_columns(const ObxRule *rule, Relation rel, int *count)
{
	TupleDesc	tupdesc = RelationGetDescr(rel);
	bool		listed = rule->columns != NIL;
	List	   *names = listed ? rule->columns : rule->exclude;
	AttrNumber *named = require_columns(rel, names, listed ? "columns" : "exclude");
	bool	   *marked = palloc0((tupdesc->natts + 1) * sizeof(bool));
	AttrNumber *columns = palloc((tupdesc->natts + 1) * sizeof(AttrNumber));

	for (int i = 0; i < list_length(names); i++)
		marked[named[i]] = true;

	*count = 0;
	for (AttrNumber attnum = 1; attnum <= tupdesc->natts; attnum++)
	{
		Form_pg_attribute attribute = TupleDescAttr(tupdesc, attnum - 1);

		if (!attribute->attisdropped && !obx_attribute_is_virtual(attribute) &&
			marked[attnum] == listed)
			columns[(*count)++] = attnum;
	}
	return columns;
}

/*
 * An index that is being dropped may be gone, for the table need not be locked.
 */
Oid
obx_rule_default_index(Relation rel)
{
	ListCell   *lc;
	List	   *indexes = RelationGetIndexList(rel);
	Oid			found = InvalidOid;

	foreach(lc, indexes)
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(lc)));
		Form_pg_index index;

		if (!HeapTupleIsValid(tuple))
			continue;
		index = (Form_pg_index) GETSTRUCT(tuple);
		if (index->indisprimary || (index->indisreplident && !OidIsValid(found)))
			found = index->indexrelid;
		ReleaseSysCache(tuple);
	}
	list_free(indexes);
	return found;
}

static AttrNumber *
default_key_columns(Relation rel, int *count)
{
	HeapTuple	tuple = SearchSysCache1(INDEXRELID,
										ObjectIdGetDatum(obx_rule_default_index(rel)));
	Form_pg_index index;
	AttrNumber *columns;

	*count = 0;
	if (!HeapTupleIsValid(tuple))
		return NULL;
	index = (Form_pg_index) GETSTRUCT(tuple);
	*count = index->indnkeyatts;
	columns = palloc(*count * sizeof(AttrNumber));
	for (int i = 0; i < *count; i++)
		columns[i] = index->indkey.values[i];
	ReleaseSysCache(tuple);
	return columns;
}

AttrNumber *
obx_rule_key(const ObxRule *rule, Relation rel, int *count)
{
	*count = 0;
	if (rule->no_key)
		return NULL;
	if (rule->key == NIL)
		return default_key_columns(rel, count);
	*count = list_length(rule->key);
	return require_columns(rel, rule->key, "key");
}
