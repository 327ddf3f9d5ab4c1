-- A word where the library is not preloaded.

CREATE FUNCTION outbox.warn_without_workers() RETURNS void
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'obx_sql_warn_without_workers';
SELECT outbox.warn_without_workers();
DROP FUNCTION outbox.warn_without_workers();
