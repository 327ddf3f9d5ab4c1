/*
 * Running DDL of ours.
 *
 * Through SPI a command would be one that somebody gave, and fire the event
 * triggers of the database: their functions would run with the rights that
 * the command needs, and one that fails would keep our tables from being made
 * or dropped, for ever.  So commands go to PostgreSQL's utility processing as
 * what they are, parts of something larger, as the index of a primary key is
 * a part of CREATE TABLE.
 *
 * Must not know what is made.
 */
#include "postgres.h"

#include "parser/parser.h"
#include "tcop/dest.h"
#include "tcop/utility.h"

#include "base/command.h"
#include "base/compat.h"

Node *
obx_command_parse(const char *command)
{
	List	   *parsed = obx_raw_parser(command);

	if (list_length(parsed) != 1)
		elog(ERROR, "\"%s\" is not one command", command);
	return linitial_node(RawStmt, parsed)->stmt;
}

void
obx_command_run_parsed(Node *parsed, const char *command)
{
	PlannedStmt *statement = makeNode(PlannedStmt);

	statement->commandType = CMD_UTILITY;
	statement->utilityStmt = parsed;
	statement->stmt_location = -1;
	obx_process_utility(statement, command, PROCESS_UTILITY_SUBCOMMAND);
	CommandCounterIncrement();
}

void
obx_command_run(const char *command)
{
	obx_command_run_parsed(obx_command_parse(command), command);
}
