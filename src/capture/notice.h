/*
 * NOTICEs where DDL changes what subscribers get.
 */
#ifndef OBX_NOTICE_H
#define OBX_NOTICE_H

#include "nodes/nodes.h"

/*
 * The table's key by default is another one now, or there is none any more.
 * Takes no lock on it.
 */
extern void obx_notice_key(Oid relid);

/*
 * The command gave the table another name or schema, or it has the name of one
 * that was captured and is not captured itself.
 */
extern void obx_notice_names(Oid relid, Node *command);

#endif							/* OBX_NOTICE_H */
