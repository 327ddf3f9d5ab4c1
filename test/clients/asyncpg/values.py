# What asyncpg gives for each type, and takes as an argument.
import asyncio, datetime, json, os
import asyncpg


async def main():
    conn = await asyncpg.connect(os.environ["DATABASE_URL"], statement_cache_size=0)
    await conn.execute("SELECT outbox.publish('ValueAsked', $1)", json.dumps({"a": 1}))
    await conn.execute("CALL outbox.await('values', $1)", datetime.timedelta(seconds=20))
    position, receipt, *row = await conn.fetchrow(
        'SELECT "position", receipt, xid, "time", data, ARRAY["position"] FROM outbox.receive($1, lease => $2)',
        "values", datetime.timedelta(minutes=1))
    await conn.execute("SELECT outbox.ack('values', $1, positions => $2)", receipt, [position])
    for name, value in zip(["bigint", "xid8", "timestamptz", "jsonb", "bigint[]"], [position, *row]):
        of = f"[{type(value[0]).__name__}]" if isinstance(value, list) else ""
        print(name, type(value).__name__ + of)


asyncio.run(main())
