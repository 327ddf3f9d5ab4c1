/*
 * Running DDL of ours.
 */
#ifndef OBX_COMMAND_H
#define OBX_COMMAND_H

#include "nodes/parsenodes.h"

/*
 * Runs one utility command, as a part of what the caller does: event triggers,
 * other people's and our own, do not hear of it.  The caller has assumed the
 * identity that it runs as, and has an active snapshot.  Names in the command
 * are qualified.
 */
extern void obx_command_run(const char *command);

/* The same in two steps, for callers that change the parsed command. */
extern Node *obx_command_parse(const char *command);
extern void obx_command_run_parsed(Node *parsed, const char *command);

#endif							/* OBX_COMMAND_H */
