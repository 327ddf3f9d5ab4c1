// What tokio-postgres gives for each type, and takes as an argument.
use serde_json::{json, Value};
use std::any::type_name_of_val;
use time::OffsetDateTime;
use tokio_postgres::NoTls;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (client, connection) =
        tokio_postgres::connect(&std::env::var("DATABASE_URL")?, NoTls).await?;
    tokio::spawn(connection);
    client
        .execute(
            "SELECT outbox.publish('ValueAsked', $1)",
            &[&json!({ "a": 1 })],
        )
        .await?;
    client
        .execute(
            "CALL outbox.await('values', $1::text::interval)",
            &[&"20 seconds"],
        )
        .await?;
    let row = client
        .query_one(
            "SELECT position, receipt, xid::text, time, data, ARRAY[position]
             FROM outbox.receive($1, lease => $2::text::interval)",
            &[&"values", &"1 minute"],
        )
        .await?;
    let (position, receipt): (i64, i64) = (row.get(0), row.get(1));
    client
        .execute(
            "SELECT outbox.ack('values', $1, positions => $2)",
            &[&receipt, &vec![position]],
        )
        .await?;
    let xid: String = row.get(2);
    let time: OffsetDateTime = row.get(3);
    let data: Value = row.get(4);
    let positions: Vec<i64> = row.get(5);
    let short = |name: &str| {
        name.replace("alloc::string::", "")
            .replace("alloc::vec::", "")
    };
    println!("bigint {}", type_name_of_val(&position));
    println!("xid8 {}", short(type_name_of_val(&xid)));
    println!("timestamptz {}", short(type_name_of_val(&time)));
    println!("jsonb {}", short(type_name_of_val(&data)));
    println!("bigint[] {}", short(type_name_of_val(&positions)));
    Ok(())
}
