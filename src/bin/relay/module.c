/*
 * Loading a sink.  Its module lies where the installation has its libraries,
 * found from where the program lies, so that the whole may be moved; or beside
 * the program's objects, in a tree that was built and not installed.
 */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "relay/settings.h"

/* From the directory of the program to that of the modules: by the Makefile. */
#ifndef OBX_SINK_PATH
#define OBX_SINK_PATH "../lib/pg_outbox"
#endif

/* The sinks that there are, and the library that each is built with. */
static const struct
{
	const char *name;
	const char *library;
}			sinks[] =

{
	{
		"stdout", NULL
	},
	{
		"kafka", "librdkafka"
	},
	{
		"http", "libcurl"
	},
	{
		"rabbitmq", "librabbitmq"
	},
	{
		"amqp", "qpid-proton"
	}
};

/* Why a sink is not there. */
static void
tell_missing(ObxText *text, const char *name, const char *directory)
{
	for (size_t i = 0; i < sizeof(sinks) / sizeof(sinks[0]); i++)
		if (strcmp(sinks[i].name, name) == 0 && sinks[i].library != NULL)
		{
			obx_text_printf(text, "the sink \"%s\" is not built in here: its module %s/" OBX_SINK_PATH
							"/%s.so is missing, which is built where %s is found",
							name, directory, name, sinks[i].library);
			return;
		}
	obx_text_printf(text, "there is no sink \"%s\" here: its module %s.so was not built"
					" or is not installed in %s/" OBX_SINK_PATH, name, name, directory);
}

static bool
is_name(const char *name)
{
	return name[0] != '\0' && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(name);
}

/* The directory that the program lies in. */
static bool
find_directory(char *directory, size_t size)
{
	ssize_t		length = readlink("/proc/self/exe", directory, size - 1);
	char	   *slash;

	if (length <= 0)
		return false;
	directory[length] = '\0';
	slash = strrchr(directory, '/');
	if (slash == NULL)
		return false;
	*slash = '\0';
	return true;
}

const ObxSinkModule *
obx_module_load(const char *name, char **error)
{
	static const char *const places[] = {OBX_SINK_PATH, "sink"};
	char		directory[PATH_MAX];
	ObxText text;
	void	   *library = NULL;
	const ObxSinkModule *module;

	obx_text_init(&text);
	if (!is_name(name) || !find_directory(directory, sizeof(directory)))
		obx_text_printf(&text, "there is no sink \"%s\"", name);
	for (int i = 0; text.length == 0 && library == NULL && i < 2; i++)
	{
		char		path[PATH_MAX + 300];

		snprintf(path, sizeof(path), "%s/%s/%s.so", directory, places[i], name);
		if (access(path, R_OK) != 0)
			continue;
		library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
		if (library == NULL)
			obx_text_printf(&text, "the sink \"%s\" could not be loaded: %s", name, dlerror());
	}
	if (library == NULL && text.length == 0)
		tell_missing(&text, name, directory);
	module = library != NULL ? dlsym(library, "obx_sink") : NULL;
	if (module != NULL && module->interface == OBX_SINK_INTERFACE)
	{
		obx_text_free(&text);
		return module;
	}
	if (library != NULL)
	{
		obx_text_printf(&text, "the sink \"%s\" is of another version of pg_outbox", name);
		dlclose(library);
	}
	*error = text.data;

	return NULL;
}
