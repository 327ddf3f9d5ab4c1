/*
 * Rules that tables below lack, in the whole database.
 *
 * The event triggers give tables below their rules when a command makes them,
 * see inherit.c.  But pg_upgrade restores a database in an order of its own:
 * its tables are there before our event triggers, and pg_dump leaves clones of
 * triggers out.  So a sequencer, when it begins to serve a database, looks
 * once whether tables below lack anything.
 *
 * Locks: those of inherit.c, without waiting, so that no session waits for the
 * sequencer, nor the sequencer for a session.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/identity.h"
#include "base/table.h"
#include "capture/inherit.h"
#include "capture/rule.h"
#include "capture/spread.h"

/* Clones, and so locks on tables, of one transaction. */
#define MOST_CLONES 200

/*
 * Tables below one with rules that lack a trigger which PostgreSQL does not
 * make by itself, those above first.
 */
#define LACKING_QUERY \
	"WITH RECURSIVE ours AS MATERIALIZED (" \
	" SELECT t.oid, t.tgrelid, t.tgparentid," \
	"  (t.tgtype::pg_catalog.int4 OPERATOR(pg_catalog.&) 1) OPERATOR(pg_catalog.=) 1 AS is_row" \
	" FROM pg_catalog.pg_trigger t" \
	" WHERE t.tgfoid OPERATOR(pg_catalog.=) 'outbox.capture_row()'::pg_catalog.regprocedure" \
	" OR t.tgfoid OPERATOR(pg_catalog.=) 'outbox.capture_statement()'::pg_catalog.regprocedure" \
	"), below (root, relation, depth) AS (" \
	" SELECT o.tgrelid, i.inhrelid, 1 FROM ours o" \
	" JOIN pg_catalog.pg_inherits i ON i.inhparent OPERATOR(pg_catalog.=) o.tgrelid" \
	" WHERE o.tgparentid OPERATOR(pg_catalog.=) 0" \
	" UNION" \
	" SELECT b.root, i.inhrelid, b.depth OPERATOR(pg_catalog.+) 1 FROM below b" \
	" JOIN pg_catalog.pg_inherits i ON i.inhparent OPERATOR(pg_catalog.=) b.relation" \
	"), part (origin, oid, relation) AS (" \
	" SELECT o.oid, o.oid, o.tgrelid FROM ours o WHERE o.tgparentid OPERATOR(pg_catalog.=) 0" \
	" UNION ALL" \
	" SELECT p.origin, o.oid, o.tgrelid FROM part p" \
	" JOIN ours o ON o.tgparentid OPERATOR(pg_catalog.=) p.oid" \
	") " \
	"SELECT b.relation FROM ours o" \
	" JOIN below b ON b.root OPERATOR(pg_catalog.=) o.tgrelid" \
	" JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) b.relation" \
	" LEFT JOIN part p ON p.origin OPERATOR(pg_catalog.=) o.oid" \
	"  AND p.relation OPERATOR(pg_catalog.=) b.relation" \
	" WHERE o.tgparentid OPERATOR(pg_catalog.=) 0 AND p.oid IS NULL" \
	" AND NOT (o.is_row AND c.relispartition)" \
	" GROUP BY b.relation ORDER BY pg_catalog.max(b.depth) USING OPERATOR(pg_catalog.<)"

static ObxSpread
make_missing(void)
{
	ObxSpread	result = OBX_SPREAD_DONE;
	int			made = 0;
	ListCell   *lc;

	foreach(lc, obx_table_list_oids(LACKING_QUERY))
	{
		CHECK_FOR_INTERRUPTS();
		if (made >= MOST_CLONES)
			return OBX_SPREAD_MORE;
		if (!obx_rule_inherit(lfirst_oid(lc), &made))
			result = OBX_SPREAD_LOCKED;
	}
	return result;
}

ObxSpread
obx_spread_step(void)
{
	ObxIdentity former;
	ObxSpread	result;

	PushActiveSnapshot(GetTransactionSnapshot());
	obx_identity_assume(&former, BOOTSTRAP_SUPERUSERID);
	result = make_missing();
	obx_identity_restore(&former);
	PopActiveSnapshot();
	return result;
}
