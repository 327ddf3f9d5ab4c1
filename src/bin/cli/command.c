/*
 * The command line: psql's connection options before or behind the name of a
 * subcommand, and the subcommand's own.
 */
#include "cli/command.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"

/* getopt_long() returns these; a command's own options count from OWN. */
#define HELP	256
#define VERSION	257
#define OWN		512

static const ObxOption connection_options[] = {
	{'d', "dbname", "DBNAME", NULL, "database, connection string or URI"},
	{'h', "host", "HOST", NULL, "server, or directory of its socket"},
	{'p', "port", "PORT", NULL, "port of the server"},
	{'U', "username", "USER", NULL, "role to connect as"},
	{'w', "no-password", NULL, NULL, "never ask for a password"},
	{'W', "password", NULL, NULL, "ask for a password before connecting"},
	{0}
};

const ObxCommand *const obx_commands[] = {
	&obx_tail_command,
	&obx_top_command,
	&obx_status_command,
	&obx_trace_command,
	&obx_why_command,
	&obx_dead_command,
	&obx_redrive_command,
	&obx_discard_command,
	&obx_seek_command,
	&obx_relay_command,
	&obx_completion_command,
	NULL
};

/* ---- help ---- */

static void
print_option(const ObxOption *option)
{
	char		left[64];

	if (option->letter != 0)
		snprintf(left, sizeof(left), "-%c, --%s%s%s", option->letter, option->name,
				 option->argument != NULL ? " " : "",
				 option->argument != NULL ? option->argument : "");
	else
		snprintf(left, sizeof(left), "    --%s%s%s", option->name,
				 option->argument != NULL ? " " : "",
				 option->argument != NULL ? option->argument : "");
	printf("  %-26s %s", left, option->help);
	if (option->choices != NULL)
		printf(" (%s)", option->choices);
	putchar('\n');
}

static void
print_options(const char *title, const ObxOption *options)
{
	if (options[0].name == NULL)
		return;
	printf("\n%s:\n", title);
	for (; options->name != NULL; options++)
		print_option(options);
}

static void
print_general_help(void)
{
	puts("pg_outbox watches and operates the event log of a PostgreSQL database.\n\n"
		 "Usage:\n  pg_outbox [CONNECTION OPTION]... COMMAND [OPTION]... [ARGUMENT]...\n\n"
		 "Commands:");
	for (int i = 0; obx_commands[i] != NULL; i++)
		printf("  %-11s %s\n", obx_commands[i]->name, obx_commands[i]->summary);
	print_options("Connection options", connection_options);
	puts("\nOther options:\n"
		 "  -?, --help                 show this help, or that of a command\n"
		 "  -V, --version              show the version\n\n"
		 "The environment variables, services and password files of libpq count as in psql.\n"
		 "Exit codes: 0 done, 1 usage or the server refused it, 2 no connection.");
}

static void
print_help(const ObxCommand *command)
{
	printf("pg_outbox %s: %s\n\nUsage:\n  pg_outbox [CONNECTION OPTION]... %s%s%s\n",
		   command->name, command->summary, command->name,
		   command->usage[0] != '\0' ? " " : "", command->usage);
	print_options("Options", command->options);
	print_options("Connection options", connection_options);
	if (command->more != NULL)
		printf("\n%s\n", command->more);
}

/* ---- parsing ---- */

static void refuse(const ObxCommand *command, const char *format, va_list args)
			__attribute__((format(printf, 2, 0), noreturn));

static void
refuse(const ObxCommand *command, const char *format, va_list args)
{
	ObxText		message;

	obx_text_init(&message);
	obx_text_vprintf(&message, format, args);
	obx_error("%s", message.data);
	fprintf(stderr, "Try \"pg_outbox %s%s--help\".\n",
			command != NULL ? command->name : "", command != NULL ? " " : "");
	exit(OBX_EXIT_ERROR);
}

static void refuse_usage(const ObxCommand *command, const char *format,...)
			__attribute__((format(printf, 2, 3), noreturn));

static void
refuse_usage(const ObxCommand *command, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	refuse(command, format, args);
}

void
obx_call_refuse(const ObxCall *call, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	refuse(call->command, format, args);
}

/* getopt's tables of the options, behind what is there. */
static void
add_options(const ObxOption *options, int first_value, struct option *names, int *nnames,
			char *letters)
{
	for (int i = 0; options[i].name != NULL; i++)
	{
		struct option *name = &names[(*nnames)++];
		int			value = first_value > 0 ? first_value + i : options[i].letter;

		name->name = options[i].name;
		name->has_arg = options[i].argument != NULL ? required_argument : no_argument;
		name->flag = NULL;
		name->val = value;
		if (options[i].letter != 0)
		{
			size_t		length = strlen(letters);

			letters[length++] = options[i].letter;
			if (options[i].argument != NULL)
				letters[length++] = ':';
			letters[length] = '\0';
		}
	}
}

/* One of psql's; false if it is none. */
static bool
take_connection_option(ObxConnectOptions *connect, int value, const char *argument)
{
	switch (value)
	{
		case 'd':
			connect->dbname = argument;
			return true;
		case 'h':
			connect->host = argument;
			return true;
		case 'p':
			connect->port = argument;
			return true;
		case 'U':
			connect->user = argument;
			return true;
		case 'w':
			connect->prompt = OBX_PROMPT_NEVER;
			return true;
		case 'W':
			connect->prompt = OBX_PROMPT_ALWAYS;
			return true;
	}
	return false;
}

