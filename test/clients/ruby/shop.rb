require 'json'
require 'pg'

def connect
  conn = PG.connect(ENV.fetch('DATABASE_URL'))
  conn.type_map_for_results = PG::BasicTypeMapForResults.new(conn)  # else all values are text
  conn
end

def publish(conn, order, amount)
  conn.transaction do
    conn.exec_params('INSERT INTO orders VALUES ($1, $2)', [order, amount])
    conn.exec_params("SELECT outbox.publish('OrderPlaced', $1, key => $2)", [{ amount: amount }.to_json, order])
  end
end

def ship(conn, event)
  raise "order #{event['key']} has no positive amount" unless event['data']['amount'].positive?

  conn.exec_params('INSERT INTO shipment (order_id, position) VALUES ($1, $2)', event.values_at('key', 'position'))
end

def consume(conn, name, &handle)
  loop do
    conn.exec_params('CALL outbox.await($1)', [name])
    conn.transaction do
      conn.exec_params('SELECT position, receipt, key, data FROM outbox.receive($1)', [name]).each do |event|
        receipt, position = event.values_at('receipt', 'position')
        conn.exec('SAVEPOINT event')
        begin
          handle.call(event)
          conn.exec_params('SELECT outbox.ack($1, $2, $3)', [name, receipt, position])
        rescue StandardError => error
          conn.exec('ROLLBACK TO event')
          conn.exec_params('SELECT outbox.nack($1, $2, $3, $4)', [name, receipt, position, error.message])
          conn.exec_params('SELECT outbox.release($1, $2)', [name, receipt])
          break
        end
        conn.exec('RELEASE event')
      end
    end
  end
end

def follow(conn, channel, last)
  conn.exec("LISTEN #{channel}")                                    # first listen, then read
  loop do
    events = conn.exec_params('SELECT position, type, key FROM outbox.read($1)', [last]).to_a
    events.each do |event|
      puts event.values_at('position', 'type', 'key').join(' ')
      last = event['position']
    end
    conn.wait_for_notify if events.empty?                           # sleep until something comes
  end
end

$stdout.sync = true
conn = connect
case ARGV
in ['publish', order, amount] then publish(conn, order.to_i, amount.to_i)
in ['consume', name] then consume(conn, name) { |event| ship(conn, event) }
in ['follow', channel, last] then follow(conn, channel, last.to_i)
end
