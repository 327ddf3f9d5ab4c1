/*
 * A relay's configuration file, read and checked, with its sink.
 */
#ifndef OBX_BIN_SETTINGS_H
#define OBX_BIN_SETTINGS_H

#include "base/config.h"
#include "database/client.h"
#include "sink/sink.h"

/* How long it runs. */
typedef enum ObxRelayMode
{
	OBX_RELAY_FOREVER,
	OBX_RELAY_ONCE,				/* until there is nothing left to do */
	OBX_RELAY_CHECK				/* connects to both sides, and changes nothing */
} ObxRelayMode;

typedef struct ObxRelaySettings
{
	ObxConfig  *config;			/* what is read lives as long as this */
	const char *name;			/* the file's, without its ending */
	ObxClientOptions database;
	ObxForm		form;
	int			window;			/* events that are received and not settled */
	int64_t		batch_wait;		/* until an empty log is asked again */
	int64_t		give_up;		/* without a database; 0: never */
	bool		blocks;			/* at a rejected event */
	const char *listen;			/* NULL for none */
	const ObxSinkModule *module;
	void	   *sink;
	ObxSinkTraits traits;
} ObxRelaySettings;

/*
 * Reads the file.  False if it is wrong: *error, to be freed, says where and
 * why.  What the command line says of the connection wins.
 */
extern bool obx_settings_read(const char *path, const ObxConnectOptions *connect,
							  ObxRelaySettings *settings, char **error);

/* Closes the sink, too. */
extern void obx_settings_free(ObxRelaySettings *settings);

/* The module of that name; NULL and why not. */
extern const ObxSinkModule *obx_module_load(const char *name, char **error);

#endif							/* OBX_BIN_SETTINGS_H */
