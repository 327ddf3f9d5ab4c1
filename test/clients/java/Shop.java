import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import org.postgresql.PGConnection;

public class Shop {
    interface Handler {
        void handle(Connection db, ResultSet event) throws Exception;
    }

    static void run(Connection db, String sql, Object... arguments) throws SQLException {
        try (PreparedStatement statement = prepare(db, sql, arguments)) {
            statement.execute();
        }
    }

    static PreparedStatement prepare(Connection db, String sql, Object... arguments) throws SQLException {
        PreparedStatement statement = db.prepareStatement(sql);
        for (int i = 0; i < arguments.length; i++) {
            statement.setObject(i + 1, arguments[i]);
        }
        return statement;
    }

    static void publish(Connection db, long order, int amount) throws SQLException {
        db.setAutoCommit(false);
        run(db, "INSERT INTO orders VALUES (?, ?)", order, amount);
        run(db, "SELECT outbox.publish('OrderPlaced', ?::jsonb, key => ?)",
            "{\"amount\": " + amount + "}", String.valueOf(order));
        db.commit();
    }

    static void ship(Connection db, ResultSet event) throws Exception {
        // a library for JSON would take event.getString("data"); Java has none of its own
        try (PreparedStatement amount = prepare(db, "SELECT (?::jsonb->>'amount')::integer", event.getString("data"));
             ResultSet row = amount.executeQuery()) {
            if (!row.next() || row.getInt(1) <= 0) {
                throw new Exception("order " + event.getString("key") + " has no positive amount");
            }
        }
        run(db, "INSERT INTO shipment (order_id, position) VALUES (?, ?)",
            event.getString("key"), event.getLong("position"));
    }

    static void consume(Connection db, String name, Handler handler) throws SQLException {
        for (;;) {
            db.setAutoCommit(true);                     // await runs outside of a transaction
            run(db, "CALL outbox.await(?)", name);
            db.setAutoCommit(false);
            try (PreparedStatement receive = prepare(db, "SELECT * FROM outbox.receive(?)", name);
                 ResultSet event = receive.executeQuery()) {
                while (event.next()) {
                    long receipt = event.getLong("receipt"), position = event.getLong("position");
                    Savepoint before = db.setSavepoint();
                    try {
                        handler.handle(db, event);
                        run(db, "SELECT outbox.ack(?, ?, ?)", name, receipt, position);
                    } catch (Exception error) {
                        db.rollback(before);
                        run(db, "SELECT outbox.nack(?, ?, ?, ?)", name, receipt, position, error.getMessage());
                        run(db, "SELECT outbox.release(?, ?)", name, receipt);
                        break;
                    }
                    db.releaseSavepoint(before);
                }
            }
            db.commit();
        }
    }

    static void follow(Connection db, String channel, long last) throws SQLException {
        run(db, "LISTEN " + channel);                   // first listen, then read
        for (;;) {
            boolean any = false;
            try (PreparedStatement read = prepare(db, "SELECT * FROM outbox.read(?)", last);
                 ResultSet event = read.executeQuery()) {
                while (event.next()) {
                    any = true;
                    last = event.getLong("position");
                    System.out.println(last + " " + event.getString("type") + " " + event.getString("key"));
                }
            }
            if (!any) {                                 // sleep until something comes
                db.unwrap(PGConnection.class).getNotifications(60_000);
            }
        }
    }

    public static void main(String[] args) throws SQLException {
        try (Connection db = DriverManager.getConnection(System.getenv("DATABASE_URL"))) {
            switch (args[0]) {
                case "publish" -> publish(db, Long.parseLong(args[1]), Integer.parseInt(args[2]));
                case "consume" -> consume(db, args[1], Shop::ship);
                case "follow" -> follow(db, args[1], Long.parseLong(args[2]));
            }
        }
    }
}