/* Is it one of "a|b|c"? */
static bool
is_choice(const char *choices, const char *value)
{
	size_t		length = strlen(value);

	for (const char *c = choices;; c++)
	{
		size_t		other = strcspn(c, "|");

		if (other == length && strncmp(c, value, length) == 0)
			return true;
		c += other;
		if (*c == '\0')
			return false;
	}
}

static void
take_own_option(ObxCall *call, int value, const char *argument)
{
	const ObxOption *options = call->command->options;
	int			found = -1;

	for (int i = 0; found < 0 && options[i].name != NULL; i++)
		if (value == OWN + i || (value < HELP && value == options[i].letter))
			found = i;
	if (found < 0)
		refuse_usage(call->command, "unknown option");
	if (options[found].choices != NULL && !is_choice(options[found].choices, argument))
		refuse_usage(call->command, "--%s cannot be \"%s\": it is one of %s",
					 options[found].name, argument, options[found].choices);
	if (argument != NULL && strstr(options[found].argument, "...") != NULL)
	{
		if (call->nrepeated == OBX_MAX_REPEATED)
			refuse_usage(call->command, "--%s is given too often", options[found].name);
		call->repeated[call->nrepeated++] = argument;
	}
	call->given[found] = true;
	call->value[found] = argument;
}

/* Reads options up to the subcommand's name, or of the subcommand. */
static void
read_options(ObxCall *call, int argc, char **argv)
{
	const ObxCommand *command = call->command;
	struct option names[OBX_MAX_OPTIONS + 16];
	char		letters[128] = "";
	int			nnames = 0;
	int			value;

	/* before the name stop at it; behind it, take arguments in any order */
	strcpy(letters, command == NULL ? "+?V" : "?");
	add_options(connection_options, 0, names, &nnames, letters);
	if (command != NULL)
		add_options(command->options, OWN, names, &nnames, letters);
	names[nnames++] = (struct option)
	{
		"help", no_argument, NULL, HELP
	};
	names[nnames++] = (struct option)
	{
		"version", no_argument, NULL, VERSION
	};
	memset(&names[nnames], 0, sizeof(names[nnames]));

	optind = 0;
	opterr = 1;
	while ((value = getopt_long(argc, argv, letters, names, NULL)) != -1)
	{
		/* getopt's word for an error is that of an option, too */
		if (value == HELP || (value == '?' && optopt == 0 && strcmp(argv[optind - 1], "-?") == 0))
		{
			if (command != NULL)
				print_help(command);
			else
				print_general_help();
			exit(OBX_EXIT_OK);
		}
		if (value == VERSION || (command == NULL && value == 'V'))
		{
			puts("pg_outbox " OBX_VERSION);
			exit(OBX_EXIT_OK);
		}
		if (value == '?' || value == ':')
		{
			fprintf(stderr, "Try \"pg_outbox %s%s--help\".\n",
					command != NULL ? command->name : "", command != NULL ? " " : "");
			exit(OBX_EXIT_ERROR);
		}
		if (take_connection_option(&call->connect, value, optarg))
			continue;
		take_own_option(call, value, optarg);
	}
}

static const ObxCommand *
find_command(const char *name)
{
	for (int i = 0; obx_commands[i] != NULL; i++)
		if (strcmp(obx_commands[i]->name, name) == 0)
			return obx_commands[i];
	refuse_usage(NULL, "there is no command \"%s\"", name);
}

int
obx_command_main(int argc, char **argv)
{
	ObxCall		call = {0};
	int			first;

	read_options(&call, argc, argv);
	if (optind >= argc)
		refuse_usage(NULL, "a command is missing");
	if (strcmp(argv[optind], "help") == 0)
	{
		if (optind + 1 < argc)
			print_help(find_command(argv[optind + 1]));
		else
			print_general_help();
		return OBX_EXIT_OK;
	}

	call.command = find_command(argv[optind]);
	first = optind;
	/* getopt's messages begin with this */
	argv[first] = argv[0];
	read_options(&call, argc - first, argv + first);
	call.arguments = argv + first + optind;
	call.narguments = argc - first - optind;
	if (call.narguments < call.command->min_arguments)
		obx_call_refuse(&call, "%s", "an argument is missing");
	if (call.narguments > call.command->max_arguments)
		obx_call_refuse(&call, "too many arguments, the first of them \"%s\"",
						call.arguments[call.command->max_arguments]);
	return call.command->run(&call);
}

/* ---- for the subcommands ---- */

static int
find_option(const ObxCall *call, const char *name)
{
	for (int i = 0; call->command->options[i].name != NULL; i++)
		if (strcmp(call->command->options[i].name, name) == 0)
			return i;
	obx_die(OBX_EXIT_ERROR, "%s has no option --%s", call->command->name, name);
}

const char *
obx_call_value(const ObxCall *call, const char *name)
{
	return call->value[find_option(call, name)];
}

bool
obx_call_has(const ObxCall *call, const char *name)
{
	return call->given[find_option(call, name)];
}

long long
obx_call_number(const ObxCall *call, const char *what, const char *text, long long min)
{
	char	   *end;
	long long	number;

	errno = 0;
	number = strtoll(text, &end, 10);
	if (errno != 0 || end == text ||*end != '\0' || number < min)
		obx_call_refuse(call, "%s must be a number from %lld on, not \"%s\"", what, min, text);
	return number;
}

bool
obx_call_is_format(const ObxCall *call, const char *format)
{
	const char *value = obx_call_value(call, "format");

	return value != NULL && strcmp(value, format) == 0;
}
