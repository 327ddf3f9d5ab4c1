/*
 * A connection to the database, made of psql's options and environment, and
 * queries that wait for their answer.
 *
 * Must not know sinks, nor what the answers are for.
 */
#ifndef OBX_BIN_CONNECTION_H
#define OBX_BIN_CONNECTION_H

#include <stdbool.h>

#include <libpq-fe.h>

typedef enum ObxPrompt
{
	OBX_PROMPT_IF_NEEDED,
	OBX_PROMPT_NEVER,
	OBX_PROMPT_ALWAYS
} ObxPrompt;

typedef struct ObxConnectOptions
{
	const char *dbname;			/* a name, a connection string or an URI */
	const char *host;
	const char *port;
	const char *user;
	ObxPrompt	prompt;
	char	   *password;		/* once it was asked for */
} ObxConnectOptions;

#define OBX_CONNECT_PARAMETERS	8

/* Both arrays have OBX_CONNECT_PARAMETERS places, and end with a NULL. */
extern void obx_connect_parameters(const ObxConnectOptions *options,
								   const char **names, const char **values);

/*
 * Connects, and asks for a password where psql would.  NULL if that failed;
 * *error is then why, to be freed.
 */
extern PGconn *obx_connect(ObxConnectOptions *options, char **error);

/* Likewise; without a connection the program ends. */
extern PGconn *obx_connect_or_die(ObxConnectOptions *options);

/*
 * Runs a statement with text parameters.  An error ends the program; of a lost
 * connection NULL is returned if "survive".
 */
extern PGresult *obx_query(PGconn *conn, bool survive, const char *sql,
						   int nparams, const char *const *params);

/*
 * Calls the function for each row, which need not fit into memory at once.
 * False if the connection was lost, and "survive".
 */
typedef void (*ObxRowFunction) (const PGresult *row, void *context);

extern bool obx_query_rows(PGconn *conn, bool survive, const char *sql, int nparams,
						   const char *const *params, ObxRowFunction take, void *context);

/* The only value of the only row; NULL for SQL's NULL, or for no row. */
extern char *obx_query_value(PGconn *conn, const char *sql, int nparams,
							 const char *const *params);

#endif							/* OBX_BIN_CONNECTION_H */
