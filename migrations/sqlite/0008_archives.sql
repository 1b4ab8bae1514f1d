-- What a one-off run takes in and gives back: tars in pages. An input is here before its run is, so there is no reference.

CREATE TABLE archives (
    run_id     BLOB NOT NULL CHECK (length(run_id) = 16),
    direction  TEXT NOT NULL CHECK (direction IN ('in', 'out')),
    name       TEXT NOT NULL CHECK (name <> ''),
    upload_id  BLOB NOT NULL UNIQUE CHECK (length(upload_id) = 16),
    pages      INTEGER NOT NULL CHECK (pages >= 0),
    bytes      INTEGER NOT NULL CHECK (bytes >= 0),
    complete   INTEGER NOT NULL CHECK (complete IN (0, 1)),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (run_id, direction, name)
) STRICT;
CREATE INDEX archives_oldest ON archives (created_at);

CREATE TABLE archive_pages (
    upload_id BLOB NOT NULL REFERENCES archives (upload_id) ON DELETE CASCADE,
    seq       INTEGER NOT NULL CHECK (seq >= 1),
    data      BLOB NOT NULL CHECK (length(data) BETWEEN 1 AND 262144),
    PRIMARY KEY (upload_id, seq)
) STRICT;

CREATE TRIGGER archives_end_with_run AFTER DELETE ON runs BEGIN
    DELETE FROM archives WHERE run_id = OLD.id;
END;
