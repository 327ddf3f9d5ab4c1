package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"

	"github.com/jackc/pgx/v5"
)

type Event struct {
	Position, Receipt int64
	Type              string
	Key               *string
	Data              map[string]any
}

func connect(ctx context.Context) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(os.Getenv("DATABASE_URL"))
	if err != nil {
		return nil, err
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // no prepared statements: for PgBouncer
	return pgx.ConnectConfig(ctx, config)
}

func publish(ctx context.Context, conn *pgx.Conn, order int64, amount int) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "INSERT INTO orders VALUES ($1, $2)", order, amount); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "SELECT outbox.publish('OrderPlaced', $1, key => $2)",
			fmt.Sprintf(`{"amount": %d}`, amount), strconv.FormatInt(order, 10))
		return err
	})
}

func ship(ctx context.Context, tx pgx.Tx, event Event) error {
	if amount, _ := event.Data["amount"].(float64); amount <= 0 {
		return fmt.Errorf("order %s has no positive amount", *event.Key)
	}
	_, err := tx.Exec(ctx, "INSERT INTO shipment (order_id, position) VALUES ($1, $2)", event.Key, event.Position)
	return err
}

func consume(ctx context.Context, conn *pgx.Conn, name string,
	handle func(context.Context, pgx.Tx, Event) error) error {
	for {
		if _, err := conn.Exec(ctx, "CALL outbox.await($1)", name); err != nil {
			return err
		}
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			rows, _ := tx.Query(ctx, "SELECT position, receipt, type, key, data FROM outbox.receive($1)", name)
			events, err := pgx.CollectRows(rows, pgx.RowToStructByName[Event])
			for _, event := range events {
				failure := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { // a savepoint
					return handle(ctx, tx, event)
				})
				if failure != nil {
					_, err = tx.Exec(ctx, "SELECT outbox.nack($1, $2, $3, $4), outbox.release($1, $2)",
						name, event.Receipt, event.Position, failure.Error())
					return err
				}
				if _, err = tx.Exec(ctx, "SELECT outbox.ack($1, $2, $3)", name, event.Receipt, event.Position); err != nil {
					return err
				}
			}
			return err
		})
		if err != nil {
			return err
		}
	}
}

func follow(ctx context.Context, conn *pgx.Conn, channel string, last int64) error {
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil { // first listen, then read
		return err
	}
	for {
		rows, _ := conn.Query(ctx, "SELECT position, 0::bigint AS receipt, type, key, data FROM outbox.read($1)", last)
		events, err := pgx.CollectRows(rows, pgx.RowToStructByName[Event])
		if err != nil {
			return err
		}
		for _, event := range events {
			fmt.Println(event.Position, event.Type, *event.Key)
			last = event.Position
		}
		if len(events) == 0 { // sleep until something comes
			if _, err = conn.WaitForNotification(ctx); err != nil {
				return err
			}
		}
	}
}

func main() {
	ctx := context.Background()
	conn, err := connect(ctx)
	if err == nil {
		switch arguments := os.Args[2:]; os.Args[1] {
		case "publish":
			order, _ := strconv.ParseInt(arguments[0], 10, 64)
			amount, _ := strconv.Atoi(arguments[1])
			err = publish(ctx, conn, order, amount)
		case "consume":
			err = consume(ctx, conn, arguments[0], ship)
		case "follow":
			last, _ := strconv.ParseInt(arguments[1], 10, 64)
			err = follow(ctx, conn, arguments[0], last)
		}
	}
	if err != nil {
		log.Fatal(err)
	}
}
