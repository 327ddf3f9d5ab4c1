/*
 * A capture rule as it was asked for, and the catalog's rules of a table.
 */
#ifndef OBX_RULE_H
#define OBX_RULE_H

#include "nodes/pg_list.h"
#include "utils/rel.h"

/* Operations, as a set. */
#define OBX_CAPTURE_INSERT		0x01
#define OBX_CAPTURE_UPDATE		0x02
#define OBX_CAPTURE_DELETE		0x04
#define OBX_CAPTURE_TRUNCATE	0x08
#define OBX_CAPTURE_ROWS		(OBX_CAPTURE_INSERT | OBX_CAPTURE_UPDATE | OBX_CAPTURE_DELETE)
#define OBX_CAPTURE_ALL			(OBX_CAPTURE_ROWS | OBX_CAPTURE_TRUNCATE)

typedef enum ObxOldValues
{
	OBX_OLD_NONE,
	OBX_OLD_CHANGED,
	OBX_OLD_ALL
} ObxOldValues;

/*
 * What a rule's triggers carry as their argument.  Columns are kept by name,
 * because attribute numbers do not survive a dump.
 */
typedef struct ObxRule
{
	char	   *name;
	char	   *type;			/* NULL: table's name and operation */
	int			operations;		/* OBX_CAPTURE_* */
	List	   *key;			/* column names; NIL: the table's own key */
	bool		no_key;			/* not even that */
	List	   *default_key;	/* the table's own key when last looked at */
	bool		has_default_key;	/* false: never looked at */
	List	   *columns;		/* column names; NIL: all */
	List	   *exclude;		/* column names */
	ObxOldValues old_values;
	char	   *condition;		/* as written, for people; NULL for none */
	int			schema_version; /* of the table's columns, from 1 on */
	bool		replicated;		/* its triggers were made ENABLE ALWAYS */
} ObxRule;

extern char *obx_rule_to_json(const ObxRule *rule);

/*
 * NULL if the text is not what obx_rule_to_json() gives, and then, if wanted,
 * the member that is wrong.  Never raises an error, whatever the text is.
 */
extern ObxRule *obx_rule_parse(const char *json, const char **damaged);

/* ereports instead */
extern ObxRule *obx_rule_from_json(const char *json);

/* false if there is no such setting */
extern bool obx_rule_parse_old_values(const char *text, ObxOldValues *value);
extern const char *obx_rule_old_values_name(ObxOldValues value);

/* The names of its operations. */
extern List *obx_rule_operations(const ObxRule *rule);

/* The columns that go into data, in the table's order; *count may be 0. */
extern AttrNumber *obx_rule_columns(const ObxRule *rule, Relation rel, int *count);

/* The columns that form the key, in its order; *count is 0 for no key. */
extern AttrNumber *obx_rule_key(const ObxRule *rule, Relation rel, int *count);

/*
 * The index that tells rows apart by default: the primary key, or else the one
 * that was chosen as replica identity; InvalidOid if there is neither.
 */
extern Oid	obx_rule_default_index(Relation rel);

/* ereports unless a table of that name can lend it to its events' types */
extern void obx_rule_check_table_name(const char *name);

/* The names of what is the key by default at present; NIL for none. */
extern List *obx_rule_default_key(const ObxRule *rule, Relation rel);

/* The number of a column, or ereports; "role" says what it was named as. */
extern AttrNumber obx_rule_require_column(Relation rel, const char *column, const char *role);

#endif							/* OBX_RULE_H */
