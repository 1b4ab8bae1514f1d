-- The first schema. CHECK constraints state what must never be; the state machine is server/src/model/transition.rs.
-- Hot tables (runs, jobs, receipts, replies, run_events) have few indexes and no foreign keys on purpose: every webhook
-- pays for each (a foreign key is a query of its own for each row). Their rows are written only under the lock of their
-- run, and delete_pipeline removes them together.

CREATE TABLE pipelines (
    id          uuid PRIMARY KEY,
    name        text NOT NULL UNIQUE CHECK (name <> ''),
    version     bigint NOT NULL CHECK (version >= 1),
    revision_id uuid NOT NULL,
    driver      text CHECK (driver IN ('docker', 'native')),
    labels      jsonb NOT NULL,
    paused      boolean NOT NULL,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL
);

CREATE TABLE revisions (
    id           uuid PRIMARY KEY,
    pipeline_id  uuid NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
    number       integer NOT NULL CHECK (number >= 1),
    content_type text NOT NULL CHECK (content_type IN ('ts', 'js', 'yaml')),
    file_name    text NOT NULL,
    source       text NOT NULL,
    javascript   text NOT NULL,
    source_map   text NOT NULL,
    created_at   timestamptz NOT NULL,
    UNIQUE (pipeline_id, number)
);

-- Newest first by position. An empty secret would verify anybody.
CREATE TABLE webhook_secrets (
    pipeline_id uuid NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
    position    integer NOT NULL CHECK (position >= 0),
    secret      bytea NOT NULL CHECK (octet_length(secret) > 0),
    PRIMARY KEY (pipeline_id, position)
);

CREATE TABLE receipts (
    id          uuid PRIMARY KEY,
    pipeline_id uuid NOT NULL,
    method      text NOT NULL,
    url         text NOT NULL,
    headers     text NOT NULL,
    body        bytea NOT NULL,
    body_bytes  bigint NOT NULL CHECK (body_bytes >= 0),
    body_sha256 bytea NOT NULL CHECK (octet_length(body_sha256) = 32),
    remote_addr text NOT NULL,
    provider    text NOT NULL,
    event_type  text NOT NULL,
    verdict     text NOT NULL CHECK (verdict IN ('accepted', 'unauthorized', 'paused', 'queue_full')),
    reason      text NOT NULL,
    received_at timestamptz NOT NULL,
    run_id      uuid,
    CHECK ((verdict = 'accepted') = (run_id IS NOT NULL))
);
CREATE INDEX receipts_by_pipeline ON receipts (pipeline_id, id);

CREATE TABLE runs (
    id           uuid PRIMARY KEY,
    pipeline_id  uuid NOT NULL,
    revision_id  uuid NOT NULL,
    state        text NOT NULL CHECK (state IN ('queued', 'running', 'finished')),
    outcome      text CHECK (outcome IN ('succeeded', 'failed', 'errored', 'aborted', 'skipped')),
    reason       text NOT NULL DEFAULT '',
    message      text NOT NULL DEFAULT '',
    trigger_kind text NOT NULL CHECK (trigger_kind IN ('webhook', 'manual')),
    trigger_data text NOT NULL,
    receipt_id   uuid,
    wants_reply  boolean NOT NULL,
    replied      boolean NOT NULL,
    event_seq    bigint NOT NULL CHECK (event_seq >= 0),
    cancel_actor text,
    created_at   timestamptz NOT NULL,
    started_at   timestamptz,
    finished_at  timestamptz,
    CHECK ((state = 'finished') = (outcome IS NOT NULL)),
    CHECK ((state = 'finished') = (finished_at IS NOT NULL))
) WITH (fillfactor = 70);
CREATE INDEX runs_by_pipeline ON runs (pipeline_id, id);

