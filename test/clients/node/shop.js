const { Client } = require('pg')

async function connect() {
  const client = new Client({ connectionString: process.env.DATABASE_URL })
  await client.connect()
  return client
}

async function publish(client, order, amount) {
  await client.query('BEGIN')
  await client.query('INSERT INTO orders VALUES ($1, $2)', [order, amount])
  await client.query("SELECT outbox.publish('OrderPlaced', $1, key => $2)", [{ amount }, String(order)])
  await client.query('COMMIT')
}

async function ship(client, event) {
  if (event.data.amount <= 0) throw new Error(`order ${event.key} has no positive amount`)
  await client.query('INSERT INTO shipment (order_id, position) VALUES ($1, $2)', [event.key, event.position])
}

async function consume(client, name, handle) {
  for (;;) {
    await client.query('CALL outbox.await($1)', [name])
    await client.query('BEGIN')
    const { rows } = await client.query('SELECT * FROM outbox.receive($1)', [name])
    for (const event of rows) {
      await client.query('SAVEPOINT event')
      try {
        await handle(client, event)
        await client.query('SELECT outbox.ack($1, $2, $3)', [name, event.receipt, event.position])
      } catch (error) {
        await client.query('ROLLBACK TO event')
        await client.query('SELECT outbox.nack($1, $2, $3, $4)', [name, event.receipt, event.position, error.message])
        await client.query('SELECT outbox.release($1, $2)', [name, event.receipt])
        break
      }
      await client.query('RELEASE event')
    }
    await client.query('COMMIT')
  }
}

async function follow(client, channel, last) {
  let wake = () => {}
  client.on('notification', () => wake())
  await client.query(`LISTEN ${channel}`)                       // first listen, then read
  for (;;) {
    const news = new Promise(resolve => { wake = resolve })
    const { rows } = await client.query('SELECT * FROM outbox.read($1)', [last])
    for (const event of rows) {
      console.log(event.position, event.type, event.key)
      last = event.position
    }
    if (rows.length === 0) await news                           // sleep until something comes
  }
}

async function main([what, ...args]) {
  const client = await connect()
  if (what === 'publish') await publish(client, Number(args[0]), Number(args[1]))
  if (what === 'consume') await consume(client, args[0], ship)
  if (what === 'follow') await follow(client, args[0], args[1])
  await client.end()
}

main(process.argv.slice(2)).catch(error => { console.error(error.message); process.exit(1) })
