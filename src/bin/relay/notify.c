/*
 * Telling systemd, by its protocol: a datagram to the socket that it names.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "relay/monitor.h"

void
obx_notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int			out;

	if (path == NULL || path[0] == '\0' || strlen(path) >= sizeof(address.sun_path))
		return;
	strcpy(address.sun_path, path);
	/* an abstract one */
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	out = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (out < 0)
		return;
	sendto(out, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *) &address,
		   offsetof(struct sockaddr_un, sun_path) + strlen(path));
	close(out);
}

int64_t
obx_notify_interval(void)
{
	const char *interval = getenv("WATCHDOG_USEC");
	const char *pid = getenv("WATCHDOG_PID");

	if (interval == NULL || (pid != NULL && atoll(pid) != getpid()))
		return 0;
	return atoll(interval) / 2;
}
