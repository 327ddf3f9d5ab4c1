// What pgx gives for each type, and takes as an argument.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
)

func main() {
	ctx := context.Background()
	config, err := pgx.ParseConfig(os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		log.Fatal(err)
	}
	run := func(sql string, arguments ...any) {
		if _, err := conn.Exec(ctx, sql, arguments...); err != nil {
			log.Fatal(sql, ": ", err)
		}
	}

	run("SELECT outbox.publish('ValueAsked', $1)", `{"a": 1}`)
	run("CALL outbox.await('values', $1)", 20*time.Second)
	rows, err := conn.Query(ctx, "SELECT position, receipt, xid, time, data, ARRAY[position]"+
		" FROM outbox.receive($1, lease => $2)", "values", time.Minute)
	if err != nil {
		log.Fatal(err)
	}
	row, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
	if err != nil {
		log.Fatal(err)
	}
	run("SELECT outbox.ack('values', $1, positions => $2)", row[1], []int64{row[0].(int64)})
	for i, name := range []string{"bigint", "", "xid8", "timestamptz", "jsonb", "bigint[]"} {
		if array, ok := row[i].([]any); ok {
			fmt.Printf("%s []any of %T\n", name, array[0])
		} else if name != "" {
			fmt.Printf("%s %T\n", name, row[i])
		}
	}
}
