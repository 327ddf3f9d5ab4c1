using System.Text.Json;
using Npgsql;

await using var db = new NpgsqlConnection(Environment.GetEnvironmentVariable("DATABASE_URL"));
await db.OpenAsync();
switch (args)
{
    case ["publish", var order, var amount]: await Publish(long.Parse(order), int.Parse(amount)); break;
    case ["consume", var name]: await Consume(name, Ship); break;
    case ["follow", var channel, var last]: await Follow(channel, long.Parse(last)); break;
}

NpgsqlCommand Command(string sql, object[] arguments)
{
    var command = new NpgsqlCommand(sql, db);
    foreach (var argument in arguments) command.Parameters.Add(new NpgsqlParameter { Value = argument });
    return command;
}

async Task Run(string sql, params object[] arguments)
{
    await using var command = Command(sql, arguments);
    await command.ExecuteNonQueryAsync();
}

async Task<List<Event>> Read(string sql, params object[] arguments)
{
    var events = new List<Event>();
    await using var command = Command(sql, arguments);
    await using var row = await command.ExecuteReaderAsync();
    while (await row.ReadAsync())
        events.Add(new Event(row.GetInt64(0), row.GetInt64(1), row.GetString(2),
                             row.IsDBNull(3) ? null : row.GetString(3), row.GetString(4)));
    return events;
}

async Task Publish(long order, int amount)
{
    await using var tx = await db.BeginTransactionAsync();
    await Run("INSERT INTO orders VALUES ($1, $2)", order, amount);
    await Run("SELECT outbox.publish('OrderPlaced', $1::jsonb, key => $2)",
              JsonSerializer.Serialize(new { amount }), order.ToString());
    await tx.CommitAsync();
}

async Task Ship(Event e)
{
    using var data = JsonDocument.Parse(e.Data);
    if (data.RootElement.GetProperty("amount").GetInt32() <= 0)
        throw new Exception($"order {e.Key} has no positive amount");
    await Run("INSERT INTO shipment (order_id, position) VALUES ($1, $2)", e.Key!, e.Position);
}

async Task Consume(string name, Func<Event, Task> handle)
{
    for (;;)
    {
        await Run("CALL outbox.await($1)", name);
        await using var tx = await db.BeginTransactionAsync();
        foreach (var e in await Read("SELECT position, receipt, type, key, data FROM outbox.receive($1)", name))
        {
            await tx.SaveAsync("event");
            try
            {
                await handle(e);
                await Run("SELECT outbox.ack($1, $2, $3)", name, e.Receipt, e.Position);
            }
            catch (Exception error)
            {
                await tx.RollbackAsync("event");
                await Run("SELECT outbox.nack($1, $2, $3, $4)", name, e.Receipt, e.Position, error.Message);
                await Run("SELECT outbox.release($1, $2)", name, e.Receipt);
                break;
            }
            await tx.ReleaseAsync("event");
        }
        await tx.CommitAsync();
    }
}

async Task Follow(string channel, long last)
{
    var news = false;
    db.Notification += (_, _) => news = true;
    await Run($"LISTEN {channel}");                     // first listen, then read
    for (;;)
    {
        news = false;
        var events = await Read("SELECT position, 0::bigint, type, key, data FROM outbox.read($1)", last);
        foreach (var e in events)
        {
            Console.WriteLine($"{e.Position} {e.Type} {e.Key}");
            last = e.Position;
        }
        if (events.Count == 0 && !news) await db.WaitAsync();   // sleep until something comes
    }
}

record Event(long Position, long Receipt, string Type, string? Key, string Data);
