import os, sys
import psycopg
from psycopg.rows import namedtuple_row
from psycopg.types.json import Jsonb


def connect():
    # autocommit: a transaction is there only where we begin one
    return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True,
                           row_factory=namedtuple_row, prepare_threshold=None)


def publish(conn, order, amount):
    with conn.transaction():
        conn.execute("INSERT INTO orders VALUES (%s, %s)", [order, amount])
        conn.execute("SELECT outbox.publish('OrderPlaced', %s, key => %s)",
                     [Jsonb({"amount": amount}), str(order)])


def ship(conn, event):
    if event.data["amount"] <= 0:
        raise ValueError(f"order {event.key} has no positive amount")
    conn.execute("INSERT INTO shipment (order_id, position) VALUES (%s, %s)",
                 [event.key, event.position])


def consume(conn, name, handle):
    while True:
        conn.execute("CALL outbox.await(%s)", [name])
        with conn.transaction():
            for event in conn.execute("SELECT * FROM outbox.receive(%s)", [name]).fetchall():
                try:
                    with conn.transaction():                        # a savepoint
                        handle(conn, event)
                except Exception as error:
                    conn.execute("SELECT outbox.nack(%s, %s, %s, %s)",
                                 [name, event.receipt, event.position, str(error)])
                    conn.execute("SELECT outbox.release(%s, %s)", [name, event.receipt])
                    break
                conn.execute("SELECT outbox.ack(%s, %s, %s)", [name, event.receipt, event.position])


def follow(conn, channel, last):
    conn.execute(f"LISTEN {channel}")                               # first listen, then read
    while True:
        events = conn.execute("SELECT * FROM outbox.read(%s)", [last]).fetchall()
        for event in events:
            print(event.position, event.type, event.key, flush=True)
            last = event.position
        if not events:
            next(conn.notifies(timeout=60, stop_after=1), None)     # sleep until something comes


match sys.argv[1:]:
    case ["publish", order, amount]: publish(connect(), int(order), int(amount))
    case ["consume", name]: consume(connect(), name, ship)
    case ["follow", channel, last]: follow(connect(), channel, int(last))
