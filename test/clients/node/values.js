// What node-postgres gives for each type, and takes as an argument.
const { Client } = require('pg')

function nameOf(value) {
  return Array.isArray(value) ? `${nameOf(value[0])}[]`
    : typeof value === 'object' ? value.constructor.name : typeof value
}

async function main() {
  const client = new Client({ connectionString: process.env.DATABASE_URL })
  await client.connect()
  await client.query("SELECT outbox.publish('ValueAsked', $1)", [{ a: 1 }])
  await client.query("CALL outbox.await('values', $1)", ['20 seconds'])
  const { rows: [row] } = await client.query(
    'SELECT "position", receipt, xid, "time", data, ARRAY["position"] AS positions FROM outbox.receive($1, lease => $2)',
    ['values', '1 minute'])
  await client.query("SELECT outbox.ack('values', $1, positions => $2)", [row.receipt, [row.position]])
  const names = { bigint: 'position', xid8: 'xid', timestamptz: 'time', jsonb: 'data', 'bigint[]': 'positions' }
  for (const [name, column] of Object.entries(names)) console.log(name, nameOf(row[column]))
  await client.end()
}

main().catch(error => { console.error(error.message); process.exit(1) })
