-- What came of what, and where an event is.
CREATE EXTENSION pg_outbox;
CREATE SCHEMA trace;
SET search_path = trace;
SET TimeZone = 'UTC';

CREATE FUNCTION bill(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM outbox.publish('InvoiceMade', key => e.key), outbox.publish('ReceiptMade', key => e.key);
END $$;
-- fails as often as the data says
CREATE FUNCTION moody(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF outbox.current_attempt() <= (e.data->>'failures')::integer THEN RAISE 'not now'; END IF;
    IF e.type = 'InvoiceMade' THEN PERFORM outbox.publish('MailSent', key => e.key); END IF;
END $$;
SELECT outbox.subscribe('billing', '{OrderPlaced}', handler => 'bill');
SELECT outbox.subscribe('mail', '{*Made}', handler => 'moody', backoff => '0', max_attempts => 3);
SELECT outbox.subscribe('pull', '{InvoiceMade}');

-- what differs from run to run, left out
CREATE FUNCTION plain(text) RETURNS text LANGUAGE sql AS $$
    SELECT regexp_replace(regexp_replace(regexp_replace($1, '\d+(\.\d+)? (ms|s)\y', 'N ms', 'g'),
        '\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?( ?[A-Z]+|[+-]\d\d)?', 'TIME', 'g'), 'pid \d+', 'pid N', 'g') $$;

BEGIN;
SET LOCAL outbox.correlation_id = 'one';
SELECT outbox.publish('OrderPlaced', key => '17') AS id \gset
-- its own events a transaction sees; they have no position yet
SELECT depth, "position", type, key, subscription, state, attempts, handled_at FROM outbox.trace('one');
SELECT outbox.why_not_delivered(:id);
COMMIT;
SELECT depth, "position", type, key, subscription, state, attempts, handled_at FROM outbox.trace('one');
SELECT outbox.why_not_delivered(:id);
CALL outbox.run();
SELECT depth, "position", causation_id - :id AS cause, type, key, subscription, state, attempts, handled_at > "time" AS handled
FROM outbox.trace('one');
SELECT id = :id AS same, "time" = (SELECT "time" FROM outbox.event WHERE id = :id) AS same_time, source = 'pg_regress/trace' AS source
FROM outbox.trace('one') LIMIT 1;
SELECT plain(outbox.trace_text('one'));
SELECT plain(outbox.trace_mermaid('one'));
SELECT plain(outbox.why_not_delivered(:id));
SELECT plain(outbox.why_not_delivered(:id + 1));
SELECT plain(outbox.why_not_delivered(:id + 3));

-- ---- retries, dead letters and what became of them ----

CREATE VIEW traced AS
    SELECT t.depth, t.type, t.key, t.subscription, t.state, t.attempts, t.handled_at > t."time" AS handled
    FROM outbox.trace('two') t WHERE t.subscription <> 'pull';
CREATE FUNCTION why() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT line FROM outbox.trace('two') t, regexp_split_to_table(plain(outbox.why_not_delivered(t.id)), '\n') line
    WHERE t.subscription = 'mail' AND line !~ '^(billing|pull|spare)' $$;
SET outbox.correlation_id = 'two';
SELECT outbox.publish_many('[{"type": "InvoiceMade", "key": "retried", "data": {"failures": 2}},
    {"type": "ReceiptMade", "key": "retried"},
    {"type": "ReceiptMade", "key": "dead", "data": {"failures": 9}},
    {"type": "ReceiptMade", "key": "discarded", "data": {"failures": 9}},
    {"type": "ReceiptMade", "key": "redriven", "data": {"failures": 9}},
    {"type": "ReceiptMade", "key": "fine"}]');
CALL outbox.run();
SELECT outbox.discard('mail', "position"), key FROM outbox.dead_letter WHERE key = 'discarded';
SELECT outbox.redrive('mail', "position"), key FROM outbox.dead_letter WHERE key = 'redriven';
CREATE OR REPLACE FUNCTION moody(e outbox.event) RETURNS void LANGUAGE sql AS '';
CALL outbox.run();
SELECT * FROM traced;
SELECT * FROM why();
SELECT plain(outbox.trace_text('two'));

-- waiting
CREATE OR REPLACE FUNCTION moody(e outbox.event) RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN IF e.data ? 'failures' THEN RAISE E'not\nnow'; END IF; END $$;
SELECT outbox.alter_subscription('mail', backoff => '1 hour');
SET outbox.correlation_id = 'three';
SELECT outbox.publish_many('[{"type": "ReceiptMade", "key": "a", "data": {"failures": 1}}, {"type": "ReceiptMade", "key": "a"},
    {"type": "ReceiptMade", "key": "b"}]');
CALL outbox.run();
CREATE OR REPLACE VIEW traced AS
    SELECT t.depth, t.type, t.key, t.subscription, t.state, t.attempts, t.handled_at > t."time" AS handled
    FROM outbox.trace('three') t WHERE t.subscription <> 'pull';
SELECT * FROM traced;
SELECT plain(outbox.trace_text('three'));
SELECT plain(outbox.why_not_delivered(id)) FROM outbox.trace('three');
-- not come to
SELECT outbox.pause('mail');
SELECT outbox.publish('ReceiptMade', key => 'c') FROM generate_series(1, 2);
CALL outbox.run();
SELECT plain(outbox.why_not_delivered(id)) FROM outbox.trace('three') WHERE key = 'c';
SELECT outbox.resume('mail');
-- broken
DROP FUNCTION moody;
CALL outbox.run();
SELECT plain(outbox.why_not_delivered(id)) FROM outbox.trace('three') WHERE key = 'c' LIMIT 1;
SELECT outbox.unsubscribe('mail');
-- behind a failing one, in a strict subscription
CREATE FUNCTION fails(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'never'; END $$;
SELECT outbox.subscribe('strict', '{Strict}', handler => 'fails', ordering => 'strict', backoff => '1 hour');
SET outbox.correlation_id = 'four';
SELECT outbox.publish('Strict', key => i::text) FROM generate_series(1, 2) i;
CALL outbox.run();
SELECT key, plain(outbox.why_not_delivered(id)) FROM outbox.trace('four');
SELECT key, state FROM outbox.trace('four');
SELECT outbox.unsubscribe('strict');

-- ---- pulling ----

SET outbox.correlation_id = 'five';
SELECT outbox.seek('pull', outbox.head() + 1) > 0 AS sought;
SELECT outbox.publish('InvoiceMade', key => i::text) FROM generate_series(1, 4) i;
CALL outbox.run();
SELECT receipt FROM outbox.receive('pull', 3, '1 hour') LIMIT 1 \gset
SELECT key, state, attempts FROM outbox.trace('five');
SELECT plain(outbox.why_not_delivered(id)) FROM outbox.trace('five') WHERE key IN ('2', '4');
SELECT outbox.ack('pull', :receipt, "position") FROM outbox.trace('five') WHERE key = '1';
SELECT outbox.nack('pull', :receipt, "position", 'no room') FROM outbox.trace('five') WHERE key = '2';
SELECT outbox.ack('pull', :receipt);
SELECT key, state, attempts, handled_at > "time" AS handled FROM outbox.trace('five');
SELECT plain(outbox.why_not_delivered(id)) FROM outbox.trace('five') WHERE key IN ('1', '2');
SELECT outbox.unsubscribe('pull');

-- ---- filters, starts, seeks ----

SET outbox.correlation_id = 'six';
SELECT outbox.publish('Filtered', '{"n": 0}', key => 'before');
CALL outbox.run();
CREATE FUNCTION nothing(e outbox.event) RETURNS void LANGUAGE sql AS '';
SELECT outbox.subscribe('filter', '{Filtered}', handler => 'nothing', filter => $$ data->>'n' = '1' $$);
SELECT outbox.publish('Filtered', '{"n": 2}', key => 'alone');
CALL outbox.run();
SELECT outbox.publish('Filtered', jsonb_build_object('n', i), key => i::text) FROM generate_series(1, 2) i;
CALL outbox.run();
SELECT key, subscription, state, attempts, handled_at IS NOT NULL AS handled FROM outbox.trace('six');
SELECT plain(outbox.why_not_delivered(id)) FROM outbox.trace('six');
-- what calls something of the user's is not asked
CREATE FUNCTION is_one(data jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT data->>'n' = '1' $$;
SELECT outbox.alter_subscription('filter', filter => 'trace.is_one(data)');
SELECT key, subscription, state, attempts FROM outbox.trace('six') WHERE key IN ('1', '2');
SELECT plain(outbox.why_not_delivered(id)) FROM outbox.trace('six') WHERE key = '1';
-- and neither is one that fails
SELECT outbox.alter_subscription('filter', filter => $$ (data->>'n')::integer / ((data->>'n')::integer - 1) > 1 $$);
SELECT key, subscription, state, attempts FROM outbox.trace('six') WHERE key IN ('1', '2');
-- a leap leaves out, a replay delivers again
SELECT outbox.unsubscribe('filter');
SELECT outbox.subscribe('seek', '{Filtered}', handler => 'nothing', start => 'beginning');
SELECT outbox.seek('seek', outbox.head()) > 0 AS sought;
CALL outbox.run();
SELECT key, subscription, state, attempts FROM outbox.trace('six');
SELECT regexp_replace(outbox.why_not_delivered(id), 'position \d+(?=\n|$)', 'position N') FROM outbox.trace('six') LIMIT 1;
SELECT outbox.seek('seek', outbox.oldest()) > 0 AS sought;
SELECT key, subscription, state, attempts FROM outbox.trace('six');
CALL outbox.run();
SELECT key, subscription, state, attempts, handled_at > "time" AS handled FROM outbox.trace('six');
-- what is recorded no more
DELETE FROM outbox.progress p WHERE "version" < (SELECT max("version") FROM outbox.progress q WHERE q.subscription = p.subscription);
SELECT key, subscription, state, attempts, handled_at FROM outbox.trace('six');
SELECT plain(outbox.why_not_delivered(id)) FROM outbox.trace('six') LIMIT 1;

-- ---- a tree whose parts belong elsewhere, and what must be escaped ----

CREATE FUNCTION odd(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF e.type = 'Odd' THEN
        PERFORM outbox.publish('a "quoted" <b>#`&;', key => E'two\nlines');
        SET outbox.correlation_id = 'eight';
        PERFORM outbox.publish('Elsewhere');
    END IF;
END $$;
SELECT outbox.subscribe('"odd" <i>', '{*}', handler => 'odd');
SET outbox.correlation_id = 'seven';
SELECT outbox.publish('Odd') > 0 AS emitted;
CALL outbox.run();
SELECT depth, type, subscription FROM outbox.trace('seven');
SELECT depth, type, causation_id IS NOT NULL AS caused FROM outbox.trace('eight');
SELECT plain(outbox.trace_text('seven'));
SELECT plain(outbox.trace_mermaid('seven'));
SELECT outbox.unsubscribe('"odd" <i>');
RESET outbox.correlation_id;

-- ---- what is not there ----

SELECT * FROM outbox.trace('unknown');
SELECT outbox.trace_text('unknown');
SELECT outbox.trace_mermaid('unknown');
SELECT outbox.trace_text('');
SELECT outbox.duration_text(d) FROM unnest(ARRAY[interval '1.25 ms', '999.9 ms', '1 s', '90 s', '3 h', '-2 ms', NULL]) d;
SELECT last_value + 1 AS next FROM outbox.event_id_seq \gset
SELECT regexp_replace(outbox.why_not_delivered(:next), '\d+', 'N', 'g');
SELECT outbox.why_not_delivered(0);
SELECT outbox.why_not_delivered(-1);
BEGIN;
SELECT outbox.publish('Gone') AS gone \gset
ROLLBACK;
SELECT regexp_replace(outbox.why_not_delivered(:gone), '\d+', 'N', 'g');
\set VERBOSITY terse
SELECT * FROM outbox.trace(NULL);
SELECT outbox.trace_text(NULL);
SELECT outbox.trace_mermaid(NULL);
SELECT outbox.why_not_delivered(NULL);

-- EXECUTE is what is needed, and all
CREATE ROLE regress_outbox_tracer;
SET ROLE regress_outbox_tracer;
SELECT * FROM outbox.trace('one');
SELECT outbox.trace_text('one');
SELECT outbox.trace_mermaid('one');
SELECT outbox.why_not_delivered(1);
RESET ROLE;
GRANT EXECUTE ON FUNCTION outbox.trace(text), outbox.trace_text(text), outbox.trace_mermaid(text),
    outbox.why_not_delivered(bigint) TO regress_outbox_tracer;
SET ROLE regress_outbox_tracer;
SELECT count(*) FROM outbox.trace('one');
SELECT length(outbox.trace_text('one')) > 100 AS text, length(outbox.trace_mermaid('one')) > 100 AS mermaid;
SELECT outbox.why_not_delivered(:id) LIKE 'Event%' AS explained;
RESET ROLE;
-- nothing planted in the caller's path is called
CREATE FUNCTION regexp_replace(text, text, text, text) RETURNS text LANGUAGE sql AS $$ SELECT 'planted' $$;
CREATE FUNCTION format(text, VARIADIC "any") RETURNS text LANGUAGE internal AS 'text_format';
SET search_path = trace, pg_catalog;
SELECT outbox.trace_text('one') LIKE '%planted%' AS planted;
DROP FUNCTION regexp_replace(text, text, text, text);
DROP FUNCTION format(text, VARIADIC "any");

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA outbox FROM regress_outbox_tracer;
RESET search_path;
DROP SCHEMA trace CASCADE;
DROP EXTENSION pg_outbox;
DROP ROLE regress_outbox_tracer;
