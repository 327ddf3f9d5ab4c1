/*
 * A capture rule as it was asked for: to and from the JSON argument of its
 * triggers, and its column names resolved against a table.
 *
 * Nothing but the argument is stored of a rule.  So rules need no table of
 * their own, go with the table, and come back with a dump of it.
 *
 * Must not know events.
 */
#include "postgres.h"

#include <ctype.h>

#include "access/htup_details.h"
#include "catalog/pg_index.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
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
obx_rule_parse_old_values(const char *text, ObxOldValues *value)
{
	for (int i = 0; i < lengthof(old_values_name); i++)
		if (strcmp(text, old_values_name[i]) == 0)
		{
			*value = i;
			return true;
		}
	return false;
}

const char *
obx_rule_old_values_name(ObxOldValues value)
{
	return old_values_name[value];
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
append_list(StringInfo json, const char *name, List *names)
{
	const char *separator = "";
	ListCell   *lc;

	appendStringInfo(json, "%s\"%s\": [", json->len > 1 ? ", " : "", name);
	foreach(lc, names)
	{
		appendStringInfoString(json, separator);
		escape_json(json, lfirst(lc));
		separator = ", ";
	}
	appendStringInfoChar(json, ']');
}

static void
append_names(StringInfo json, const char *name, List *names)
{
	if (names == NIL)
		append_member(json, name, NULL);
	else
		append_list(json, name, names);
}

List *
obx_rule_operations(const ObxRule *rule)
{
	List	   *operations = NIL;

	for (int i = 0; i < lengthof(operation_name); i++)
		if (rule->operations & (OBX_CAPTURE_INSERT << i))
			operations = lappend(operations, unconstify(char *, operation_name[i]));
	return operations;
}

char *
obx_rule_to_json(const ObxRule *rule)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	append_member(&json, "name", rule->name);
	append_member(&json, "type", rule->type);
	append_names(&json, "operations", obx_rule_operations(rule));
	if (rule->no_key)
		appendStringInfoString(&json, ", \"key\": []");
	else
		append_names(&json, "key", rule->key);
	if (rule->has_default_key)
		append_list(&json, "default_key", rule->default_key);
	append_names(&json, "columns", rule->columns);
	append_names(&json, "exclude", rule->exclude);
	append_member(&json, "old_values", old_values_name[rule->old_values]);
	append_member(&json, "condition", rule->condition);
	if (rule->schema_version > 1)
		appendStringInfo(&json, ", \"schema_version\": %d", rule->schema_version);
	if (rule->replicated)
		appendStringInfoString(&json, ", \"replicated\": true");
	appendStringInfoChar(&json, '}');
	return json.data;
}

/* ---- reading ---- */

/* A rule's text, and the first member of it that is not as it must be. */
typedef struct Reader
{
	Jsonb	   *json;
	const char *damaged;		/* NULL: nothing so far */
} Reader;

/*
 * Can the text be read as jsonb without an error?  Beyond the syntax, jsonb
 * refuses large numbers and deep nesting; a rule has neither.
 */
static bool
is_readable(const char *text)
{
	bool		in_string = false;
	int			depth = 0;
	int			digits = 0;

	for (const char *c = text; *c != '\0'; c++)
	{
		if (in_string)
		{
			if (*c == '\\' && c[1] != '\0')
				c++;
			else if (*c == '"')
				in_string = false;
			continue;
		}
		digits = isdigit((unsigned char) *c) ? digits + 1 : 0;
		if (*c == '"')
			in_string = true;
		else if (*c == '{' || *c == '[')
			depth++;
		else if (*c == '}' || *c == ']')
			depth--;
		if (depth > 2 || digits > 9 || strchr("+-.E", *c) != NULL ||
			(*c == 'e' && c > text &&isdigit((unsigned char) c[-1])))
			return false;
	}
	return pg_verify_mbstr(GetDatabaseEncoding(), text, strlen(text), true) &&
		obx_json_is_valid(pstrdup(text));
}

static void
note_damaged(Reader *reader, const char *member)
{
	if (reader->damaged == NULL)
		reader->damaged = member;
}

static bool
find_member(Reader *reader, const char *name, JsonbValue *value)
{
	JsonbValue	key;
	JsonbValue *found;

	key.type = jbvString;
	key.val.string.val = unconstify(char *, name);
	key.val.string.len = strlen(name);
	found = findJsonbValueFromContainer(&reader->json->root, JB_FOBJECT, &key);
	if (found == NULL || found->type == jbvNull)
		return false;
	*value = *found;
	return true;
}

