-- Events are formed and written by the extension itself; what is in the table
-- is what PostgreSQL would have stored.
CREATE EXTENSION pg_outbox;
CREATE EXTENSION pageinspect;

CREATE TABLE item (id int PRIMARY KEY, name text, document jsonb);
SELECT outbox.capture('item', old_values => 'all');
INSERT INTO item SELECT n, 'item ' || n, NULL FROM generate_series(1, 3) n;
UPDATE item SET name = repeat('x', 100 + id) WHERE id < 3;
UPDATE item SET id = 10 WHERE id = 1;
UPDATE item SET document = '{"a": [1, 2, {"b": null}]}';
DELETE FROM item WHERE id = 2;
TRUNCATE item;
SELECT outbox.publish('empty') > 0 AS published;
SELECT outbox.publish(repeat('t', 200), jsonb_build_object('number', 1.5), repeat('k', n), repeat('s', n),
                      jsonb_build_object('h', repeat('h', n))) > 0 AS published
FROM unnest(ARRAY[1, 123, 124, 125, 126, 127, 128, 129, 130, 200]) n;
BEGIN;
SET LOCAL outbox.correlation_id = 'order 17';
SET LOCAL outbox.traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
INSERT INTO item SELECT n, repeat('é', n), to_jsonb(n) FROM generate_series(20, 150) n;
COMMIT;

-- what a handler emits has a cause as well
CREATE FUNCTION follow(event outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM outbox.publish('followed', event.data, event.key);
    INSERT INTO item VALUES (1000 + event.id, NULL, NULL);
END $$;
SELECT outbox.subscribe('follower', '{captured,item.deleted}', 'follow', start => 'beginning');
CALL outbox.run();

CREATE TABLE copy (LIKE outbox.event);
INSERT INTO copy SELECT * FROM outbox.event ORDER BY id;

CREATE FUNCTION rows_of(relation regclass)
    RETURNS TABLE (id bytea, t_hoff smallint, t_bits text, attributes int, flags int, t_data bytea)
LANGUAGE sql AS $$
    SELECT substr(item.t_data, 1, 8), item.t_hoff, item.t_bits, t_infomask2 & 2047, t_infomask & 7, item.t_data
    FROM generate_series(0, pg_relation_size(relation) / 8192 - 1) block,
         heap_page_items(get_raw_page(relation::text, block::int)) item
    WHERE item.t_data IS NOT NULL
$$;
SELECT (SELECT count(*) FROM outbox.event) AS events,
       count(*) AS rows,
       count(*) FILTER (WHERE written.t_hoff = stored.t_hoff AND
                        written.t_bits IS NOT DISTINCT FROM stored.t_bits AND
                        written.attributes = stored.attributes AND
                        written.flags = stored.flags AND
                        written.t_data = stored.t_data) AS same
FROM pg_inherits, LATERAL rows_of(inhrelid) written JOIN rows_of('copy') stored USING (id)
WHERE inhparent = 'outbox.event'::regclass;

-- what is long is compressed or stored out of line
INSERT INTO item SELECT n, string_agg(md5(m::text), ''), to_jsonb(repeat('z', n))
FROM generate_series(2000, 2005) n, generate_series(1, n) m GROUP BY n;
UPDATE item SET document = '[]' WHERE id >= 2000;
SELECT operation, count(*), bool_and(md5(data->>'name') = md5(name)) AS same
FROM outbox.event, LATERAL
     (SELECT string_agg(md5(m::text), '') AS name FROM generate_series(1, key::int) m) made
WHERE key::int BETWEEN 2000 AND 2005 AND key ~ '^\d+$' AND source = 'public.item'
GROUP BY 1 ORDER BY 1;

DROP TABLE item;
DROP EXTENSION pg_outbox CASCADE;
DROP EXTENSION pageinspect CASCADE;
DROP TABLE copy;
DROP FUNCTION rows_of;
