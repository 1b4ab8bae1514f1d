-- Subscriptions, events to tell, deliveries and their tries.
-- What deleted subscriptions and pipelines leave behind is forgotten in pages: it may be millions of rows.

CREATE TABLE subscriptions (
    id              BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    version         INTEGER NOT NULL CHECK (version >= 1),
    name            TEXT NOT NULL UNIQUE CHECK (name <> ''),
    url             TEXT NOT NULL CHECK (url <> ''),
    -- JSON array of words.
    events          TEXT NOT NULL CHECK (json_valid(events)),
    -- NULL: whatever happens in any pipeline.
    pipeline_id     BLOB REFERENCES pipelines (id) ON DELETE CASCADE,
    -- JSON, bytes sealed.
    secrets         TEXT NOT NULL CHECK (json_valid(secrets)),
    headers         TEXT NOT NULL CHECK (json_valid(headers)),
    verify_tls      INTEGER NOT NULL CHECK (verify_tls IN (0, 1)),
    ca_pem          TEXT,
    filter          TEXT,
    concurrency     INTEGER NOT NULL CHECK (concurrency BETWEEN 1 AND 64),
    rate_per_second REAL CHECK (rate_per_second > 0),
    -- JSON array of milliseconds.
    schedule        TEXT CHECK (json_valid(schedule)),
    ordered         INTEGER NOT NULL CHECK (ordered IN (0, 1)),
    disabled_reason TEXT CHECK (disabled_reason IN ('operator', 'gone', 'asked', 'failing')),
    disabled_since  INTEGER,
    failures        INTEGER NOT NULL DEFAULT 0 CHECK (failures >= 0),
    failing_since   INTEGER,
    failed_at       INTEGER,
    succeeded_at    INTEGER,
    paused_until    INTEGER,
    -- The rate's bucket is empty at this instant and full a second later.
    slot_at         INTEGER NOT NULL DEFAULT 0,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    CHECK ((disabled_reason IS NULL) = (disabled_since IS NULL)),
    CHECK ((failures = 0) = (failing_since IS NULL)),
    CHECK (verify_tls OR headers = '[]')
) STRICT;
CREATE INDEX subscriptions_enabled ON subscriptions (id) WHERE disabled_reason IS NULL;
CREATE INDEX subscriptions_of_pipelines ON subscriptions (pipeline_id);

CREATE TABLE outgoing_events (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    name        TEXT NOT NULL,
    pipeline_id BLOB,
    run_id      BLOB,
    job_id      BLOB,
    attempt     INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    status      TEXT NOT NULL,
    data        TEXT NOT NULL CHECK (json_valid(data)),
    payload     TEXT
) STRICT;
CREATE INDEX outgoing_events_by_time ON outgoing_events (at, seq);

CREATE TABLE deliveries (
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,
    id              BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    origin          TEXT NOT NULL CHECK (origin IN ('event', 'resend', 'replay', 'ping', 'send')),
    subscription_id BLOB,
    receiver        TEXT NOT NULL,
    event_id        BLOB,
    event           TEXT,
    webhook_id      TEXT NOT NULL,
    pipeline_id     BLOB,
    run_id          BLOB,
    state           TEXT NOT NULL
        CHECK (state IN ('pending', 'sending', 'delivered', 'failed', 'filtered', 'dropped')),
    reason          TEXT NOT NULL DEFAULT '',
    tries           INTEGER NOT NULL DEFAULT 0 CHECK (tries >= 0),
    next_at         INTEGER,
    sender          BLOB,
    lease_until     INTEGER,
    resend_of       BLOB,
    replay_id       BLOB,
    created_at      INTEGER NOT NULL,
    finished_at     INTEGER,
    CHECK ((state = 'pending') = (next_at IS NOT NULL)),
    CHECK (origin = 'send' OR (state = 'sending') = (lease_until IS NOT NULL)),
    CHECK ((state IN ('pending', 'sending')) = (finished_at IS NULL)),
    CHECK ((origin = 'send') = (subscription_id IS NULL)),
    CHECK ((event_id IS NULL) = (event IS NULL) AND (event_id IS NULL) = (origin = 'send'))
) STRICT;
CREATE UNIQUE INDEX deliveries_once ON deliveries (event_id, subscription_id) WHERE origin = 'event';
CREATE UNIQUE INDEX deliveries_replayed_once ON deliveries (replay_id, event_id) WHERE replay_id IS NOT NULL;
CREATE INDEX deliveries_of_events ON deliveries (event_id, subscription_id);
CREATE INDEX deliveries_due ON deliveries (subscription_id, next_at, seq) WHERE state = 'pending';
CREATE INDEX deliveries_in_order ON deliveries (subscription_id, seq) WHERE state = 'pending';
CREATE INDEX deliveries_in_hand ON deliveries (subscription_id, lease_until)
    WHERE state = 'sending' AND lease_until IS NOT NULL;