static char *
read_string(Reader *reader, const char *name)
{
	JsonbValue	value;

	if (!find_member(reader, name, &value))
		return NULL;
	if (value.type == jbvString)
		return pnstrdup(value.val.string.val, value.val.string.len);
	note_damaged(reader, name);
	return NULL;
}

/* "found", if given, tells an empty list from none. */
static List *
read_names(Reader *reader, const char *name, bool *found)
{
	JsonbValue	value;
	List	   *names = NIL;
	bool		is_there = find_member(reader, name, &value);

	if (found != NULL)
		*found = is_there;
	if (!is_there)
		return NIL;
	if (value.type != jbvBinary || !JsonContainerIsArray(value.val.binary.data))
	{
		note_damaged(reader, name);
		return NIL;
	}
	for (int i = 0; i < JsonContainerSize(value.val.binary.data); i++)
	{
		JsonbValue *item = getIthJsonbValueFromContainer(value.val.binary.data, i);

		if (item->type == jbvString)
			names = lappend(names, pnstrdup(item->val.string.val, item->val.string.len));
		else
			note_damaged(reader, name);
	}
	return names;
}

static int
read_operations(Reader *reader)
{
	int			operations = 0;
	ListCell   *lc;

	foreach(lc, read_names(reader, "operations", NULL))
		for (int i = 0; i < lengthof(operation_name); i++)
		if (strcmp(lfirst(lc), operation_name[i]) == 0)
			operations |= OBX_CAPTURE_INSERT << i;
	return operations != 0 ? operations : OBX_CAPTURE_ALL;
}

static int
read_schema_version(Reader *reader)
{
	JsonbValue	value;

	if (!find_member(reader, "schema_version", &value))
		return 1;
	if (value.type == jbvNumeric)
		return DatumGetInt32(DirectFunctionCall1(numeric_int4,
												 NumericGetDatum(value.val.numeric)));
	note_damaged(reader, "schema_version");
	return 1;
}

static bool
read_flag(Reader *reader, const char *name)
{
	JsonbValue	value;

	if (!find_member(reader, name, &value))
		return false;
	if (value.type != jbvBool)
		note_damaged(reader, name);
	return value.type == jbvBool && value.val.boolean;
}

static void
read_members(Reader *reader, ObxRule *rule)
{
	char	   *old_values = read_string(reader, "old_values");

	rule->name = read_string(reader, "name");
	if (rule->name == NULL)
		note_damaged(reader, "name");
	rule->type = read_string(reader, "type");
	rule->operations = read_operations(reader);
	rule->key = read_names(reader, "key", &rule->no_key);
	rule->no_key &= rule->key == NIL;
	rule->default_key = read_names(reader, "default_key", &rule->has_default_key);
	rule->columns = read_names(reader, "columns", NULL);
	rule->exclude = read_names(reader, "exclude", NULL);
	rule->condition = read_string(reader, "condition");
	rule->schema_version = read_schema_version(reader);
	rule->replicated = read_flag(reader, "replicated");
	if (old_values == NULL || !obx_rule_parse_old_values(old_values, &rule->old_values))
		note_damaged(reader, "old_values");
}

ObxRule *
obx_rule_parse(const char *text, const char **damaged)
{
	ObxRule    *rule = palloc0(sizeof(ObxRule));
	Reader		reader = {0};

	if (is_readable(text))
		reader.json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
	if (reader.json == NULL || !JB_ROOT_IS_OBJECT(reader.json))
		note_damaged(&reader, "name");
	else
		read_members(&reader, rule);
	if (damaged != NULL)
		*damaged = reader.damaged;
	return reader.damaged == NULL ? rule : NULL;
}

ObxRule *
obx_rule_from_json(const char *text)
{
	const char *damaged;
	ObxRule    *rule = obx_rule_parse(text, &damaged);

	if (rule == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("trigger's argument is not a capture rule"),
				 errdetail("Its member \"%s\" is missing or of the wrong kind.", damaged),
				 errhint("Make and remove rules with outbox.capture() and outbox.uncapture().")));
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
obx_rule_require_column(Relation rel, const char *column, const char *role)
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
		columns[i++] = obx_rule_require_column(rel, lfirst(lc), role);
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

List *
obx_rule_default_key(const ObxRule *rule, Relation rel)
{
	AttrNumber *columns;
	List	   *names = NIL;
	int			count;

	if (rule->no_key || rule->key != NIL)
		return NIL;
	columns = default_key_columns(rel, &count);
	for (int i = 0; i < count; i++)
		names = lappend(names, get_attname(RelationGetRelid(rel), columns[i], false));
	return names;
}
