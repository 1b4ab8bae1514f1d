-- What a one-off run takes in and gives back: tars in pages. An input is here before its run is, so there is no reference.

CREATE TABLE archives (
    run_id     uuid NOT NULL,
    direction  text NOT NULL CHECK (direction IN ('in', 'out')),
    name       text NOT NULL CHECK (name <> ''),
    upload_id  uuid NOT NULL UNIQUE,
    pages      bigint NOT NULL CHECK (pages >= 0),
    bytes      bigint NOT NULL CHECK (bytes >= 0),
    complete   boolean NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (run_id, direction, name)
);
CREATE INDEX archives_oldest ON archives (created_at);

CREATE TABLE archive_pages (
    upload_id uuid NOT NULL REFERENCES archives (upload_id) ON DELETE CASCADE,
    seq       bigint NOT NULL CHECK (seq >= 1),
    data      bytea NOT NULL CHECK (octet_length(data) BETWEEN 1 AND 262144),
    PRIMARY KEY (upload_id, seq)
);
-- Kept for a day at most: compressing it is not worth the time.
ALTER TABLE archive_pages ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE FUNCTION archives_end_with_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM archives WHERE run_id = OLD.id;
    RETURN NULL;
END
$$;
CREATE TRIGGER archives_end_with_run AFTER DELETE ON runs
    FOR EACH ROW EXECUTE FUNCTION archives_end_with_run();
