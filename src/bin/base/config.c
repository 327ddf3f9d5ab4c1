/*
 * Reading a configuration file.  The first mistake counts; with it nothing of
 * the file is to be used.
 */
#include "base/config.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* ---- errors ---- */

static void fail_at(ObxConfig *config, int line, const char *format, va_list args)
			__attribute__((format(printf, 3, 0)));

static void
fail_at(ObxConfig *config, int line, const char *format, va_list args)
{
	if (config->error.length > 0)
		return;
	obx_text_printf(&config->error, "%s", config->path);
	if (line > 0)
		obx_text_printf(&config->error, ", line %d", line);
	obx_text_append_string(&config->error, ": ");
	obx_text_vprintf(&config->error, format, args);
}

static void fail_line(ObxConfig *config, int line, const char *format,...)
			__attribute__((format(printf, 3, 4)));

static void
fail_line(ObxConfig *config, int line, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	fail_at(config, line, format, args);
	va_end(args);
}

static ObxConfigEntry *
find_entry(ObxConfig *config, const char *section, const char *name)
{
	for (int i = 0; i < config->count; i++)
		if (strcmp(config->entries[i].section, section) == 0 &&
			strcmp(config->entries[i].name, name) == 0)
			return &config->entries[i];
	return NULL;
}

void
obx_config_fail(ObxConfig *config, const char *section, const char *name, const char *format,...)
{
	ObxConfigEntry *entry = find_entry(config, section, name);
	va_list		args;

	va_start(args, format);
	fail_at(config, entry != NULL ? entry->line : 0, format, args);
	va_end(args);
}

/* ---- lines ---- */

static char *
skip_space(char *c)
{
	while (isspace((unsigned char) *c))
		c++;
	return c;
}

static bool
is_end(const char *c)
{
	return *c == '\0' || *c == '#';
}

/* A secret lies in a file of its own, which others cannot read. */
static char *
read_secret(ObxConfig *config, int line, const char *path)
{
	FILE	   *file = fopen(path, "r");
	char	   *value = NULL;
	size_t		size = 0;

	if (file == NULL || getline(&value, &size, file) < 0)
		fail_line(config, line, "could not read \"%s\": %s", path,
				  file == NULL ? strerror(errno) : "it is empty");
	if (file != NULL)
		fclose(file);
	if (value == NULL)
		return obx_copy_string("");
	value[strcspn(value, "\r\n")] = '\0';
	return value;
}

/* In quotes, where a quote is doubled or has a backslash before it. */
static char *
read_quoted(ObxConfig *config, int line, char *c)
{
	ObxText		value;

	obx_text_init(&value);
	for (c++; *c != '\0'; c++)
	{
		if (*c == '\'' && c[1] != '\'')
			break;
		if ((*c == '\'' || *c == '\\') && c[1] != '\0')
			c++;
		obx_text_append_char(&value, *c);
	}
	if (*c != '\'')
		fail_line(config, line, "a quote is not closed");
	else if (!is_end(skip_space(c + 1)))
		fail_line(config, line, "something stands behind the value");
	return value.data;
}

static char *
read_plain(ObxConfig *config, int line, char *c)
{
	size_t		length = strcspn(c, "#");
	char	   *value;

	while (length > 0 && isspace((unsigned char) c[length - 1]))
		length--;
	c[length] = '\0';
	value = c[0] == '@' ? read_secret(config, line, c + 1) : obx_copy_string(c);
	if (length == 0)
		fail_line(config, line, "a value is missing");
	return value;
}

static void
add_entry(ObxConfig *config, const char *section, const char *name, char *value, int line)
{
	ObxConfigEntry *former = find_entry(config, section, name);
	ObxConfigEntry *entry;

	if (former != NULL)
		fail_line(config, line, "\"%s\" is set a second time, after line %d", name, former->line);
	config->entries = obx_reallocate(config->entries, (config->count + 1) * sizeof(ObxConfigEntry));
	entry = &config->entries[config->count++];
	entry->section = obx_copy_string(section);
	entry->name = obx_copy_string(name);
	entry->value = value;
	entry->line = line;
	entry->used = false;
}

/* Returns the section that holds from here on. */
static char *
read_section(ObxConfig *config, int line, char *c, char *former)
{
	char	   *end = strchr(c, ']');

	if (end == NULL || end == c + 1 || !is_end(skip_space(end + 1)))
	{
		fail_line(config, line, "a section is a name in brackets");
		return former;
	}
	*end = '\0';
	free(former);
	return obx_copy_string(c + 1);
}

