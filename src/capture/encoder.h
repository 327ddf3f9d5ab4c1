/*
 * Rows to jsonb, by an encoder that is prepared once for a set of columns.
 */
#ifndef OBX_ENCODER_H
#define OBX_ENCODER_H

#include "access/tupdesc.h"
#include "utils/jsonb.h"

typedef struct ObxEncoder ObxEncoder;

/*
 * Prepares an encoder for those columns of a row; it lives in the current
 * memory context and refers to nothing of the descriptor.  Looks up catalogs.
 */
extern ObxEncoder *obx_encoder_create(TupleDesc tupdesc, const AttrNumber *columns,
									  int count);

/*
 * The object of the encoder's columns, byte for byte what to_jsonb(row) gives
 * for them; in the current memory context.  Arrays are indexed by attribute
 * number minus one, as in a slot.  "include", if given, leaves out the columns
 * for which it is false.
 *
 * Looks up no catalog, except for composites and types with a cast to json.
 * May call output functions and casts of users.
 */
extern Jsonb *obx_encoder_encode(ObxEncoder *encoder, const Datum *values,
								 const bool *nulls, const bool *include);

#endif							/* OBX_ENCODER_H */
