CREATE FUNCTION add_boss_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO pgboss.job (name, data) VALUES ('bench', to_jsonb(NEW));
	RETURN NULL;
END $$;
