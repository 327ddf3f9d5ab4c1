/*
 * The client program of pg_outbox.
 */
#include <locale.h>
#include <signal.h>

#include "cli/command.h"

int
main(int argc, char **argv)
{
	setlocale(LC_CTYPE, "");
	/* a write to a closed pipe fails, and says so where it is made */
	signal(SIGPIPE, SIG_IGN);
	return obx_command_main(argc, argv);
}
