/*
 * Bytes that come from outside SQL.
 */
#ifndef OBX_ENCODING_H
#define OBX_ENCODING_H

/*
 * Raises an error unless the string is text of the database's encoding.
 * "source" says where it comes from, as in "setting \"outbox.headers\"".
 */
extern void obx_encoding_require(const char *string, const char *source);

/*
 * The string (NULL for NULL), or, if it is no text of the database's encoding, a copy with a
 * question mark for each byte that is not ASCII.
 */
extern char *obx_encoding_clean(const char *string);

#endif							/* OBX_ENCODING_H */
