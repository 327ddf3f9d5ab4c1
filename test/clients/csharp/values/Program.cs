// What Npgsql gives for each type, and takes as an argument.
using Npgsql;

await using var db = new NpgsqlConnection(Environment.GetEnvironmentVariable("DATABASE_URL"));
await db.OpenAsync();

NpgsqlCommand Command(string sql, params object[] arguments)
{
    var command = new NpgsqlCommand(sql, db);
    foreach (var argument in arguments) command.Parameters.Add(new NpgsqlParameter { Value = argument });
    return command;
}

await Command("SELECT outbox.publish('ValueAsked', $1::jsonb)", "{\"a\": 1}").ExecuteNonQueryAsync();
await Command("CALL outbox.await('values', $1)", TimeSpan.FromSeconds(20)).ExecuteNonQueryAsync();
long position, receipt;
await using (var row = await Command(
    "SELECT position, receipt, xid, time, data, ARRAY[position] FROM outbox.receive($1, lease => $2)",
    "values", TimeSpan.FromMinutes(1)).ExecuteReaderAsync())
{
    await row.ReadAsync();
    position = row.GetInt64(0);
    receipt = row.GetInt64(1);
    Console.WriteLine($"bigint {row.GetValue(0).GetType().Name}");
    Console.WriteLine($"xid8 {row.GetValue(2).GetType().Name}");
    Console.WriteLine($"timestamptz {row.GetValue(3).GetType().Name}");
    Console.WriteLine($"jsonb {row.GetValue(4).GetType().Name}");
    Console.WriteLine($"bigint[] {row.GetValue(5).GetType().Name}");
}
await Command("SELECT outbox.ack('values', $1, positions => $2)", receipt, new[] { position }).ExecuteNonQueryAsync();
