-- What the pipeline API needs: imported files, secrets (sealed by the server's key), values, keys seen, approvals.

ALTER TABLE revisions ADD COLUMN modules text NOT NULL DEFAULT '[]';

ALTER TABLE runs DROP CONSTRAINT runs_trigger_kind_check;
ALTER TABLE runs ADD CONSTRAINT runs_trigger_kind_check
    CHECK (trigger_kind IN ('webhook', 'manual', 'pipeline')) NOT VALID;

-- pipeline_id NULL: everybody's.
CREATE TABLE secrets (
    pipeline_id uuid REFERENCES pipelines (id) ON DELETE CASCADE,
    name        text NOT NULL CHECK (name <> ''),
    sealed      bytea NOT NULL CHECK (octet_length(sealed) > 0),
    updated_at  timestamptz NOT NULL,
    UNIQUE NULLS NOT DISTINCT (pipeline_id, name)
);

-- Keys that something stored may be sealed with.
CREATE TABLE secret_keys (
    id       bytea PRIMARY KEY CHECK (octet_length(id) = 8),
    added_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE stored_values (
    pipeline_id uuid NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
    key         text COLLATE "C" NOT NULL CHECK (key <> ''),
    value       text NOT NULL,
    updated_at  timestamptz NOT NULL,
    PRIMARY KEY (pipeline_id, key)
);

-- Who saw a key first: a call of a run, which may ask again.
CREATE TABLE seen_keys (
    pipeline_id uuid NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
    hash        bytea NOT NULL CHECK (octet_length(hash) = 32),
    run_id      uuid NOT NULL,
    call        integer NOT NULL CHECK (call >= 0),
    seen_at     timestamptz NOT NULL,
    PRIMARY KEY (pipeline_id, hash)
);

CREATE INDEX seen_keys_by_age ON seen_keys (pipeline_id, seen_at);

-- No foreign key to runs, as for their other rows: delete_pipeline removes them together.
CREATE TABLE gates (
    id         uuid PRIMARY KEY,
    run_id     uuid NOT NULL,
    job_id     uuid NOT NULL,
    call       integer NOT NULL CHECK (call >= 0),
    name       text NOT NULL CHECK (name <> ''),
    message    text NOT NULL,
    status     text NOT NULL CHECK (status IN ('pending', 'approved', 'rejected', 'timed_out')),
    actor      text NOT NULL,
    comment    text NOT NULL,
    opened_at  timestamptz NOT NULL,
    expires_at timestamptz NOT NULL CHECK (expires_at >= opened_at),
    decided_at timestamptz,
    UNIQUE (job_id, call),
    CHECK ((status = 'pending') = (decided_at IS NULL)),
    CHECK ((status = 'pending') = (actor = ''))
);

CREATE INDEX gates_of_runs ON gates (run_id);
CREATE INDEX gates_pending ON gates (opened_at) WHERE status = 'pending';

CREATE FUNCTION gates_stay_decided() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a decided gate never changes again';
END
$$;
CREATE TRIGGER gates_stay_decided BEFORE UPDATE OF status ON gates
    FOR EACH ROW WHEN (OLD.status <> 'pending') EXECUTE FUNCTION gates_stay_decided();
