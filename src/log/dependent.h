/*
 * Objects of other roles that depend on a table of the extension.
 */
#ifndef OBX_DEPENDENT_H
#define OBX_DEPENDENT_H

/*
 * Describes an object that keeps the table from being dropped: a view, a
 * column of its row type, a foreign key.  NULL if there is none.
 */
extern const char *obx_dependent_describe(Oid relid);

#endif							/* OBX_DEPENDENT_H */
