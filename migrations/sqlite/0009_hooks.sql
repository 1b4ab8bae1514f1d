-- Webhook endpoints, events with their listeners, delivery ids seen, verdicts of receipts.

-- A request may start a run of a pipeline, one of each listener of an event, or none; so nothing ties the verdict to
-- one run any more, and a request to an endpoint of an event belongs to no pipeline. SQLite changes no CHECK of a
-- table: it is built anew. Nothing refers to receipts by a foreign key.
CREATE TABLE receipts_new (
    id            BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    pipeline_id   BLOB REFERENCES pipelines (id) ON DELETE CASCADE,
    run_id        BLOB REFERENCES runs (id) ON DELETE CASCADE,
    method        TEXT NOT NULL,
    url           TEXT NOT NULL,
    -- JSON array of [name, value], each byte of a value as the character with its number (latin-1).
    headers       TEXT NOT NULL CHECK (json_valid(headers)),
    body          BLOB NOT NULL,
    body_bytes    INTEGER NOT NULL CHECK (body_bytes >= length(body)),
    body_sha256   BLOB NOT NULL CHECK (length(body_sha256) = 32),
    remote_addr   TEXT NOT NULL,
    provider      TEXT NOT NULL,
    event_type    TEXT NOT NULL,
    verdict       TEXT NOT NULL CHECK (verdict IN ('accepted', 'duplicate', 'filtered', 'unrouted', 'handshake',
        'unauthorized', 'paused', 'queue_full', 'conflict', 'method', 'too_large', 'malformed', 'disabled', 'rate_limited')),
    reason        TEXT NOT NULL,
    received_at   INTEGER NOT NULL,
    endpoint_id   BLOB CHECK (length(endpoint_id) = 16),
    event_key     TEXT,
    verified      INTEGER NOT NULL DEFAULT 0 CHECK (verified IN (0, 1)),
    secret_id     TEXT,
    delivery_id   TEXT,
    attempt       INTEGER,
    -- The answer, written once it was sent.
    reply_status  INTEGER CHECK (reply_status BETWEEN 100 AND 999),
    reply_summary TEXT NOT NULL DEFAULT '',
    duration_us   INTEGER CHECK (duration_us >= 0),
    redelivery_of BLOB CHECK (length(redelivery_of) = 16),
    replay_of     BLOB CHECK (length(replay_of) = 16),
    files         TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(files)),
    body_place    TEXT NOT NULL DEFAULT 'inline' CHECK (body_place IN ('inline', 'pages', 'none')),
    CHECK (pipeline_id IS NOT NULL OR endpoint_id IS NOT NULL)
) STRICT;

INSERT INTO receipts_new (id, pipeline_id, run_id, method, url, headers, body, body_bytes, body_sha256, remote_addr,
    provider, event_type, verdict, reason, received_at, body_place)
SELECT id, pipeline_id, run_id, method, url, headers, body, body_bytes, body_sha256, remote_addr, provider, event_type,
    verdict, reason, received_at, iif(verdict = 'accepted', 'inline', 'none')
FROM receipts;
DROP TABLE receipts;
ALTER TABLE receipts_new RENAME TO receipts;

CREATE UNIQUE INDEX receipts_of_runs ON receipts (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX receipts_by_pipeline ON receipts (pipeline_id, received_at);
CREATE INDEX receipts_by_endpoint ON receipts (endpoint_id, id) WHERE endpoint_id IS NOT NULL;

-- secrets: JSON of {id, sealed, not_after}; settings as pipelines' webhook settings.
CREATE TABLE endpoints (
    id          BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    name        TEXT NOT NULL UNIQUE CHECK (name <> ''),
    version     INTEGER NOT NULL CHECK (version >= 1),
    pipeline_id BLOB REFERENCES pipelines (id) ON DELETE CASCADE,
    event_key   TEXT CHECK (event_key <> ''),
    enabled     INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    settings    TEXT NOT NULL CHECK (json_valid(settings)),
    secrets     TEXT NOT NULL CHECK (json_valid(secrets)),
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    CHECK ((pipeline_id IS NULL) <> (event_key IS NULL))
) STRICT;

-- The secret ids of endpoints' URLs, by their SHA-256.
CREATE TABLE endpoint_uuids (
    hash        BLOB NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
    endpoint_id BLOB NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
    position    INTEGER NOT NULL CHECK (position >= 0),
    prefix      TEXT NOT NULL,
    not_after   INTEGER,
    UNIQUE (endpoint_id, position)
) STRICT, WITHOUT ROWID;

-- Which pipelines listen to which events; kept by the transaction that sets a pipeline. filters: JSON list of
-- expressions, null for none.
CREATE TABLE listeners (
    event_key   TEXT NOT NULL,
    pipeline_id BLOB NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
    filters     TEXT NOT NULL CHECK (json_valid(filters)),
    PRIMARY KEY (event_key, pipeline_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX listeners_by_pipeline ON listeners (pipeline_id);

-- Keys of requests that were taken: claimed in the transaction that stores what they start.
CREATE TABLE hook_keys (
    hook_id     BLOB NOT NULL CHECK (length(hook_id) = 16),
    key         BLOB NOT NULL CHECK (length(key) = 16),
    body_sha256 BLOB CHECK (length(body_sha256) = 32),
    receipt_id  BLOB NOT NULL CHECK (length(receipt_id) = 16),
    run_id      BLOB CHECK (length(run_id) = 16),
    seen_at     INTEGER NOT NULL,
    PRIMARY KEY (hook_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX hook_keys_by_age ON hook_keys (seen_at);

-- The listeners that a message was for, stored with its receipt.
CREATE TABLE receipt_targets (
    receipt_id  BLOB NOT NULL REFERENCES receipts (id) ON DELETE CASCADE,
    pipeline_id BLOB NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
    run_id      BLOB NOT NULL CHECK (length(run_id) = 16),
    state       TEXT NOT NULL CHECK (state IN ('pending', 'started', 'filtered', 'dropped')),
    reason      TEXT NOT NULL DEFAULT '',
    tries       INTEGER NOT NULL DEFAULT 0 CHECK (tries >= 0),
    next_try_at INTEGER NOT NULL,
    PRIMARY KEY (receipt_id, pipeline_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX receipt_targets_pending ON receipt_targets (next_try_at) WHERE state = 'pending';
CREATE INDEX receipt_targets_by_pipeline ON receipt_targets (pipeline_id);
