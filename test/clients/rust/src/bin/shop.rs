use serde_json::{json, Value};
use std::{env, future::poll_fn, sync::Arc};
use tokio::sync::Notify;
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Client, NoTls, Row, Transaction};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The connection runs beside its client, and says when a notification comes.
async fn connect() -> Result<(Client, Arc<Notify>)> {
    let (client, mut connection) =
        tokio_postgres::connect(&env::var("DATABASE_URL")?, NoTls).await?;
    let news = Arc::new(Notify::new());
    let notify = news.clone();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(_) = message {
                notify.notify_one();
            }
        }
        notify.notify_one(); // the end
    });
    Ok((client, news))
}

async fn publish(client: &mut Client, order: i64, amount: i32) -> Result<()> {
    let tx = client.transaction().await?;
    tx.query_typed(
        "INSERT INTO orders VALUES ($1, $2)",
        &[(&order, Type::INT8), (&amount, Type::INT4)],
    )
    .await?;
    tx.query_typed(
        "SELECT outbox.publish('OrderPlaced', $1, key => $2)",
        &[
            (&json!({ "amount": amount }), Type::JSONB),
            (&order.to_string(), Type::TEXT),
        ],
    )
    .await?;
    Ok(tx.commit().await?)
}

async fn ship(tx: &Transaction<'_>, event: &Row) -> Result<()> {
    let (position, key, data): (i64, Option<String>, Value) =
        (event.get("position"), event.get("key"), event.get("data"));
    if data["amount"].as_i64() <= Some(0) {
        return Err(format!("order {} has no positive amount", key.unwrap_or_default()).into());
    }
    let arguments = [(&key as _, Type::TEXT), (&position as _, Type::INT8)];
    tx.query_typed(
        "INSERT INTO shipment (order_id, position) VALUES ($1, $2)",
        &arguments,
    )
    .await?;
    Ok(())
}

async fn consume(client: &mut Client, name: &str) -> Result<()> {
    loop {
        client
            .query_typed("CALL outbox.await($1)", &[(&name, Type::TEXT)])
            .await?;
        let mut tx = client.transaction().await?;
        let events = "SELECT position, receipt, key, data FROM outbox.receive($1)";
        for event in tx.query_typed(events, &[(&name, Type::TEXT)]).await? {
            let (receipt, position): (i64, i64) = (event.get("receipt"), event.get("position"));
            let savepoint = tx.transaction().await?;
            let hand_out = [
                (&name as _, Type::TEXT),
                (&receipt as _, Type::INT8),
                (&position as _, Type::INT8),
            ];
            match ship(&savepoint, &event).await {
                Ok(()) => {
                    savepoint.commit().await?;
                    tx.query_typed("SELECT outbox.ack($1, $2, $3)", &hand_out)
                        .await?;
                }
                Err(error) => {
                    savepoint.rollback().await?;
                    let nack = "SELECT outbox.nack($1, $2, $3, $4), outbox.release($1, $2)";
                    let why = error.to_string();
                    tx.query_typed(nack, &[&hand_out[..], &[(&why as _, Type::TEXT)]].concat())
                        .await?;
                    break;
                }
            }
        }
        tx.commit().await?;
    }
}

async fn follow(client: &Client, news: &Notify, channel: &str, mut last: i64) -> Result<()> {
    client.batch_execute(&format!("LISTEN {channel}")).await?; // first listen, then read
    loop {
        let events = client
            .query("SELECT position, type, key FROM outbox.read($1)", &[&last])
            .await?;
        for event in &events {
            last = event.get("position");
            println!(
                "{last} {} {}",
                event.get::<_, &str>("type"),
                event.get::<_, &str>("key")
            );
        }
        if events.is_empty() {
            news.notified().await; // sleep until something comes
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (mut client, news) = connect().await?;
    let words: Vec<String> = env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["publish", order, amount] => publish(&mut client, order.parse()?, amount.parse()?).await,
        ["consume", name] => consume(&mut client, name).await,
        ["follow", channel, last] => follow(&client, &news, channel, last.parse()?).await,
        _ => Err("usage: shop publish|consume|follow ...".into()),
    }
}
