import asyncio, json, os, sys
import asyncpg


async def connect():
    # no cache of prepared statements: for PgBouncer before 1.21
    return await asyncpg.connect(os.environ["DATABASE_URL"], statement_cache_size=0)


async def publish(conn, order, amount):
    async with conn.transaction():
        await conn.execute("INSERT INTO orders VALUES ($1, $2)", order, amount)
        await conn.execute("SELECT outbox.publish('OrderPlaced', $1, key => $2)",
                           json.dumps({"amount": amount}), str(order))


async def ship(conn, event):
    if json.loads(event["data"])["amount"] <= 0:
        raise ValueError(f"order {event['key']} has no positive amount")
    await conn.execute("INSERT INTO shipment (order_id, position) VALUES ($1, $2)",
                       event["key"], event["position"])


async def consume(conn, name, handle):
    while True:
        await conn.execute(f"CALL outbox.await('{name}')")          # no argument: one message
        async with conn.transaction():
            for event in await conn.fetch("SELECT * FROM outbox.receive($1)", name):
                try:
                    async with conn.transaction():                  # a savepoint
                        await handle(conn, event)
                except Exception as error:
                    await conn.execute("SELECT outbox.nack($1, $2, $3, $4)",
                                       name, event["receipt"], event["position"], str(error))
                    await conn.execute("SELECT outbox.release($1, $2)", name, event["receipt"])
                    break
                await conn.execute("SELECT outbox.ack($1, $2, $3)",
                                   name, event["receipt"], event["position"])


async def follow(conn, channel, last):
    news = asyncio.Event()
    await conn.add_listener(channel, lambda *notification: news.set())  # first listen, then read
    conn.add_termination_listener(lambda conn: news.set())
    while True:
        news.clear()
        while events := await conn.fetch("SELECT * FROM outbox.read($1)", last):
            for event in events:
                print(event["position"], event["type"], event["key"], flush=True)
                last = event["position"]
        await news.wait()                                           # sleep until something comes


async def main():
    conn = await connect()
    match sys.argv[1:]:
        case ["publish", order, amount]: await publish(conn, int(order), int(amount))
        case ["consume", name]: await consume(conn, name, ship)
        case ["follow", channel, last]: await follow(conn, channel, int(last))


asyncio.run(main())
