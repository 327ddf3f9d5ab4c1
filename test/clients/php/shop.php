<?php

function connect(): PDO
{
    return new PDO(getenv('DATABASE_URL'), options: [
        PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
        PDO::ATTR_DEFAULT_FETCH_MODE => PDO::FETCH_ASSOC,
        PDO::PGSQL_ATTR_DISABLE_PREPARES => true,       // for PgBouncer before 1.21
    ]);
}

function query(PDO $db, string $sql, mixed ...$arguments): array
{
    $statement = $db->prepare($sql);
    $statement->execute($arguments);
    return $statement->fetchAll();
}

function publish(PDO $db, int $order, int $amount): void
{
    $db->beginTransaction();
    query($db, 'INSERT INTO orders VALUES (?, ?)', $order, $amount);
    query($db, "SELECT outbox.publish('OrderPlaced', ?, key => ?)", json_encode(['amount' => $amount]), $order);
    $db->commit();
}

function ship(PDO $db, array $event): void
{
    if (json_decode($event['data'])->amount <= 0) {
        throw new Exception("order {$event['key']} has no positive amount");
    }
    query($db, 'INSERT INTO shipment (order_id, position) VALUES (?, ?)', $event['key'], $event['position']);
}

function consume(PDO $db, string $name, callable $handle): void
{
    for (;;) {
        query($db, 'CALL outbox.await(?)', $name);
        $db->beginTransaction();
        foreach (query($db, 'SELECT * FROM outbox.receive(?)', $name) as $event) {
            ['receipt' => $receipt, 'position' => $position] = $event;
            $db->exec('SAVEPOINT event');
            try {
                $handle($db, $event);
                query($db, 'SELECT outbox.ack(?, ?, ?)', $name, $receipt, $position);
            } catch (Exception $error) {
                $db->exec('ROLLBACK TO event');
                query($db, 'SELECT outbox.nack(?, ?, ?, ?)', $name, $receipt, $position, $error->getMessage());
                query($db, 'SELECT outbox.release(?, ?)', $name, $receipt);
                break;
            }
            $db->exec('RELEASE event');
        }
        $db->commit();
    }
}

function follow(PDO $db, string $channel, int $last): void
{
    $db->exec("LISTEN $channel");                       // first listen, then read
    for (;;) {
        $events = query($db, 'SELECT * FROM outbox.read(?)', $last);
        foreach ($events as ['position' => $last, 'type' => $type, 'key' => $key]) {
            echo "$last $type $key\n";
        }
        if (!$events) {                                 // sleep until something comes
            $db->pgsqlGetNotify(PDO::FETCH_ASSOC, 60_000);
        }
    }
}

match ($argv[1]) {
    'publish' => publish(connect(), (int) $argv[2], (int) $argv[3]),
    'consume' => consume(connect(), $argv[2], 'ship'),
    'follow' => follow(connect(), $argv[2], (int) $argv[3]),
};
