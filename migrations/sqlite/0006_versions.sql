-- Versions of resources, and which builds used and made which of them. A build is a job with a number.

-- What a pipeline declares. A version list belongs to a scope: the hash of what its versions depend on.
CREATE TABLE resources (
    pipeline_id       BLOB NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
    name              TEXT NOT NULL CHECK (name <> ''),
    scope             BLOB NOT NULL CHECK (length(scope) = 32),
    -- Numbers the checks that began; those up to check_ended_seq are over or overtaken.
    check_seq         INTEGER NOT NULL DEFAULT 0 CHECK (check_seq >= 0),
    check_ended_seq   INTEGER NOT NULL DEFAULT 0 CHECK (check_ended_seq BETWEEN 0 AND check_seq),
    check_started_at  INTEGER,
    check_finished_at INTEGER,
    -- When the check that ended last had begun: what was there before that is known.
    checked_at        INTEGER,
    -- Of the last check that ended.
    check_error       TEXT CHECK (check_error IS NULL OR check_finished_at IS NOT NULL),
    -- Fields of the version somebody pinned.
    pin               TEXT CHECK (pin IS NULL OR json_valid(pin)),
    pin_comment       TEXT NOT NULL DEFAULT '',
    pin_actor         TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (pipeline_id, name),
    CHECK (check_ended_seq = check_seq OR check_started_at IS NOT NULL),
    CHECK ((pin IS NULL) = (pin_actor = '')),
    CHECK (pin IS NOT NULL OR pin_comment = '')
) STRICT, WITHOUT ROWID;

-- check_order: newest last; who was seen again beside a new one is newer than before.
CREATE TABLE resource_versions (
    pipeline_id   BLOB NOT NULL,
    resource      TEXT NOT NULL,
    scope         BLOB NOT NULL CHECK (length(scope) = 32),
    hash          BLOB NOT NULL CHECK (length(hash) = 32),
    version       TEXT NOT NULL CHECK (json_valid(version)),
    metadata      TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(metadata)),
    check_order   INTEGER NOT NULL CHECK (check_order >= 1),
    enabled       INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    first_seen_at INTEGER NOT NULL,
    PRIMARY KEY (pipeline_id, resource, scope, hash),
    UNIQUE (pipeline_id, resource, scope, check_order),
    FOREIGN KEY (pipeline_id, resource) REFERENCES resources (pipeline_id, name) ON DELETE CASCADE
) STRICT;

-- The last number given to a build of each job.
CREATE TABLE build_numbers (
    pipeline_id BLOB NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
    job_name    TEXT NOT NULL,
    last        INTEGER NOT NULL CHECK (last >= 0),
    PRIMARY KEY (pipeline_id, job_name)
) STRICT, WITHOUT ROWID;

-- A rerun has the number of the build it repeats and counts from 1: 3, 3.1, 3.2.
ALTER TABLE jobs ADD COLUMN number INTEGER CHECK (number >= 1);
ALTER TABLE jobs ADD COLUMN rerun INTEGER NOT NULL DEFAULT 0 CHECK (rerun = 0 OR (rerun > 0 AND number IS NOT NULL));
ALTER TABLE jobs ADD COLUMN rerun_of BLOB CHECK ((rerun > 0) = (rerun_of IS NOT NULL));
CREATE UNIQUE INDEX builds_by_number ON jobs (pipeline_id, name, number, rerun) WHERE number IS NOT NULL;
CREATE INDEX builds_succeeded ON jobs (pipeline_id, name, number, rerun) WHERE number IS NOT NULL AND outcome = 'succeeded';

-- The version is kept beside its hash: a list may be cleared, what a build used is told for ever.
CREATE TABLE build_inputs (
    job_id           BLOB NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    pipeline_id      BLOB NOT NULL,
    job_name         TEXT NOT NULL,
    name             TEXT NOT NULL CHECK (name <> ''),
    resource         TEXT NOT NULL CHECK (resource <> ''),
    hash             BLOB NOT NULL CHECK (length(hash) = 32),
    version          TEXT NOT NULL CHECK (json_valid(version)),
    first_occurrence INTEGER NOT NULL CHECK (first_occurrence IN (0, 1)),
    PRIMARY KEY (job_id, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX build_inputs_of_jobs ON build_inputs (pipeline_id, job_name, resource, hash);

CREATE TABLE build_outputs (
    job_id      BLOB NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    pipeline_id BLOB NOT NULL,
    job_name    TEXT NOT NULL,
    resource    TEXT NOT NULL CHECK (resource <> ''),
    hash        BLOB NOT NULL CHECK (length(hash) = 32),
    version     TEXT NOT NULL CHECK (json_valid(version)),
    saved_at    INTEGER NOT NULL,
    PRIMARY KEY (job_id, resource, hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX build_outputs_of_jobs ON build_outputs (pipeline_id, job_name, resource, hash);

-- Through which builds the inputs of a build had passed.
CREATE TABLE build_pipes (
    from_job_id BLOB NOT NULL CHECK (length(from_job_id) = 16),
    to_job_id   BLOB NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    PRIMARY KEY (to_job_id, from_job_id)
) STRICT, WITHOUT ROWID;
