-- What every system works with: the row that is captured, the handlers.

CREATE TABLE bare (
	id bigint PRIMARY KEY,
	customer int,
	status text,
	amount numeric(10, 2),
	created timestamptz,
	note text);
CREATE SEQUENCE ids START 1000000000;

CREATE FUNCTION rows_to_insert(count bigint) RETURNS SETOF bare
LANGUAGE sql STABLE AS $$
	SELECT g, (g % 1000)::int, 'new', g * 1.5, now(), 'note ' || g
	FROM generate_series(1, count) g
$$;

-- Effects of handlers
CREATE TABLE handled (id bigint, at timestamptz);

CREATE FUNCTION handle_insert(id bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO handled VALUES (id, clock_timestamp());
END $$;

CREATE FUNCTION handle_nothing(id bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
END $$;

-- Writes down the clock now and then, so that a rate can be told for any part
-- of a backlog.
CREATE TABLE mark (number bigint, at timestamptz);

CREATE FUNCTION handle_mark(number bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF number % 100 = 0 THEN
		INSERT INTO mark VALUES (number, clock_timestamp());
	END IF;
END $$;
