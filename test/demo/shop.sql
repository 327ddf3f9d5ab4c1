-- The shop: run by its owner, an ordinary role.
--
-- Every subscriber writes its effects to a table of its own.  None of these
-- tables has a key that could hide an effect that happened twice.

CREATE SCHEMA shop;
SET search_path = shop;

CREATE TABLE product (
    id integer PRIMARY KEY,
    name text NOT NULL,
    stock integer NOT NULL
);
INSERT INTO product VALUES
    (1, 'kettle', 100000), (2, 'teapot', 100000), (3, 'cup', 100000);

CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer text NOT NULL,
    product integer NOT NULL REFERENCES product,
    quantity integer NOT NULL,
    amount numeric(10,2) NOT NULL,
    status text NOT NULL DEFAULT 'placed'
);

-- What of it is an event.
SELECT outbox.capture('orders', operations => '{insert}', type => 'OrderPlaced');
SELECT outbox.capture('orders', operations => '{update}', type => 'OrderPaid',
    condition => $$old.status <> new.status AND new.status = 'paid'$$);
SELECT outbox.capture('orders', operations => '{update}', type => 'OrderShipped',
    condition => $$old.status <> new.status AND new.status = 'shipped'$$);

-- Payment: takes the money and says so in the order, which is an event again.
CREATE TABLE payment (
    number bigint GENERATED ALWAYS AS IDENTITY,
    order_id bigint NOT NULL,
    amount numeric(10,2) NOT NULL,
    position bigint NOT NULL,
    at timestamptz NOT NULL
);
CREATE FUNCTION take_payment(event outbox.event) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO payment (order_id, amount, position, at)
    VALUES (event.key::bigint, (event.data->>'amount')::numeric,
            outbox.current_position(), clock_timestamp());
    UPDATE orders SET status = 'paid' WHERE id = event.key::bigint;
END
$$;

-- Inventory: takes from the stock and ships.  Twice would be seen in the stock.
CREATE TABLE shipment (
    number bigint GENERATED ALWAYS AS IDENTITY,
    order_id bigint NOT NULL,
    product integer NOT NULL,
    quantity integer NOT NULL,
    position bigint NOT NULL,
    at timestamptz NOT NULL
);
CREATE FUNCTION ship(event outbox.event) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO shipment (order_id, product, quantity, position, at)
    VALUES (event.key::bigint, (event.data->>'product')::integer,
            (event.data->>'quantity')::integer,
            outbox.current_position(), clock_timestamp());
    UPDATE product SET stock = stock - (event.data->>'quantity')::integer
    WHERE id = (event.data->>'product')::integer;
    UPDATE orders SET status = 'shipped' WHERE id = event.key::bigint;
END
$$;

-- Email: three mails for each order.  While the service is down it raises
-- OB001, "call me again later", which uses up no attempt.
CREATE TABLE email_service (up boolean NOT NULL);
INSERT INTO email_service VALUES (true);
CREATE TABLE mail (
    number bigint GENERATED ALWAYS AS IDENTITY,
    order_id bigint NOT NULL,
    subject text NOT NULL,
    position bigint NOT NULL,
    at timestamptz NOT NULL
);
CREATE FUNCTION send_mail(event outbox.event) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (SELECT up FROM email_service) THEN
        RAISE EXCEPTION 'email service does not answer' USING ERRCODE = 'OB001';
    END IF;
    INSERT INTO mail (order_id, subject, position, at)
    VALUES (event.key::bigint, event.type, outbox.current_position(), clock_timestamp());
END
$$;

-- Analytics: slow, and adds up, so that an event handled twice shows.  It
-- takes events as jsonb.
CREATE TABLE fact (
    number bigint GENERATED ALWAYS AS IDENTITY,
    type text NOT NULL,
    position bigint NOT NULL,
    at timestamptz NOT NULL
);
CREATE TABLE revenue (total numeric NOT NULL);
INSERT INTO revenue VALUES (0);
CREATE FUNCTION record_fact(event jsonb) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO fact (type, position, at)
    VALUES (event->>'type', (event->>'position')::bigint, clock_timestamp());
    IF event->>'type' = 'OrderPaid' THEN
        UPDATE revenue SET total = total + (event #>> '{data,amount}')::numeric;
    END IF;
    PERFORM pg_sleep(0.01);
END
$$;

-- Fraud detection: publishes an event of its own.
CREATE TABLE inspection (
    number bigint GENERATED ALWAYS AS IDENTITY,
    order_id bigint NOT NULL,
    position bigint NOT NULL,
    at timestamptz NOT NULL
);
CREATE FUNCTION inspect_order(event outbox.event) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO inspection (order_id, position, at)
    VALUES (event.key::bigint, outbox.current_position(), clock_timestamp());
    IF (event.data->>'amount')::numeric >= 900 THEN
        PERFORM outbox.publish('FraudSuspected', jsonb_build_object('order', event.key),
                               key => event.key, source => 'fraud detection');
    END IF;
END
$$;

-- The cart: what customers put in and take out comes as many small events, and
-- leaves as one: when a cart has been left alone for a moment, or changed often.
CREATE TABLE cart_item (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cart text NOT NULL,
    item text NOT NULL
);
SELECT outbox.capture('cart_item', operations => '{insert}', type => 'ItemAdded', key => '{cart}');
SELECT outbox.capture('cart_item', operations => '{delete}', type => 'ItemRemoved', key => '{cart}');
CREATE FUNCTION fold_cart(state jsonb, event outbox.event) RETURNS jsonb
LANGUAGE sql AS $$
    SELECT coalesce(state, '{}') || jsonb_build_object(
        event.data->>'item',
        coalesce((state->>(event.data->>'item'))::integer, 0)
            + CASE event.type WHEN 'ItemAdded' THEN 1 ELSE -1 END)
$$;
SELECT outbox.aggregate('cart', '{ItemAdded,ItemRemoved}', 'CartUpdated', 'fold_cart',
    max_events => 5, quiet => '300 milliseconds');

SELECT outbox.subscribe('payment', '{OrderPlaced}', handler => 'take_payment');
SELECT outbox.subscribe('inventory', '{OrderPaid}', handler => 'ship');
SELECT outbox.subscribe('email', '{OrderPlaced,OrderPaid,OrderShipped}', handler => 'send_mail',
    concurrency => 2, backoff => '100 milliseconds');
SELECT outbox.subscribe('analytics', '{*}', handler => 'record_fact');
SELECT outbox.subscribe('fraud', '{OrderPlaced}', handler => 'inspect_order');
SELECT outbox.subscribe('dashboard', '{*}', channel => 'shop_events');

-- Who places orders needs rights on the table only.
GRANT USAGE ON SCHEMA shop TO shop_web;
GRANT SELECT, INSERT ON orders TO shop_web;
GRANT SELECT, INSERT, DELETE ON cart_item TO shop_web;
