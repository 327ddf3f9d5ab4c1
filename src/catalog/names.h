/*
 * Where the extension's objects are in this database, and whether it is
 * installed at all.
 *
 * OIDs are looked up once and kept until the relcache says that one of them
 * changed.  Knows names; knows nothing of what the objects are for.
 */
#ifndef OBX_NAMES_H
#define OBX_NAMES_H

#define OBX_SCHEMA_NAME "outbox"
#define OBX_EXTENSION_NAME "pg_outbox"

typedef enum ObxObject
{
	OBX_EVENT,
	OBX_EVENT_DEFAULT,
	OBX_EVENT_DEFAULT_TIME_IDX,
	OBX_EVENT_ID_SEQ,
	OBX_GENERATION,
	OBX_GENERATION_PKEY,
	OBX_SEGMENT,
	OBX_SEGMENT_PKEY,
	OBX_TALLY,
	OBX_TALLY_XID_IDX,
	OBX_SUBSCRIPTION,
	OBX_SUBSCRIPTION_PKEY,
	OBX_SUBSCRIPTION_NAME_KEY,
	OBX_SUBSCRIPTION_ID_SEQ,
	OBX_PROGRESS,
	OBX_PROGRESS_PKEY,
	OBX_RECEIPT_SEQ,
	OBX_DELIVERY,
	OBX_DELIVERY_PKEY,
	OBX_DELIVERY_OPEN_IDX,
	OBX_DELIVERY_KEY_IDX,
	OBX_WINDOW,
	OBX_WINDOW_KEY_IDX,
	OBX_WINDOW_DUE_IDX,
	OBX_REGISTERED_TYPE,
	OBX_REGISTERED_TYPE_PKEY,
	OBX_FAILURE,
	OBX_FAILURE_PKEY,
	OBX_SCHEMA_VERSION,
	OBX_SCHEMA_VERSION_PKEY,
	OBX_SCHEDULE,
	OBX_SCHEDULE_PKEY,
	OBX_SCHEDULE_DUE_IDX,
	OBX_SCHEDULE_KEY_IDX,
	OBX_SCHEDULE_ID_SEQ,
	OBX_SEEN_0,					/* these are in turn, as are their indexes */
	OBX_SEEN_1,
	OBX_SEEN_2,
	OBX_SEEN_0_IDX,
	OBX_SEEN_1_IDX,
	OBX_SEEN_2_IDX,
	OBX_SEEN_TURN,
	OBX_SEEN_TURN_IDX,
	OBX_OBJECT_COUNT
} ObxObject;

extern void obx_names_init(void);

/* OID of the extension, or InvalidOid where it is not installed. */
extern Oid	obx_extension_find(void);

/*
 * Is it of the version that this library was built for?  If not, *version is
 * its own, in the current memory context.
 */
extern bool obx_extension_is_current(char **version);

/* The version that this library was built for. */
extern const char *obx_library_version(void);

/* OID of the schema "outbox"; ereports where the extension is missing. */
extern Oid	obx_schema_require(void);

/* OID of a relation of ours; ereports where the extension is missing. */
extern Oid	obx_object_require(ObxObject object);

/* OIDs of the row type outbox.event and of its array type. */
extern Oid	obx_event_type_require(void);
extern Oid	obx_event_array_type_require(void);

#endif							/* OBX_NAMES_H */
