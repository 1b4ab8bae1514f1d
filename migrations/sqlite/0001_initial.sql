-- The first schema. Ids are 16-byte UUIDs, times are microseconds since 1970-01-01 UTC.
-- CHECK constraints state what must never be; the state machine is server/src/model/transition.rs.

CREATE TABLE pipelines (
    id          BLOB PRIMARY KEY CHECK (length(id) = 16),
    name        TEXT NOT NULL UNIQUE CHECK (name <> ''),
    version     INTEGER NOT NULL CHECK (version >= 1),
    revision_id BLOB NOT NULL,
    driver      TEXT CHECK (driver IN ('docker', 'native')),
    labels      TEXT NOT NULL,
    paused      INTEGER NOT NULL CHECK (paused IN (0, 1)),
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE revisions (
    id           BLOB PRIMARY KEY CHECK (length(id) = 16),
    pipeline_id  BLOB NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
    number       INTEGER NOT NULL CHECK (number >= 1),
    content_type TEXT NOT NULL CHECK (content_type IN ('ts', 'js', 'yaml')),
    file_name    TEXT NOT NULL,
    source       TEXT NOT NULL,
    javascript   TEXT NOT NULL,
    source_map   TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    UNIQUE (pipeline_id, number)
) STRICT;

-- Newest first by position. An empty secret would verify anybody.
CREATE TABLE webhook_secrets (
    pipeline_id BLOB NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
    position    INTEGER NOT NULL CHECK (position >= 0),
    secret      BLOB NOT NULL CHECK (length(secret) > 0),
    PRIMARY KEY (pipeline_id, position)
) STRICT;

CREATE TABLE receipts (
    id          BLOB PRIMARY KEY CHECK (length(id) = 16),
    pipeline_id BLOB NOT NULL,
    method      TEXT NOT NULL,
    url         TEXT NOT NULL,
    headers     TEXT NOT NULL,
    body        BLOB NOT NULL,
    body_bytes  INTEGER NOT NULL CHECK (body_bytes >= 0),
    body_sha256 BLOB NOT NULL CHECK (length(body_sha256) = 32),
    remote_addr TEXT NOT NULL,
    provider    TEXT NOT NULL,
    event_type  TEXT NOT NULL,
    verdict     TEXT NOT NULL CHECK (verdict IN ('accepted', 'unauthorized', 'paused', 'queue_full')),
    reason      TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    run_id      BLOB,
    CHECK ((verdict = 'accepted') = (run_id IS NOT NULL))
) STRICT;
CREATE INDEX receipts_by_pipeline ON receipts (pipeline_id, id);

CREATE TABLE runs (
    id           BLOB PRIMARY KEY CHECK (length(id) = 16),
    pipeline_id  BLOB NOT NULL,
    revision_id  BLOB NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('queued', 'running', 'finished')),
    outcome      TEXT CHECK (outcome IN ('succeeded', 'failed', 'errored', 'aborted', 'skipped')),
    reason       TEXT NOT NULL DEFAULT '',
    message      TEXT NOT NULL DEFAULT '',
    trigger_kind TEXT NOT NULL CHECK (trigger_kind IN ('webhook', 'manual')),
    trigger_data TEXT NOT NULL,
    receipt_id   BLOB,
    wants_reply  INTEGER NOT NULL CHECK (wants_reply IN (0, 1)),
    replied      INTEGER NOT NULL CHECK (replied IN (0, 1)),
    event_seq    INTEGER NOT NULL CHECK (event_seq >= 0),
    cancel_actor TEXT,
    created_at   INTEGER NOT NULL,
    started_at   INTEGER,
    finished_at  INTEGER,
    CHECK ((state = 'finished') = (outcome IS NOT NULL)),
    CHECK ((state = 'finished') = (finished_at IS NOT NULL))
) STRICT;
CREATE INDEX runs_by_pipeline ON runs (pipeline_id, id);

