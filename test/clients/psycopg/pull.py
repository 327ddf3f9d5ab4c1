import psycopg

conn = psycopg.connect("dbname=shop", autocommit=True)
while True:
    conn.execute("CALL outbox.await('shipping')")             # sleeps until there is an event
    with conn.transaction():
        events = conn.execute("SELECT position, key, receipt FROM outbox.receive('shipping')")
        for position, order, receipt in events.fetchall():
            conn.execute("INSERT INTO shipment (order_id, position) VALUES (%s, %s)", [order, position])
            conn.execute("SELECT outbox.ack('shipping', %s, %s)", [receipt, position])
