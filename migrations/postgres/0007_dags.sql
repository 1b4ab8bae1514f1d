-- Runs with several jobs that wait for each other and for versions of resources; who looks after the clock.

ALTER TABLE jobs DROP CONSTRAINT jobs_hold_check;
ALTER TABLE jobs ADD CONSTRAINT jobs_hold_check CHECK (hold IN ('group', 'paused', 'inputs')) NOT VALID;
ALTER TABLE runs DROP CONSTRAINT runs_trigger_kind_check;
ALTER TABLE runs ADD CONSTRAINT runs_trigger_kind_check
    CHECK (trigger_kind IN ('webhook', 'manual', 'pipeline', 'version', 'schedule', 'check')) NOT VALID;

-- Builds that are not over: how many of a job have begun.
CREATE INDEX builds_open ON jobs (pipeline_id, name) WHERE number IS NOT NULL AND state <> 'finished';

-- Checks come by the minute: they are found to be forgotten.
CREATE INDEX runs_checks ON runs (finished_at) WHERE trigger_kind = 'check';

-- Work that one server does at a time, for as long as it says so.
CREATE TABLE duties (
    name   text PRIMARY KEY CHECK (name <> ''),
    holder uuid NOT NULL,
    until  timestamptz NOT NULL
);