CREATE TABLE jobs (
    id          BLOB PRIMARY KEY CHECK (length(id) = 16),
    run_id      BLOB NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    name        TEXT NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('queued', 'assigned', 'running', 'finished')),
    outcome     TEXT CHECK (outcome IN ('succeeded', 'failed', 'errored', 'aborted', 'skipped')),
    reason      TEXT NOT NULL DEFAULT '',
    message     TEXT NOT NULL DEFAULT '',
    attempt     INTEGER NOT NULL CHECK (attempt >= 0),
    lost        INTEGER NOT NULL CHECK (lost >= 0 AND lost <= attempt),
    agent_id    BLOB,
    session_id  BLOB,
    lease_until INTEGER,
    labels      TEXT NOT NULL,
    driver      TEXT CHECK (driver IN ('docker', 'native')),
    report_seq  INTEGER NOT NULL CHECK (report_seq >= 0),
    log_seq     INTEGER NOT NULL CHECK (log_seq >= 0),
    queued_at   INTEGER NOT NULL,
    started_at  INTEGER,
    finished_at INTEGER,
    CHECK ((state = 'finished') = (outcome IS NOT NULL)),
    CHECK ((state = 'finished') = (finished_at IS NOT NULL)),
    CHECK ((state IN ('assigned', 'running')) = (lease_until IS NOT NULL)),
    CHECK ((lease_until IS NULL) = (session_id IS NULL)),
    CHECK (session_id IS NULL OR agent_id IS NOT NULL)
) STRICT;
CREATE INDEX jobs_by_run ON jobs (run_id);
CREATE INDEX jobs_queued ON jobs (queued_at, id) WHERE state = 'queued';
CREATE INDEX jobs_leased ON jobs (lease_until) WHERE lease_until IS NOT NULL;

-- Attempts that ended without a result.
CREATE TABLE lost_attempts (
    job_id     BLOB NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    attempt    INTEGER NOT NULL,
    agent_id   BLOB NOT NULL,
    reason     TEXT NOT NULL,
    started_at INTEGER,
    ended_at   INTEGER NOT NULL,
    PRIMARY KEY (job_id, attempt)
) STRICT;

-- The one answer to a run's caller.
CREATE TABLE replies (
    run_id     BLOB PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    by         TEXT NOT NULL CHECK (by IN ('pipeline', 'server')),
    status     INTEGER NOT NULL CHECK (status BETWEEN 200 AND 599),
    headers    TEXT NOT NULL,
    body       BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- Everything that happened in a run, numbered without holes. Output is bytes, anything else is JSON.
CREATE TABLE run_events (
    run_id      BLOB NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    seq         INTEGER NOT NULL CHECK (seq >= 1),
    at          INTEGER NOT NULL,
    job_id      BLOB,
    attempt     INTEGER,
    data        TEXT,
    step        INTEGER,
    stream      TEXT CHECK (stream IN ('stdout', 'stderr', 'system')),
    byte_offset INTEGER,
    bytes       BLOB,
    PRIMARY KEY (run_id, seq),
    CHECK ((data IS NULL) = (bytes IS NOT NULL)),
    CHECK ((bytes IS NULL) = (stream IS NULL AND step IS NULL AND byte_offset IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE agent_tokens (
    id         BLOB PRIMARY KEY CHECK (length(id) = 16),
    name       TEXT NOT NULL,
    token_hash BLOB NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;

CREATE TABLE agents (
    id         BLOB PRIMARY KEY CHECK (length(id) = 16),
    name       TEXT NOT NULL UNIQUE CHECK (name <> ''),
    token_id   BLOB NOT NULL,
    boot_id    BLOB NOT NULL,
    session_id BLOB NOT NULL,
    connected  INTEGER NOT NULL CHECK (connected IN (0, 1)),
    slots      INTEGER NOT NULL CHECK (slots BETWEEN 1 AND 1024),
    labels     TEXT NOT NULL,
    drivers    TEXT NOT NULL,
    version    TEXT NOT NULL,
    seen_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX agents_by_session ON agents (session_id);
