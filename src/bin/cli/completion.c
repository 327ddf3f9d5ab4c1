/*
 * pg_outbox completion: what bash needs to complete its command line, made of
 * the same table as the help.
 */
#include <stdio.h>

#include "base/log.h"
#include "cli/command.h"
#include "cli/output.h"

static const char script[] =
"_pg_outbox()\n"
"{\n"
"\tlocal current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}\n"
"\tlocal common=\"-d -h -p -U -w -W --dbname --host --port --username --no-password --password --help\"\n"
"\tlocal command= words= i\n"
"\n"
"\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
"\t\tcase ${COMP_WORDS[i]} in\n"
"\t\t\t-d|-h|-p|-U|--dbname|--host|--port|--username) ((i++)) ;;\n"
"\t\t\t-*) ;;\n"
"\t\t\t*) command=${COMP_WORDS[i]}; break ;;\n"
"\t\tesac\n"
"\tdone\n"
"\tcase $command:$previous in\n";

static int
run_completion(ObxCall *call)
{
	(void) call;
	fputs(script, stdout);
	for (int i = 0; obx_commands[i] != NULL; i++)
		for (const ObxOption *option = obx_commands[i]->options; option->name != NULL; option++)
			if (option->choices != NULL)
			{
				printf("\t\t%s:--%s) words=\"", obx_commands[i]->name, option->name);
				for (const char *c = option->choices; *c != '\0'; c++)
					putchar(*c == '|' ? ' ' : *c);
				puts("\" ;;");
			}
	fputs("\t\t:*) words=\"", stdout);
	for (int i = 0; obx_commands[i] != NULL; i++)
		printf("%s ", obx_commands[i]->name);
	puts("$common --version\" ;;");
	for (int i = 0; obx_commands[i] != NULL; i++)
	{
		printf("\t\t%s:*) words=\"", obx_commands[i]->name);
		for (const ObxOption *option = obx_commands[i]->options; option->name != NULL; option++)
			printf("--%s ", option->name);
		puts("$common\" ;;");
	}
	puts("\tesac\n"
		 "\t# shellcheck disable=SC2207\n"
		 "\tCOMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
		 "}\n"
		 "complete -o default -F _pg_outbox pg_outbox");
	obx_output_flush();
	return OBX_EXIT_OK;
}

const ObxCommand obx_completion_command = {
	.name = "completion",
	.usage = "",
	.summary = "print bash's completion: source <(pg_outbox completion)",
	.run = run_completion
};