static void
read_setting(ObxConfig *config, int line, char *c, const char *section)
{
	char	   *name = c;
	char	   *end;

	while (isalnum((unsigned char) *c) || (*c != '\0' && strchr("._-", *c) != NULL))
		c++;
	end = c;
	c = skip_space(c);
	if (end == name || (c == end && *c != '='))
	{
		fail_line(config, line, "this is no \"name = value\"");
		return;
	}
	if (*c == '=')
		c = skip_space(c + 1);
	*end = '\0';
	add_entry(config, section, name, *c == '\'' ? read_quoted(config, line, c) :
			  read_plain(config, line, c), line);
}

ObxConfig *
obx_config_read(const char *path)
{
	ObxConfig  *config = obx_allocate(sizeof(ObxConfig));
	FILE	   *file = fopen(path, "r");
	char	   *section = obx_copy_string("");
	char	   *line = NULL;
	size_t		size = 0;
	int			number = 0;

	config->path = obx_copy_string(path);
	obx_text_init(&config->error);
	if (file == NULL)
		fail_line(config, 0, "could not read it: %s", strerror(errno));
	while (file != NULL && getline(&line, &size, file) >= 0)
	{
		char	   *c = skip_space(line);

		number++;
		if (*c == '[')
			section = read_section(config, number, c, section);
		else if (!is_end(c))
			read_setting(config, number, c, section);
	}
	if (file != NULL)
	{
		if (ferror(file))
			fail_line(config, 0, "could not read it: %s", strerror(errno));
		fclose(file);
	}
	free(line);
	free(section);
	return config;
}

void
obx_config_free(ObxConfig *config)
{
	for (int i = 0; i < config->count; i++)
	{
		free(config->entries[i].section);
		free(config->entries[i].name);
		free(config->entries[i].value);
	}
	free(config->entries);
	free(config->path);
	obx_text_free(&config->error);
	free(config);
}

/* ---- values ---- */

const char *
obx_config_get(ObxConfig *config, const char *section, const char *name)
{
	ObxConfigEntry *entry = find_entry(config, section, name);

	if (entry == NULL)
		return NULL;
	entry->used = true;
	return entry->value;
}

const char *
obx_config_choice(ObxConfig *config, const char *name, const char *choices, const char *otherwise)
{
	const char *value = obx_config_get(config, "", name);
	size_t		length;

	if (value == NULL)
		return otherwise;
	length = strlen(value);
	for (const char *c = choices; length > 0; c += strcspn(c, "|") + 1)
	{
		size_t		other = strcspn(c, "|");

		if (other == length && strncmp(c, value, length) == 0)
			return value;
		if (c[other] == '\0')
			break;
	}
	obx_config_fail(config, "", name, "\"%s\" cannot be \"%s\": it is one of %s", name, value, choices);
	return otherwise;
}

int64_t
obx_config_number(ObxConfig *config, const char *name, int64_t min, int64_t max, int64_t otherwise)
{
	const char *value = obx_config_get(config, "", name);
	char	   *end;
	long long	number;

	if (value == NULL)
		return otherwise;
	errno = 0;
	number = strtoll(value, &end, 10);
	if (errno == 0 && end != value && *end == '\0' && number >= min && number <= max)
		return number;
	obx_config_fail(config, "", name, "\"%s\" must be a number from %lld to %lld, not \"%s\"",
					name, (long long) min, (long long) max, value);
	return otherwise;
}

int64_t
obx_config_duration(ObxConfig *config, const char *section, const char *name,
					int64_t min, int64_t max, int64_t otherwise)
{
	const char *value = obx_config_get(config, section, name);
	int64_t		duration;

	if (value == NULL)
		return otherwise;
	if (obx_duration_parse(value, &duration) && duration >= min && duration <= max)
		return duration;
	obx_config_fail(config, section, name,
					"\"%s\" must be a time from %lld to %lld ms, such as 20ms, 30s or 5min, not \"%s\"",
					name, (long long) (min / OBX_MILLISECOND), (long long) (max / OBX_MILLISECOND), value);
	return otherwise;
}

void
obx_config_use_section(ObxConfig *config, const char *section)
{
	for (int i = 0; i < config->count; i++)
		if (strcmp(config->entries[i].section, section) == 0)
			config->entries[i].used = true;
}

void
obx_config_refuse_unused(ObxConfig *config)
{
	for (int i = 0; i < config->count; i++)
	{
		const ObxConfigEntry *entry = &config->entries[i];

		if (entry->used)
			continue;
		if (entry->section[0] == '\0')
			fail_line(config, entry->line, "there is no setting \"%s\"", entry->name);
		else
			fail_line(config, entry->line, "there is no setting \"%s\" in the section \"%s\"",
					  entry->name, entry->section);
	}
}
