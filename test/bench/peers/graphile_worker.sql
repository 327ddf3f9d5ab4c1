CREATE FUNCTION add_graphile_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM graphile_worker.add_job('insert', to_json(NEW));
	RETURN NULL;
END $$;
