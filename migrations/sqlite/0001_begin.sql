-- Everything PocketCI stores. Ids are 16 bytes (UUID version 7), times are microseconds since 1970 in UTC.
-- The CHECK constraints hold what the model promises, so that a defect is refused instead of stored.

CREATE TABLE pipelines (
    id              BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    name            TEXT NOT NULL UNIQUE CHECK (name <> ''),
    version         INTEGER NOT NULL CHECK (version >= 1),
    -- Number of the newest revision.
    revision        INTEGER NOT NULL CHECK (revision >= 1),
    -- '' leaves the choice to the agent.
    driver          TEXT NOT NULL CHECK (driver IN ('', 'docker', 'native')),
    labels          TEXT NOT NULL CHECK (json_valid(labels)),
    -- JSON array of hexadecimal strings, newest first.
    webhook_secrets TEXT NOT NULL CHECK (json_valid(webhook_secrets)),
    paused          INTEGER NOT NULL CHECK (paused IN (0, 1)),
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL CHECK (updated_at >= 0)
) STRICT, WITHOUT ROWID;

CREATE TABLE revisions (
    id           BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    pipeline_id  BLOB NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
    number       INTEGER NOT NULL CHECK (number >= 1),
    content_type TEXT NOT NULL CHECK (content_type IN ('ts', 'js', 'yaml')),
    file_name    TEXT NOT NULL,
    source       TEXT NOT NULL,
    javascript   TEXT NOT NULL,
    source_map   TEXT NOT NULL,
    UNIQUE (pipeline_id, number),
    -- For the reference from runs: a run's program is one of its own pipeline.
    UNIQUE (pipeline_id, id)
) STRICT;

