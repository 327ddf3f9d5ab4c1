/*
 * The subcommands: what each is called with, and the help, the parser and the
 * shell's completion that are made of that.
 */
#ifndef OBX_BIN_COMMAND_H
#define OBX_BIN_COMMAND_H

#include <stdbool.h>

#include "database/connection.h"

#define OBX_MAX_OPTIONS		12
#define OBX_MAX_REPEATED	100

typedef struct ObxOption
{
	char		letter;			/* 0: it has only a name */
	const char *name;
	const char *argument;		/* NULL: it takes none; "X...": can be
								 * repeated */
	const char *choices;		/* what the argument can be, if that is known */
	const char *help;
} ObxOption;

/* What a subcommand was called with. */
typedef struct ObxCall
{
	const struct ObxCommand *command;
	ObxConnectOptions connect;
	bool		given[OBX_MAX_OPTIONS]; /* in the order of the command's
										 * options */
	const char *value[OBX_MAX_OPTIONS]; /* NULL for an option without argument */
	const char *repeated[OBX_MAX_REPEATED]; /* of the option that may be
											 * repeated */
	int			nrepeated;
	char	  **arguments;
	int			narguments;
} ObxCall;

typedef struct ObxCommand
{
	const char *name;
	const char *usage;			/* what follows the name */
	const char *summary;
	const char *more;			/* behind the options; may be NULL */
	int			min_arguments;
	int			max_arguments;
	int			(*run) (ObxCall *call); /* returns the exit code */
	ObxOption	options[OBX_MAX_OPTIONS];	/* up to one without a name */
} ObxCommand;

/* All, up to a NULL, in the order in which they are shown. */
extern const ObxCommand *const obx_commands[];

extern const ObxCommand obx_tail_command;
extern const ObxCommand obx_top_command;
extern const ObxCommand obx_status_command;
extern const ObxCommand obx_trace_command;
extern const ObxCommand obx_why_command;
extern const ObxCommand obx_dead_command;
extern const ObxCommand obx_redrive_command;
extern const ObxCommand obx_discard_command;
extern const ObxCommand obx_seek_command;
extern const ObxCommand obx_relay_command;
extern const ObxCommand obx_completion_command;

/* Reads the command line and runs what it asks for; the exit code. */
extern int	obx_command_main(int argc, char **argv);

/* The value of an option that the command has; NULL if it was not given. */
extern const char *obx_call_value(const ObxCall *call, const char *name);
extern bool obx_call_has(const ObxCall *call, const char *name);

/* Ends the program, and points to the help. */
extern void obx_call_refuse(const ObxCall *call, const char *format,...)
			__attribute__((format(printf, 2, 3), noreturn));

/* What is no number from min on is refused. */
extern long long obx_call_number(const ObxCall *call, const char *what, const char *text,
								 long long min);

/* Whether --format asks for JSON; it can be one of the option's choices. */
extern bool obx_call_is_format(const ObxCall *call, const char *format);

#endif							/* OBX_BIN_COMMAND_H */
