/*
 * Numbers in numeric's stored form, without the detour over text.
 */
#ifndef OBX_NUMERIC_H
#define OBX_NUMERIC_H

/* Room that obx_numeric_from_int64() may need. */
#define OBX_NUMBER_INT64_SIZE 16

/*
 * Writes an int64 as a numeric to "out", which is aligned to four bytes;
 * returns its size.  The same bytes as numeric_in() gives.
 */
extern int	obx_numeric_from_int64(char *out, int64 value);

/* Is a numeric, given without its length word, NaN or an infinity? */
extern bool obx_numeric_is_special(const char *number);

#endif							/* OBX_NUMERIC_H */
