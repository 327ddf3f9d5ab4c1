/*
 * A rule that is there already, against one that is asked for.
 */
#ifndef OBX_REDEFINE_H
#define OBX_REDEFINE_H

#include "utils/rel.h"

#include "capture/rule.h"

/* Was a rule of that name made for the table? */
extern bool obx_redefine_is_there(Relation rel, const char *name);

/*
 * What differs between the existing rule of that name and the wanted one, a
 * line for each property; NULL for nothing.  Looks the condition up, as
 * obx_rule_create() does.
 */
extern char *obx_redefine_describe(Relation rel, const ObxRule *wanted);

#endif							/* OBX_REDEFINE_H */
