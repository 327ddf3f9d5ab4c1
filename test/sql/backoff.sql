-- The wait after the n-th failure: backoff, doubled each time, at most
-- max_backoff, shortened by chance by up to half.  OB001 waits for backoff and
-- uses no attempt up.
CREATE EXTENSION pg_outbox;
CREATE FUNCTION handle(e outbox.event) RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
    RAISE 'no' USING ERRCODE = e.key;
END
$$;
SELECT outbox.subscribe('s', handler => 'handle', backoff => '10 seconds', max_backoff => '35 seconds', max_attempts => 6);
SELECT outbox.publish('t', key => k) FROM unnest('{P0001,OB001}'::text[]) k;

CREATE VIEW waits AS
SELECT sqlstate, state, attempts,
       extract(epoch FROM next_at - failed_at) BETWEEN least(10 * 2 ^ (attempts - 1), 35) / 2
                                                   AND least(10 * 2 ^ (attempts - 1), 35) + 1 AS as_backoff_says,
       CASE WHEN sqlstate = 'OB001' -- of the others, chance decides
            THEN extract(epoch FROM next_at - failed_at) BETWEEN 10 AND 11 END AS backoff
FROM outbox.delivery ORDER BY position;

-- makes all that waits due
CREATE FUNCTION hurry() RETURNS void LANGUAGE sql AS
$$
    UPDATE outbox.delivery SET next_at = now() WHERE state = 'retry';
    SELECT outbox.alter_subscription('s', types => '{t}');
$$;
CALL outbox.run();
TABLE waits;
CALL outbox.run();
TABLE waits;
SELECT hurry();
CALL outbox.run();
TABLE waits;
SELECT hurry();
CALL outbox.run();
TABLE waits;
SELECT hurry();
CALL outbox.run();
TABLE waits;
SELECT hurry();
CALL outbox.run();
TABLE waits;
SELECT hurry();
CALL outbox.run();
TABLE waits;

-- chance does shorten them
SELECT outbox.alter_subscription('s', backoff => '1 hour', max_backoff => '1 hour');
SELECT count(outbox.publish('t', key => 'P0001')) FROM generate_series(1, 100);
SELECT outbox.alter_subscription('s', ordering => 'none');
CALL outbox.run();
SELECT count(*) AS waiting, max(next_at - failed_at) - min(next_at - failed_at) > '10 minutes' AS scattered
FROM outbox.delivery WHERE sqlstate = 'P0001' AND state = 'retry';

SET client_min_messages = warning;
DROP EXTENSION pg_outbox CASCADE;
