# What ruby-pg gives for each type, and takes as an argument.
require 'json'
require 'pg'

def name_of(value)
  value.is_a?(Array) ? "Array of #{name_of(value.first)}" : value.class.name
end

conn = PG.connect(ENV.fetch('DATABASE_URL'))
conn.type_map_for_results = PG::BasicTypeMapForResults.new(conn)
conn.exec_params("SELECT outbox.publish('ValueAsked', $1)", [{ a: 1 }.to_json])
conn.exec_params("CALL outbox.await('values', $1)", ['20 seconds'])
row = conn.exec_params('SELECT "position", receipt, xid::text, "time", data, ARRAY["position"] AS positions' \
                       ' FROM outbox.receive($1, lease => $2)', ['values', '1 minute']).first
positions = PG::TextEncoder::Array.new.encode(row['positions'])
conn.exec_params("SELECT outbox.ack('values', $1, positions => $2)", [row['receipt'], positions])
{ 'bigint' => 'position', 'xid8' => 'xid', 'timestamptz' => 'time', 'jsonb' => 'data',
  'bigint[]' => 'positions' }.each { |type, column| puts "#{type} #{name_of(row[column])}" }
