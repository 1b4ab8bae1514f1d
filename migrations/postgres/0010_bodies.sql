-- Large request bodies in pages, and the files in them. A body is here before its receipt is, so there is no reference;
-- what no receipt names goes by its age. Receipts of replays and reruns name the same body.

CREATE TABLE bodies (
    id         uuid PRIMARY KEY,
    created_at timestamptz NOT NULL
);
CREATE INDEX bodies_oldest ON bodies (created_at);

CREATE TABLE receipt_pages (
    body_id uuid NOT NULL REFERENCES bodies (id) ON DELETE CASCADE,
    seq     bigint NOT NULL CHECK (seq >= 1),
    data    bytea NOT NULL CHECK (octet_length(data) BETWEEN 1 AND 262144),
    PRIMARY KEY (body_id, seq)
);
-- Uploads are mostly packed already: compressing them again is not worth the time.
ALTER TABLE receipt_pages ALTER COLUMN data SET STORAGE EXTERNAL;

ALTER TABLE receipts
    ADD COLUMN body_id uuid,
    -- Fields of a multipart body: JSON array of [name, value].
    ADD COLUMN form text NOT NULL DEFAULT '[]';
CREATE INDEX receipts_of_replays ON receipts (replay_of) WHERE replay_of IS NOT NULL;
CREATE INDEX receipts_by_body ON receipts (body_id) WHERE body_id IS NOT NULL;
