# What psycopg gives for each type, and takes as an argument.
import datetime, os
import psycopg
from psycopg.types.json import Jsonb

conn = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True, prepare_threshold=None)
conn.execute("SELECT outbox.publish('ValueAsked', %s)", [Jsonb({"a": 1})])
conn.execute("CALL outbox.await('values', %s)", [datetime.timedelta(seconds=20)])
position, receipt, *row = conn.execute(
    'SELECT "position", receipt, xid, "time", data, ARRAY["position"] FROM outbox.receive(%s, lease => %s)',
    ["values", datetime.timedelta(minutes=1)]).fetchone()
conn.execute("SELECT outbox.ack('values', %s, positions => %s)", [receipt, [position]])
for name, value in zip(["bigint", "xid8", "timestamptz", "jsonb", "bigint[]"], [position, *row]):
    of = f"[{type(value[0]).__name__}]" if isinstance(value, list) else ""
    print(name, type(value).__name__ + of)