CREATE TABLE tokens (
    id         BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    name       TEXT NOT NULL,
    hash       BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE agents (
    id         BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    name       TEXT NOT NULL UNIQUE CHECK (name <> ''),
    boot_id    BLOB NOT NULL CHECK (length(boot_id) = 16),
    session_id BLOB NOT NULL UNIQUE CHECK (length(session_id) = 16),
    token_id   BLOB NOT NULL REFERENCES tokens (id),
    connected  INTEGER NOT NULL CHECK (connected IN (0, 1)),
    slots      INTEGER NOT NULL CHECK (slots >= 0),
    labels     TEXT NOT NULL CHECK (json_valid(labels)),
    drivers    TEXT NOT NULL CHECK (json_valid(drivers)),
    version    TEXT NOT NULL,
    seen_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE runs (
    id           BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    pipeline_id  BLOB NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
    revision_id  BLOB NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('queued', 'running', 'finished')),
    outcome      TEXT CHECK (outcome IN ('succeeded', 'failed', 'errored', 'aborted', 'skipped')),
    reason       TEXT,
    message      TEXT,
    trigger      TEXT NOT NULL CHECK (json_valid(trigger)),
    receipt_id   BLOB CHECK (length(receipt_id) = 16),
    wants_reply  INTEGER NOT NULL CHECK (wants_reply IN (0, 1)),
    replied      INTEGER NOT NULL CHECK (replied IN (0, 1)),
    event_seq    INTEGER NOT NULL CHECK (event_seq >= 0),
    cancel_actor TEXT,
    created_at   INTEGER NOT NULL,
    started_at   INTEGER,
    finished_at  INTEGER,
    CHECK ((state = 'finished') = (outcome IS NOT NULL)),
    CHECK ((state = 'finished') = (finished_at IS NOT NULL)),
    CHECK ((outcome IS NULL) = (reason IS NULL) AND (outcome IS NULL) = (message IS NULL)),
    CHECK (state <> 'running' OR started_at IS NOT NULL),
    FOREIGN KEY (pipeline_id, revision_id) REFERENCES revisions (pipeline_id, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX runs_by_pipeline ON runs (pipeline_id, id);
CREATE INDEX runs_open ON runs (state, id) WHERE outcome IS NULL;
CREATE INDEX runs_over ON runs (outcome, id) WHERE outcome IS NOT NULL;

CREATE TABLE receipts (
    id          BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    pipeline_id BLOB NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
    run_id      BLOB REFERENCES runs (id) ON DELETE CASCADE,
    method      TEXT NOT NULL,
    url         TEXT NOT NULL,
    -- JSON array of [name, value], each byte of a value as the character with its number (latin-1).
    headers     TEXT NOT NULL CHECK (json_valid(headers)),
    body        BLOB NOT NULL,
    body_bytes  INTEGER NOT NULL CHECK (body_bytes >= length(body)),
    body_sha256 BLOB NOT NULL CHECK (length(body_sha256) = 32),
    remote_addr TEXT NOT NULL,
    provider    TEXT NOT NULL,
    event_type  TEXT NOT NULL,
    verdict     TEXT NOT NULL CHECK (verdict IN ('accepted', 'unauthorized', 'paused', 'queue_full')),
    reason      TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    CHECK ((verdict = 'accepted') = (run_id IS NOT NULL))
) STRICT;

CREATE UNIQUE INDEX receipts_of_runs ON receipts (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX receipts_by_pipeline ON receipts (pipeline_id, received_at);

CREATE TABLE jobs (
    id          BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    run_id      BLOB NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    -- Order in the run, from 0.
    position    INTEGER NOT NULL CHECK (position >= 0),
    name        TEXT NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('queued', 'assigned', 'running', 'finished')),
    outcome     TEXT CHECK (outcome IN ('succeeded', 'failed', 'errored', 'aborted', 'skipped')),
    reason      TEXT,
    message     TEXT,
    attempt     INTEGER NOT NULL CHECK (attempt >= 0),
    lost        INTEGER NOT NULL CHECK (lost BETWEEN 0 AND attempt),
    -- Who has it (with a lease) or had it last.
    agent_id    BLOB REFERENCES agents (id),
    session_id  BLOB CHECK (length(session_id) = 16),
    lease_until INTEGER,
    labels      TEXT NOT NULL CHECK (json_valid(labels)),
    driver      TEXT NOT NULL CHECK (driver IN ('', 'docker', 'native')),
    report_seq  INTEGER NOT NULL CHECK (report_seq >= 0),
    log_seq     INTEGER NOT NULL CHECK (log_seq >= 0),
    queued_at   INTEGER NOT NULL,
    started_at  INTEGER,
    finished_at INTEGER,
    PRIMARY KEY (run_id, position),
    CHECK ((state IN ('assigned', 'running')) = (lease_until IS NOT NULL)),
    CHECK ((lease_until IS NULL) = (session_id IS NULL)),
    CHECK (lease_until IS NULL OR (agent_id IS NOT NULL AND attempt >= 1)),
    CHECK (state <> 'running' OR started_at IS NOT NULL),
    CHECK ((state = 'finished') = (outcome IS NOT NULL)),
    CHECK ((state = 'finished') = (finished_at IS NOT NULL)),
    CHECK ((outcome IS NULL) = (reason IS NULL) AND (outcome IS NULL) = (message IS NULL))
) STRICT, WITHOUT ROWID;

-- A claim looks at each distinct requirement once and takes the oldest jobs of those that fit.
CREATE INDEX jobs_queued ON jobs (labels, driver, queued_at, id) WHERE state = 'queued';
CREATE INDEX jobs_leased ON jobs (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX jobs_of_sessions ON jobs (session_id) WHERE session_id IS NOT NULL;

-- Number of queued jobs: counting a long queue at every enqueue would make it longer.
CREATE TABLE queue (
    one  INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    jobs INTEGER NOT NULL CHECK (jobs >= 0)
) STRICT;

INSERT INTO queue (one, jobs) VALUES (1, 0);

CREATE TRIGGER queue_new AFTER INSERT ON jobs WHEN NEW.state = 'queued' BEGIN
    UPDATE queue SET jobs = jobs + 1;
END;
CREATE TRIGGER queue_enter AFTER UPDATE OF state ON jobs WHEN OLD.state <> 'queued' AND NEW.state = 'queued' BEGIN
    UPDATE queue SET jobs = jobs + 1;
END;
CREATE TRIGGER queue_leave AFTER UPDATE OF state ON jobs WHEN OLD.state = 'queued' AND NEW.state <> 'queued' BEGIN
    UPDATE queue SET jobs = jobs - 1;
END;
CREATE TRIGGER queue_gone AFTER DELETE ON jobs WHEN OLD.state = 'queued' BEGIN
    UPDATE queue SET jobs = jobs - 1;
END;

-- The end is the end.
CREATE TRIGGER runs_stay_finished BEFORE UPDATE OF state, outcome ON runs
WHEN OLD.state = 'finished' AND (NEW.state <> 'finished' OR NEW.outcome <> OLD.outcome) BEGIN
    SELECT RAISE(ABORT, 'a finished run never changes again');
END;
CREATE TRIGGER jobs_stay_finished BEFORE UPDATE OF state, outcome ON jobs
WHEN OLD.state = 'finished' AND (NEW.state <> 'finished' OR NEW.outcome <> OLD.outcome) BEGIN
    SELECT RAISE(ABORT, 'a finished job never changes again');
END;

CREATE TABLE lost_attempts (
    job_id     BLOB NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    attempt    INTEGER NOT NULL CHECK (attempt >= 1),
    agent_id   BLOB NOT NULL REFERENCES agents (id),
    reason     TEXT NOT NULL,
    started_at INTEGER,
    lost_at    INTEGER NOT NULL,
    PRIMARY KEY (job_id, attempt)
) STRICT, WITHOUT ROWID;

-- One reply per run.
CREATE TABLE replies (
    run_id  BLOB NOT NULL PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    by      TEXT NOT NULL CHECK (by IN ('pipeline', 'server')),
    status  INTEGER NOT NULL CHECK (status BETWEEN 200 AND 599),
    -- JSON array of [name, value].
    headers TEXT NOT NULL CHECK (json_valid(headers)),
    body    BLOB NOT NULL
) STRICT;

-- An event is a fact (JSON) or a piece of output (bytes as they came).
CREATE TABLE events (
    run_id  BLOB NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    seq     INTEGER NOT NULL CHECK (seq >= 1),
    at      INTEGER NOT NULL,
    job_id  BLOB CHECK (length(job_id) = 16),
    attempt INTEGER,
    fact    TEXT CHECK (json_valid(fact)),
    step    INTEGER,
    stream  TEXT CHECK (stream IN ('stdout', 'stderr', 'system')),
    offset  INTEGER CHECK (offset >= 0),
    bytes   BLOB CHECK (length(bytes) >= 1),
    PRIMARY KEY (run_id, seq),
    CHECK ((job_id IS NULL) = (attempt IS NULL)),
    CHECK ((fact IS NULL) = (bytes IS NOT NULL)),
    CHECK ((bytes IS NULL) = (step IS NULL)),
    CHECK ((bytes IS NULL) = (stream IS NULL)),
    CHECK ((bytes IS NULL) = (offset IS NULL))
) STRICT, WITHOUT ROWID;
