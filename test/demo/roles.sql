-- Run by the superuser: who may do what.

-- owns the shop's tables, captures, publishes, subscribes; the workers that
-- call its handlers connect as this role, hence LOGIN
CREATE ROLE shop LOGIN;
-- the web shop: places orders and has no right on the extension
CREATE ROLE shop_web LOGIN;
-- an application that listens, and reads what it missed
CREATE ROLE shop_dashboard LOGIN;

CREATE EXTENSION pg_outbox;

GRANT CREATE ON DATABASE shop TO shop;
GRANT EXECUTE ON FUNCTION outbox.publish, outbox.capture, outbox.subscribe, outbox.aggregate,
    outbox.wait TO shop;
GRANT SELECT ON outbox.status, outbox.dead_letter TO shop;
GRANT EXECUTE ON FUNCTION outbox.read, outbox.head TO shop_dashboard;