CREATE TABLE jobs (
    id          uuid PRIMARY KEY,
    run_id      uuid NOT NULL,
    name        text NOT NULL,
    state       text NOT NULL CHECK (state IN ('queued', 'assigned', 'running', 'finished')),
    outcome     text CHECK (outcome IN ('succeeded', 'failed', 'errored', 'aborted', 'skipped')),
    reason      text NOT NULL DEFAULT '',
    message     text NOT NULL DEFAULT '',
    attempt     integer NOT NULL CHECK (attempt >= 0),
    lost        integer NOT NULL CHECK (lost >= 0 AND lost <= attempt),
    agent_id    uuid,
    session_id  uuid,
    lease_until timestamptz,
    labels      jsonb NOT NULL,
    driver      text CHECK (driver IN ('docker', 'native')),
    report_seq  integer NOT NULL CHECK (report_seq >= 0),
    log_seq     bigint NOT NULL CHECK (log_seq >= 0),
    queued_at   timestamptz NOT NULL,
    started_at  timestamptz,
    finished_at timestamptz,
    CHECK ((state = 'finished') = (outcome IS NOT NULL)),
    CHECK ((state = 'finished') = (finished_at IS NOT NULL)),
    CHECK ((state IN ('assigned', 'running')) = (lease_until IS NOT NULL)),
    CHECK ((lease_until IS NULL) = (session_id IS NULL)),
    CHECK (session_id IS NULL OR agent_id IS NOT NULL)
) WITH (fillfactor = 70);
CREATE INDEX jobs_by_run ON jobs (run_id);
CREATE INDEX jobs_queued ON jobs (queued_at, id) WHERE state = 'queued';
CREATE INDEX jobs_leased ON jobs (lease_until) WHERE lease_until IS NOT NULL;

-- Attempts that ended without a result.
CREATE TABLE lost_attempts (
    job_id     uuid NOT NULL,
    attempt    integer NOT NULL,
    agent_id   uuid NOT NULL,
    reason     text NOT NULL,
    started_at timestamptz,
    ended_at   timestamptz NOT NULL,
    PRIMARY KEY (job_id, attempt)
);

-- The one answer to a run's caller.
CREATE TABLE replies (
    run_id     uuid PRIMARY KEY,
    by         text NOT NULL CHECK (by IN ('pipeline', 'server')),
    status     integer NOT NULL CHECK (status BETWEEN 200 AND 599),
    headers    text NOT NULL,
    body       bytea NOT NULL,
    created_at timestamptz NOT NULL
);

-- Everything that happened in a run, numbered without holes. Output is bytes, anything else is JSON.
CREATE TABLE run_events (
    run_id      uuid NOT NULL,
    seq         bigint NOT NULL CHECK (seq >= 1),
    at          timestamptz NOT NULL,
    job_id      uuid,
    attempt     integer,
    data        text,
    step        integer,
    stream      text CHECK (stream IN ('stdout', 'stderr', 'system')),
    byte_offset bigint,
    bytes       bytea,
    PRIMARY KEY (run_id, seq),
    CHECK ((data IS NULL) = (bytes IS NOT NULL)),
    CHECK ((bytes IS NULL) = (stream IS NULL AND step IS NULL AND byte_offset IS NULL))
);

CREATE TABLE agent_tokens (
    id         uuid PRIMARY KEY,
    name       text NOT NULL,
    token_hash bytea NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
    created_at timestamptz NOT NULL,
    revoked_at timestamptz
);

CREATE TABLE agents (
    id         uuid PRIMARY KEY,
    name       text NOT NULL UNIQUE CHECK (name <> ''),
    token_id   uuid NOT NULL,
    boot_id    uuid NOT NULL,
    session_id uuid NOT NULL,
    connected  boolean NOT NULL,
    slots      integer NOT NULL CHECK (slots BETWEEN 1 AND 1024),
    labels     text NOT NULL,
    drivers    text NOT NULL,
    version    text NOT NULL,
    seen_at    timestamptz NOT NULL
);
CREATE INDEX agents_by_session ON agents (session_id);
