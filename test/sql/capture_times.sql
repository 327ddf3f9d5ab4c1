-- A time's text in data is what to_jsonb() gives, also where only its seconds
-- are written anew because the one before was of the same minute.
CREATE EXTENSION pg_outbox;
CREATE TABLE clock (id bigserial PRIMARY KEY, at timestamptz, local timestamp, day date, list timestamptz[]);
SELECT outbox.capture('clock');

-- Steps of a microsecond to some minutes from there, forwards and backwards.
CREATE FUNCTION tick(start timestamptz) RETURNS void LANGUAGE sql AS $$
    INSERT INTO clock (at, local, day, list)
    SELECT t, t::timestamp, t::date, ARRAY[t, t + interval '1 s', NULL, t + interval '59.9 s']
    FROM (SELECT start + step * direction * interval '1 us' AS t
          FROM (VALUES (0::bigint), (1), (10), (999999), (1000000), (1000010), (1500000), (9000000), (10000000),
                       (29999999), (30000000), (59999999), (60000000), (60000001), (3599999999), (3600000000)) s (step),
               (VALUES (1), (-1)) d (direction)
          ORDER BY direction, step) s
$$;
CREATE FUNCTION same() RETURNS TABLE (rows bigint, same bigint) LANGUAGE sql AS $$
    SELECT count(*), count(*) FILTER (WHERE record_image_eq(row(e.data), row(to_jsonb(c))))
    FROM clock c JOIN outbox.event e ON e.type = 'clock.inserted' AND e.key = c.id::text
$$;

-- Zones with offsets of seconds, with changes within a minute, and plain ones.
CREATE TABLE zone (name text);
INSERT INTO zone VALUES ('UTC'), ('Europe/Berlin'), ('America/New_York'), ('Asia/Kathmandu'), ('Australia/Lord_Howe'),
    ('Africa/Monrovia'), ('Pacific/Apia'), ('FOO0BAR,J60/00:00:10,J60/01:00:40');
CREATE TABLE start (at text);
INSERT INTO start VALUES ('2024-03-31 01:00:00+00'), ('2024-10-27 00:59:59.5+00'), ('1883-11-18 17:00:03+00'),
    ('1883-11-18 16:56:02+00'), ('1972-01-07 00:44:30+00'), ('2024-03-01 00:00:10+00'), ('2024-03-01 00:00:03.000001+00'),
    ('2011-12-30 09:59:59.999+00'), ('1999-12-31 23:59:59.999999+00'), ('0001-01-01 00:00:00+00'),
    ('0044-03-15 12:00:30+00 BC'), ('12024-06-01 12:34:56.789+00'), ('1969-12-31 23:59:30.25+00'), ('2000-01-01 00:00:00+00');
DO $$
DECLARE
    zone_name text;
    start_at text;
    found record;
BEGIN
    FOR zone_name IN SELECT name FROM zone LOOP
        PERFORM set_config('timezone', zone_name, false);
        TRUNCATE clock;
        FOR start_at IN SELECT at FROM start LOOP
            PERFORM tick(start_at::timestamptz);
        END LOOP;
        SELECT * INTO found FROM same();
        RAISE NOTICE '%: % rows, % same', zone_name, found.rows, found.same;
    END LOOP;
END $$;

-- What has no minute, and a change of zone between two times of one minute.
SET timezone = 'UTC';
TRUNCATE clock;
INSERT INTO clock (at, local, day) VALUES ('4000-01-01 12:00 BC', '4000-01-01 12:00 BC', NULL),
    ('infinity', 'infinity', 'infinity'), ('-infinity', '-infinity', '-infinity'),
    (NULL, NULL, NULL), ('2024-01-01 00:00:01+00', '2024-01-01 00:00:01', '2024-01-01');
SELECT * FROM same();
TRUNCATE clock;
BEGIN;
INSERT INTO clock (at, local) VALUES ('2024-06-01 12:00:01+00', '2024-06-01 12:00:01');
INSERT INTO clock (at, local) VALUES ('2024-06-01 12:00:02.5+00', '2024-06-01 12:00:02.5');
SET LOCAL timezone = 'Asia/Kolkata';
INSERT INTO clock (at, local) VALUES ('2024-06-01 12:00:03+00', '2024-06-01 12:00:03');
COMMIT;
SELECT data FROM outbox.event WHERE type = 'clock.inserted' ORDER BY id DESC LIMIT 3;

DROP TABLE clock, zone, start;
DROP FUNCTION tick, same;
DROP EXTENSION pg_outbox CASCADE;
