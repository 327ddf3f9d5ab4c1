import json, os, sys, urllib.request
import psycopg
from psycopg.rows import namedtuple_row

conn = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True,
                       row_factory=namedtuple_row, prepare_threshold=None)


def post(url, event):
    headers = {"Content-Type": "application/json", "Idempotency-Key": str(event.id)}
    request = urllib.request.Request(url, json.dumps(event.data).encode(), headers)
    urllib.request.urlopen(request, timeout=30).close()             # raises an OSError


def consume(name, url):
    while True:
        conn.execute("CALL outbox.await(%s)", [name])
        for event in conn.execute("SELECT * FROM outbox.receive(%s, lease => '1 minute')", [name]).fetchall():
            hand_out = [name, event.receipt]
            try:
                conn.execute("SELECT outbox.extend(%s, %s, '1 minute')", hand_out)
                post(url, event)
                conn.execute("SELECT outbox.ack(%s, %s, %s)", [*hand_out, event.position])
            except OSError as error:
                conn.execute("SELECT outbox.nack(%s, %s, %s, %s)", [*hand_out, event.position, str(error)])
                conn.execute("SELECT outbox.release(%s, %s)", hand_out)
                break
            except psycopg.Error as error:
                if error.sqlstate != "OB004":
                    raise
                break                                               # the lease has run out


consume(*sys.argv[1:])
