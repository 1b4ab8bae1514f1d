-- Large request bodies in pages, and the files in them. A body is here before its receipt is, so there is no reference;
-- what no receipt names goes by its age. Receipts of replays and reruns name the same body.

CREATE TABLE bodies (
    id         BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX bodies_oldest ON bodies (created_at);

CREATE TABLE receipt_pages (
    body_id BLOB NOT NULL REFERENCES bodies (id) ON DELETE CASCADE,
    seq     INTEGER NOT NULL CHECK (seq >= 1),
    data    BLOB NOT NULL CHECK (length(data) BETWEEN 1 AND 262144),
    PRIMARY KEY (body_id, seq)
) STRICT;

ALTER TABLE receipts ADD COLUMN body_id BLOB CHECK (body_id IS NULL OR length(body_id) = 16);
-- Fields of a multipart body: JSON array of [name, value].
ALTER TABLE receipts ADD COLUMN form TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(form));
CREATE INDEX receipts_of_replays ON receipts (replay_of) WHERE replay_of IS NOT NULL;
CREATE INDEX receipts_by_body ON receipts (body_id) WHERE body_id IS NOT NULL;
