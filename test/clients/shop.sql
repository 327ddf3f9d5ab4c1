GRANT CREATE ON SCHEMA public TO shop;
GRANT EXECUTE ON FUNCTION outbox.publish, outbox.subscribe, outbox.read TO shop;
GRANT EXECUTE ON FUNCTION outbox.receive, outbox.extend, outbox.ack, outbox.nack, outbox.release TO shop;
GRANT EXECUTE ON PROCEDURE outbox.await TO shop;

SET ROLE shop;
CREATE TABLE orders (id bigint PRIMARY KEY, amount integer NOT NULL);
CREATE TABLE shipment (
    number bigint GENERATED ALWAYS AS IDENTITY,
    order_id text NOT NULL,
    position bigint NOT NULL
);
SELECT outbox.subscribe('shipping', '{OrderPlaced}', max_attempts => 3, backoff => '100 milliseconds');
SELECT outbox.subscribe('dashboard', '{OrderPlaced}', channel => 'shop_events');
RESET ROLE;
