<?php
// What PDO gives for each type, and takes as an argument.

function query(PDO $db, string $sql, mixed ...$arguments): array
{
    $statement = $db->prepare($sql);
    $statement->execute($arguments);
    return $statement->fetchAll(PDO::FETCH_ASSOC);
}

$db = new PDO(getenv('DATABASE_URL'), options: [PDO::PGSQL_ATTR_DISABLE_PREPARES => true]);
query($db, "SELECT outbox.publish('ValueAsked', ?)", '{"a": 1}');
query($db, "CALL outbox.await('values', ?)", '20 seconds');
[$row] = query($db, 'SELECT "position" AS "bigint", receipt, xid AS xid8, "time" AS timestamptz, data AS jsonb,'
    . ' ARRAY["position"] AS "bigint[]" FROM outbox.receive(?, lease => ?)', 'values', '1 minute');
query($db, "SELECT outbox.ack('values', ?, positions => ?)", $row['receipt'], $row['bigint[]']);
unset($row['receipt']);
foreach ($row as $type => $value) {
    echo "$type ", gettype($value), "\n";
}
