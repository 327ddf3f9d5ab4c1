/*
 * Text as an URI-reference.
 */
#ifndef OBX_URI_H
#define OBX_URI_H

#include "lib/stringinfo.h"

/* Appends the byte as "%XX". */
extern void obx_uri_append_escaped(StringInfo out, char byte);

/*
 * The text, in UTF-8, as an URI-reference: itself if it is one, and else with
 * as much of it percent-encoded as it takes.  Never empty: for the empty text
 * it is "/".
 */
extern char *obx_uri_reference(const char *text);

#endif							/* OBX_URI_H */
