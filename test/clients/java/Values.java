// What pgJDBC gives for each type, and takes as an argument.
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;

public class Values {
    static void show(String type, Object value) {
        System.out.println(type + " " + value.getClass().getSimpleName());
    }

    static PreparedStatement prepare(Connection db, String sql, Object... arguments) throws SQLException {
        PreparedStatement statement = db.prepareStatement(sql);
        for (int i = 0; i < arguments.length; i++) {
            statement.setObject(i + 1, arguments[i]);
        }
        return statement;
    }

    public static void main(String[] args) throws SQLException {
        try (Connection db = DriverManager.getConnection(System.getenv("DATABASE_URL"))) {
            prepare(db, "SELECT outbox.publish('ValueAsked', ?::jsonb)", "{\"a\": 1}").execute();
            prepare(db, "CALL outbox.await('values', ?::interval)", "20 seconds").execute();
            ResultSet row = prepare(db, "SELECT position, receipt, xid, time, data, ARRAY[position] AS positions"
                + " FROM outbox.receive(?, lease => ?::interval)", "values", "1 minute").executeQuery();
            row.next();
            prepare(db, "SELECT outbox.ack('values', ?, positions => ?)", row.getLong("receipt"),
                db.createArrayOf("bigint", new Long[] {row.getLong("position")})).execute();
            show("bigint", row.getObject("position"));
            show("xid8", row.getObject("xid"));
            show("timestamptz", row.getObject("time"));
            show("jsonb", row.getObject("data"));
            show("bigint[]", row.getArray("positions").getArray());
        }
    }
}
