/*
 * A configuration file: postgresql.conf's form, with sections.
 *
 *     name = value            # a comment
 *     name = 'it''s a text'
 *     name = @/path           the first line of that file: for secrets
 *     [section]
 *     name = value
 *
 * A name that nobody asks for is an error: it is a wish that would not be
 * fulfilled.
 */
#ifndef OBX_BIN_CONFIG_H
#define OBX_BIN_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"

typedef struct ObxConfigEntry
{
	char	   *section;		/* "" before the first one */
	char	   *name;
	char	   *value;
	int			line;
	bool		used;
} ObxConfigEntry;

typedef struct ObxConfig
{
	char	   *path;
	ObxConfigEntry *entries;
	int			count;
	ObxText		error;			/* the first one, with file and line; "" for
								 * none */
} ObxConfig;

/* Reads a file; look at ->error. */
extern ObxConfig *obx_config_read(const char *path);
extern void obx_config_free(ObxConfig *config);

/* The value, which counts as used; NULL if it is not there. */
extern const char *obx_config_get(ObxConfig *config, const char *section, const char *name);

/* Likewise, with what it must be; else the error is set. */
extern const char *obx_config_choice(ObxConfig *config, const char *name, const char *choices,
									 const char *otherwise);
extern int64_t obx_config_number(ObxConfig *config, const char *name, int64_t min, int64_t max,
								 int64_t otherwise);
extern int64_t obx_config_duration(ObxConfig *config, const char *section, const char *name,
								   int64_t min, int64_t max, int64_t otherwise);

/* All of a section count as used, for somebody else knows their names. */
extern void obx_config_use_section(ObxConfig *config, const char *section);

/* Sets the error at what was not used. */
extern void obx_config_refuse_unused(ObxConfig *config);

/* Sets the error, unless there is one, at the name's line, or the file's. */
extern void obx_config_fail(ObxConfig *config, const char *section, const char *name,
							const char *format,...) __attribute__((format(printf, 4, 5)));

#endif							/* OBX_BIN_CONFIG_H */