CREATE INDEX deliveries_by_subscription ON deliveries (subscription_id, seq);
CREATE INDEX deliveries_by_pipeline ON deliveries (pipeline_id, seq);
CREATE INDEX deliveries_by_run ON deliveries (run_id, seq);
CREATE INDEX deliveries_by_state ON deliveries (state, seq);
-- Of webhook.send.
CREATE INDEX deliveries_sent_by_pipelines ON deliveries (pipeline_id) WHERE subscription_id IS NULL;
CREATE INDEX deliveries_oldest ON deliveries (created_at);

-- A try is here before its first byte is sent; until it is recorded it is unknown whether it arrived.
CREATE TABLE delivery_tries (
    delivery_id      BLOB NOT NULL CHECK (length(delivery_id) = 16),
    number           INTEGER NOT NULL CHECK (number >= 1),
    state            TEXT NOT NULL CHECK (state IN ('unknown', 'delivered', 'failed')),
    began_at         INTEGER NOT NULL,
    sender           TEXT NOT NULL,
    url              TEXT NOT NULL,
    method           TEXT NOT NULL,
    headers          TEXT NOT NULL CHECK (json_valid(headers)),
    body_bytes       INTEGER NOT NULL,
    body_sha256      TEXT NOT NULL,
    status           INTEGER,
    response_headers TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(response_headers)),
    response_body    BLOB NOT NULL DEFAULT x'',
    error            TEXT NOT NULL DEFAULT '',
    duration_us      INTEGER NOT NULL DEFAULT 0,
    first_byte_us    INTEGER,
    peer             TEXT,
    PRIMARY KEY (delivery_id, number)
) STRICT;

CREATE TABLE replays (
    id              BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    subscription_id BLOB NOT NULL REFERENCES subscriptions (id) ON DELETE CASCADE,
    which           TEXT NOT NULL CHECK (which IN ('failed', 'missing', 'all')),
    since           INTEGER NOT NULL,
    until           INTEGER NOT NULL,
    events          TEXT NOT NULL CHECK (json_valid(events)),
    expected        INTEGER NOT NULL,
    created         INTEGER NOT NULL DEFAULT 0,
    done            INTEGER NOT NULL DEFAULT 0 CHECK (done IN (0, 1)),
    -- The last event looked at, and the last one there was.
    cursor_at       INTEGER NOT NULL,
    cursor_seq      INTEGER NOT NULL,
    last_seq        INTEGER NOT NULL,
    created_at      INTEGER NOT NULL
) STRICT;
CREATE INDEX replays_of_subscriptions ON replays (subscription_id, created_at);
CREATE INDEX replays_unfinished ON replays (created_at) WHERE NOT done;

CREATE TRIGGER tries_end_with_delivery AFTER DELETE ON deliveries BEGIN
    DELETE FROM delivery_tries WHERE delivery_id = OLD.id;
END;
