/*
 * Bytes that come from outside SQL.
 *
 * PostgreSQL verifies what clients send as text of the database's encoding, but
 * not all that a session knows: settings of a connection were read before the
 * encoding was known, names of roles are shared by databases of all encodings,
 * and messages may come from libraries.  What enters a table without being
 * verified can be read and restored by nobody.
 *
 * Must not know what the bytes are for.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/encoding.h"

static bool
is_text(const char *string)
{
	return pg_verify_mbstr(GetDatabaseEncoding(), string, strlen(string), true);
}

void
obx_encoding_require(const char *string, const char *source)
{
	if (is_text(string))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
			 errmsg("invalid byte sequence for encoding \"%s\" in %s",
					GetDatabaseEncodingName(), source),
			 errdetail("It would become part of an event, which nobody could read or restore."),
			 errhint("Give it in the encoding of the database.")));
}

char *
obx_encoding_clean(const char *string)
{
	char	   *clean;

	if (string == NULL || is_text(string))
		return unconstify(char *, string);
	clean = pstrdup(string);
	for (char *p = clean; *p != '\0'; p++)
		if (IS_HIGHBIT_SET(*p))
			*p = '?';
	return clean;
}
