-- What the pipeline API needs: imported files, secrets (sealed by the server's key), values, keys seen, approvals.

ALTER TABLE revisions ADD COLUMN modules TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(modules));

-- pipeline_id NULL: everybody's.
CREATE TABLE secrets (
    pipeline_id BLOB REFERENCES pipelines (id) ON DELETE CASCADE,
    name        TEXT NOT NULL CHECK (name <> ''),
    sealed      BLOB NOT NULL CHECK (length(sealed) > 0),
    updated_at  INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX secrets_by_name ON secrets (coalesce(pipeline_id, x''), name);

-- Keys that something stored may be sealed with.
CREATE TABLE secret_keys (
    id       BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 8),
    added_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE stored_values (
    pipeline_id BLOB NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
    key         TEXT NOT NULL CHECK (key <> ''),
    value       TEXT NOT NULL CHECK (json_valid(value)),
    updated_at  INTEGER NOT NULL,
    PRIMARY KEY (pipeline_id, key)
) STRICT, WITHOUT ROWID;

-- Who saw a key first: a call of a run, which may ask again.
CREATE TABLE seen_keys (
    pipeline_id BLOB NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
    hash        BLOB NOT NULL CHECK (length(hash) = 32),
    run_id      BLOB NOT NULL CHECK (length(run_id) = 16),
    call        INTEGER NOT NULL CHECK (call >= 0),
    seen_at     INTEGER NOT NULL,
    PRIMARY KEY (pipeline_id, hash)
) STRICT, WITHOUT ROWID;

CREATE INDEX seen_keys_by_age ON seen_keys (pipeline_id, seen_at);

CREATE TABLE gates (
    id         BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    run_id     BLOB NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    job_id     BLOB NOT NULL CHECK (length(job_id) = 16),
    call       INTEGER NOT NULL CHECK (call >= 0),
    name       TEXT NOT NULL CHECK (name <> ''),
    message    TEXT NOT NULL,
    status     TEXT NOT NULL CHECK (status IN ('pending', 'approved', 'rejected', 'timed_out')),
    actor      TEXT NOT NULL,
    comment    TEXT NOT NULL,
    opened_at  INTEGER NOT NULL,
    expires_at INTEGER NOT NULL CHECK (expires_at >= opened_at),
    decided_at INTEGER,
    UNIQUE (job_id, call),
    CHECK ((status = 'pending') = (decided_at IS NULL)),
    CHECK ((status = 'pending') = (actor = ''))
) STRICT, WITHOUT ROWID;

CREATE INDEX gates_of_runs ON gates (run_id);
CREATE INDEX gates_pending ON gates (opened_at) WHERE status = 'pending';

CREATE TRIGGER gates_stay_decided BEFORE UPDATE OF status ON gates WHEN OLD.status <> 'pending' BEGIN
    SELECT RAISE(ABORT, 'a decided gate never changes again');
END;
