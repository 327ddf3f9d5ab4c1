/*
 * Numbers in numeric's stored form.
 *
 * PostgreSQL keeps the layout to itself, but it is the same on disk since 9.1
 * and pg_upgrade relies on it.  After the length word comes a header of 16
 * bits; its two highest are 10 for the short form, 11 for NaN and infinities.
 * In the short form follow: sign (1 bit), digits after the point (6), sign of
 * the weight (1), weight (6).  Then base-10000 digits, most significant first,
 * without zeros at either end; the weight is the first one's power of 10000.
 *
 * Pure: no memory, no errors; but with OBX_PLAIN, PostgreSQL's own cast does it.
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "base/compat.h"
#include "capture/numeric.h"

#define SHORT_FORM		0x8000
#define SHORT_NEGATIVE	0x2000
#define SPECIAL_BITS	0xC000
#define BASE			10000

#ifndef OBX_PLAIN

int
obx_numeric_from_int64(char *out, int64 value)
{
	uint64		rest = value < 0 ? -(uint64) value : (uint64) value;
	int16		digits[5];		/* least significant first */
	int			count = 0;
	int			skip = 0;
	uint16		header = SHORT_FORM;
	int16	   *stored = (int16 *) (out + VARHDRSZ);
	int			size;

	while (rest != 0)
	{
		digits[count++] = rest % BASE;
		rest /= BASE;
	}
	while (skip < count && digits[skip] == 0)
		skip++;

	if (count > 0)
		header |= count - 1;
	if (value < 0)
		header |= SHORT_NEGATIVE;

	*stored++ = (int16) header;
	for (int i = count - 1; i >= skip; i--)
		*stored++ = digits[i];
	size = (char *) stored - out;
	SET_VARSIZE(out, size);
	return size;
}

#else

int
obx_numeric_from_int64(char *out, int64 value)
{
	Numeric		number = DatumGetNumeric(DirectFunctionCall1(int8_numeric, Int64GetDatum(value)));

	memcpy(out, number, VARSIZE(number));
	return VARSIZE(number);
}

#endif							/* OBX_PLAIN */

bool
obx_numeric_is_special(const char *number)
{
	uint16		header;

	/* it may lie at an odd address */
	memcpy(&header, number, sizeof(header));
	return (header & SPECIAL_BITS) == SPECIAL_BITS;
}
