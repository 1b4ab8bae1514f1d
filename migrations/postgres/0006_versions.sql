-- Versions of resources, and which builds used and made which of them. A build is a job with a number.

-- What a pipeline declares. A version list belongs to a scope: the hash of what its versions depend on.
CREATE TABLE resources (
    pipeline_id       uuid NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
    name              text COLLATE "C" NOT NULL CHECK (name <> ''),
    scope             bytea NOT NULL CHECK (octet_length(scope) = 32),
    -- Numbers the checks that began; those up to check_ended_seq are over or overtaken.
    check_seq         bigint NOT NULL DEFAULT 0 CHECK (check_seq >= 0),
    check_ended_seq   bigint NOT NULL DEFAULT 0 CHECK (check_ended_seq BETWEEN 0 AND check_seq),
    check_started_at  timestamptz,
    check_finished_at timestamptz,
    -- When the check that ended last had begun: what was there before that is known.
    checked_at        timestamptz,
    -- Of the last check that ended.
    check_error       text CHECK (check_error IS NULL OR check_finished_at IS NOT NULL),
    -- Fields (JSON) of the version somebody pinned.
    pin               text,
    pin_comment       text NOT NULL DEFAULT '',
    pin_actor         text NOT NULL DEFAULT '',
    PRIMARY KEY (pipeline_id, name),
    CHECK (check_ended_seq = check_seq OR check_started_at IS NOT NULL),
    CHECK ((pin IS NULL) = (pin_actor = '')),
    CHECK (pin IS NOT NULL OR pin_comment = '')
);

-- check_order: newest last; who was seen again beside a new one is newer than before.
CREATE TABLE resource_versions (
    pipeline_id   uuid NOT NULL,
    resource      text COLLATE "C" NOT NULL,
    scope         bytea NOT NULL CHECK (octet_length(scope) = 32),
    hash          bytea NOT NULL CHECK (octet_length(hash) = 32),
    version       text NOT NULL,
    metadata      text NOT NULL DEFAULT '[]',
    check_order   bigint NOT NULL CHECK (check_order >= 1),
    enabled       boolean NOT NULL DEFAULT true,
    first_seen_at timestamptz NOT NULL,
    PRIMARY KEY (pipeline_id, resource, scope, hash),
    UNIQUE (pipeline_id, resource, scope, check_order),
    FOREIGN KEY (pipeline_id, resource) REFERENCES resources (pipeline_id, name) ON DELETE CASCADE
);

-- The last number given to a build of each job.
CREATE TABLE build_numbers (
    pipeline_id uuid NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
    job_name    text COLLATE "C" NOT NULL,
    last        integer NOT NULL CHECK (last >= 0),
    PRIMARY KEY (pipeline_id, job_name)
);

-- A rerun has the number of the build it repeats and counts from 1: 3, 3.1, 3.2.
ALTER TABLE jobs ADD COLUMN number integer CHECK (number >= 1);
ALTER TABLE jobs ADD COLUMN rerun integer NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN rerun_of uuid;
ALTER TABLE jobs ADD CONSTRAINT jobs_reruns_are_of_builds CHECK (
    rerun >= 0 AND (rerun = 0 OR number IS NOT NULL) AND (rerun > 0) = (rerun_of IS NOT NULL)
) NOT VALID;
CREATE UNIQUE INDEX builds_by_number ON jobs (pipeline_id, name, number, rerun) WHERE number IS NOT NULL;
CREATE INDEX builds_succeeded ON jobs (pipeline_id, name, number, rerun) WHERE number IS NOT NULL AND outcome = 'succeeded';

-- The version is kept beside its hash: a list may be cleared, what a build used is told for ever.
CREATE TABLE build_inputs (
    job_id           uuid NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    pipeline_id      uuid NOT NULL,
    job_name         text NOT NULL,
    name             text COLLATE "C" NOT NULL CHECK (name <> ''),
    resource         text COLLATE "C" NOT NULL CHECK (resource <> ''),
    hash             bytea NOT NULL CHECK (octet_length(hash) = 32),
    version          text NOT NULL,
    first_occurrence boolean NOT NULL,
    PRIMARY KEY (job_id, name)
);
CREATE INDEX build_inputs_of_jobs ON build_inputs (pipeline_id, job_name, resource, hash);

CREATE TABLE build_outputs (
    job_id      uuid NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    pipeline_id uuid NOT NULL,
    job_name    text NOT NULL,
    resource    text COLLATE "C" NOT NULL CHECK (resource <> ''),
    hash        bytea NOT NULL CHECK (octet_length(hash) = 32),
    version     text NOT NULL,
    saved_at    timestamptz NOT NULL,
    PRIMARY KEY (job_id, resource, hash)
);
CREATE INDEX build_outputs_of_jobs ON build_outputs (pipeline_id, job_name, resource, hash);

-- Through which builds the inputs of a build had passed.
CREATE TABLE build_pipes (
    from_job_id uuid NOT NULL,
    to_job_id   uuid NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    PRIMARY KEY (to_job_id, from_job_id)
);
