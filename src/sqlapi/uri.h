/*
 * Text as a URI reference.
 */
#ifndef OBX_URI_H
#define OBX_URI_H

#include "lib/stringinfo.h"

/* Appends the byte as "%XX". */
extern void obx_uri_append_escaped(StringInfo out, char byte);

/*
 * Returns the string, in UTF-8, as a URI reference: unchanged if it is one, else
 * with as much of it percent-encoded as needed.  The result is never empty: for
 * the empty string it is "/".
 */
extern char *obx_uri_reference(const char *string);

#endif							/* OBX_URI_H */
