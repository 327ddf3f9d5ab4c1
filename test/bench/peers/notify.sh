# A trigger that calls pg_notify: nothing is kept, and who does not listen at
# that moment has missed it.
#
# shellcheck shell=bash

notify_label() { echo "NOTIFY in a trigger"; }
notify_missing() { :; }

notify_install()
{
	sql <<'SQL'
CREATE TABLE announced (id bigint);
CREATE FUNCTION notify_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_notify('bench', NEW.id::text);
	RETURN NULL;
END $$;
CREATE TRIGGER notify AFTER INSERT ON announced FOR EACH ROW EXECUTE FUNCTION notify_row();
SQL
}

notify_capture()
{
	sql -c "CREATE TRIGGER notify AFTER INSERT OR UPDATE ON $1
			FOR EACH ROW EXECUTE FUNCTION notify_row()"
}

notify_settle() { :; }
notify_publish() { echo "INSERT INTO announced VALUES (\$1::bigint)"; }
notify_serve() { :; }
notify_rest() { :; }
