-- Events in the JSON format of CloudEvents 1.0, and in Debezium's layout.
SET client_min_messages = warning;
CREATE EXTENSION pg_outbox;
SET application_name = 'shop/web';
SET TIME ZONE 'Asia/Kolkata';
CREATE TABLE orders (id integer PRIMARY KEY, status text);
SELECT outbox.capture('orders');

BEGIN;
INSERT INTO orders VALUES (17, 'placed');
SELECT outbox.publish('Plain') > 0 AS emitted;
SELECT outbox.publish('Traced', '{"amount": 1.50}', key => 'k', source => 'https://shop.example/web?x=1#y',
    headers => '{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tenant": "acme"}') > 0 AS emitted;
SELECT outbox.publish('Scalar', '"text"', key => '', source => '') > 0 AS emitted;
SELECT outbox.publish('Null', 'null', headers => '{"traceparent": 1}') > 0 AS emitted;
COMMIT;
-- an event that has no position yet has no sequence
SELECT outbox.to_cloudevent(e) ? 'sequence' AS has_sequence FROM outbox.event e LIMIT 1;
CALL outbox.run();
SELECT jsonb_pretty(outbox.to_cloudevent(e) - 'time') FROM outbox.event e ORDER BY e.id;
-- RFC 3339, in UTC
SELECT bool_and(c->>'time' ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?\+00:00$' AND (c->>'time')::timestamptz = e."time") AS is_time
FROM outbox.event e, outbox.to_cloudevent(e) c;

-- a handler's own event, and its cause
CREATE TABLE heard (event jsonb);
CREATE FUNCTION relay(event outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO heard VALUES (outbox.to_cloudevent(event));
    IF event.type = 'First' THEN
        PERFORM outbox.publish('Second', key => event.key);
    END IF;
END $$;
SELECT outbox.subscribe('relay', '{First,Second}', 'relay');
SELECT outbox.publish('First', key => 'k') > 0 AS emitted;
CALL outbox.run();
SELECT event - '{time,source,specversion,datacontenttype,data}'::text[] AS event FROM heard ORDER BY event->>'sequence';

-- the sequence is the position, as a string of one length
SELECT bool_and((outbox.to_cloudevent(e)->>'sequence')::bigint = outbox.position_of(e.id)) AS is_position,
       array_agg(DISTINCT length(outbox.to_cloudevent(e)->>'sequence')) AS lengths
FROM outbox.event e;
-- ... in whatever order one asks, in transactions of any size, with rolled back savepoints
BEGIN;
SELECT count(outbox.publish('Many', key => g::text)) FROM generate_series(1, 50) g;
SAVEPOINT s;
SELECT count(outbox.publish('Many')) FROM generate_series(1, 50) g;
ROLLBACK TO s;
SELECT count(outbox.publish('Many', key => g::text)) FROM generate_series(51, 100) g;
COMMIT;
SELECT outbox.publish('One') > 0 AS emitted;
CALL outbox.run();
SELECT outbox.publish('One') > 0 AS emitted;
CALL outbox.run();
SELECT o, count(*), count(*) FILTER (WHERE (c->>'sequence')::bigint = outbox.position_of(id)) AS is_position
FROM (SELECT 1 AS o, id, outbox.to_cloudevent(e::outbox.event) AS c FROM (SELECT * FROM outbox.event ORDER BY id) e
      UNION ALL SELECT 2, id, outbox.to_cloudevent(e::outbox.event) FROM (SELECT * FROM outbox.event ORDER BY id DESC) e
      UNION ALL SELECT 3, id, outbox.to_cloudevent(e::outbox.event) FROM (SELECT * FROM outbox.event ORDER BY hashint8(id)) e) x
GROUP BY 1 ORDER BY 1;

-- sources become URI-references
SELECT source, outbox.to_cloudevent((1, '3', now(), 'T', source, NULL, NULL, '{}', NULL, '{}', NULL, NULL)::outbox.event)->>'source' AS uri
FROM unnest('{"", public.orders, shop web, "urn:shop:1", "aggregate:cart", "1a:b", "a b:c", ":x", "://x", "//host/x", "//a@b@c/x",
              "//host:x/y", "http://host:80/a b", "http://[::1]/x", "50%", "50%25", "a#b#c", "?q", "\"quoted\".\"Täble\"", "a\\b", "é:x", "/a//b",
              "{x}|^`<>", "~a-b_c.d!$&''()*+,;=@"}'::text[]) source;
-- what no string can hold is percent-encoded, and the rest is not
\a
SELECT outbox.to_cloudevent((1, '3', now(), E'a\tb\u007f\u0085c%é\uFFFE\U0001F600', 's', E'k\n', NULL, '{}', NULL, '{}', E'\x01', NULL)::outbox.event) - 'time' AS event;
\a
-- times that RFC 3339 cannot write
SELECT t, outbox.to_cloudevent((1, '3', t, 'T', 's', NULL, NULL, '{}', NULL, '{}', NULL, NULL)::outbox.event)->>'time' AS time
FROM unnest('{infinity, -infinity, 10000-01-01, 9999-12-31, 0001-01-01 BC, 2020-02-29 12:00:00.5}'::timestamptz[]) t;

-- an event's id keeps the generation that it was drawn in
BEGIN;
INSERT INTO outbox.generation
    SELECT 2, system_identifier, timeline, database, xid_offset, (SELECT max(id) FROM outbox.event), now(), first_position FROM outbox.generation;
SELECT outbox.to_cloudevent(e)->>'id' = g || '-' || id AS is_id
FROM (SELECT e, id, CASE WHEN id < max(id) OVER () THEN 1 ELSE 2 END AS g FROM outbox.event e ORDER BY id DESC LIMIT 3) e;
SELECT count(*) FILTER (WHERE id LIKE '2-%') AS second, count(*) FILTER (WHERE id NOT LIKE '1-%') AS not_first FROM outbox.debezium_outbox;
ROLLBACK;

-- Debezium's layout
SELECT d.id = outbox.to_cloudevent(e)->>'id' AS same_id, aggregatetype, aggregateid, d.type, payload, "timestamp" = "time" AS same_time
FROM outbox.debezium_outbox d JOIN outbox.event e ON d.id = '1-' || e.id ORDER BY e.id LIMIT 3;
SELECT count(*) > 0 AS some, count(*) FILTER (WHERE d.position IS DISTINCT FROM r.position) AS different
FROM outbox.debezium_outbox d JOIN outbox.read() r ON d.id = '1-' || r.id;
-- a role that may not ask for positions sees the rest
CREATE ROLE regress_cloudevent;
GRANT USAGE ON SCHEMA outbox TO regress_cloudevent;
GRANT SELECT ON outbox.debezium_outbox TO regress_cloudevent;
SET ROLE regress_cloudevent;
SELECT count(id) > 0 AS some FROM outbox.debezium_outbox;
SELECT position FROM outbox.debezium_outbox;
RESET ROLE;
DROP OWNED BY regress_cloudevent;
DROP ROLE regress_cloudevent;

-- rows of read() and of receive() as well
SELECT count(*) > 0 AS some, count(*) FILTER (WHERE outbox.to_cloudevent(r) IS DISTINCT FROM outbox.to_cloudevent(e)) AS different
FROM outbox.read() r JOIN outbox.event e USING (id);
SELECT outbox.subscribe('pulled', start => 'beginning');
SELECT count(*) > 0 AS some, count(*) FILTER (WHERE outbox.to_cloudevent(r) IS DISTINCT FROM outbox.to_cloudevent(e)) AS different
FROM outbox.receive('pulled') r JOIN outbox.event e USING (id);

-- what it takes
SELECT outbox.to_cloudevent(NULL::outbox.event);
SELECT outbox.to_cloudevent(NULL::outbox.positioned_event);
SELECT outbox.to_cloudevent(ROW(NULL, '3', now(), 'T', 's', NULL, NULL, '{}', NULL, '{}', NULL, NULL)::outbox.event);
SELECT outbox.to_cloudevent(ROW(1, '3', now(), NULL, 's', NULL, NULL, '{}', NULL, '{}', NULL, NULL)::outbox.event);
SELECT outbox.to_cloudevent(ROW(1, '3', now(), '', 's', NULL, NULL, '{}', NULL, '{}', NULL, NULL)::outbox.event);
SELECT outbox.to_cloudevent(ROW(1, '3', now(), 'T', 's', NULL, NULL, NULL, NULL, '{}', NULL, NULL)::outbox.event);

DROP EXTENSION pg_outbox CASCADE;
DROP TABLE orders, heard;
