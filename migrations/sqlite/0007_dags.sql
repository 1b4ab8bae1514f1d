-- Runs with several jobs that wait for each other and for versions of resources.

-- A column's CHECK cannot be changed: a new column takes the old one's place.
DROP INDEX jobs_ready;
DROP INDEX jobs_oldest;
DROP INDEX jobs_held;
ALTER TABLE jobs RENAME COLUMN hold TO hold_before;
ALTER TABLE jobs ADD COLUMN hold TEXT CHECK (hold IS NULL OR (hold IN ('group', 'paused', 'inputs') AND state = 'queued'));
UPDATE jobs SET hold = hold_before WHERE hold_before IS NOT NULL;
ALTER TABLE jobs DROP COLUMN hold_before;
CREATE INDEX jobs_ready ON jobs (needs, priority, turn, queued_at, id) WHERE state = 'queued' AND hold IS NULL;
CREATE INDEX jobs_oldest ON jobs (needs, priority, queued_at, id) WHERE state = 'queued' AND hold IS NULL;
CREATE INDEX jobs_held ON jobs (pipeline_id, run_id) WHERE state = 'queued' AND hold IS NOT NULL;

-- Builds that are not over: how many of a job have begun.
CREATE INDEX builds_open ON jobs (pipeline_id, name) WHERE number IS NOT NULL AND outcome IS NULL;

-- Checks come by the minute: they are found to be forgotten.
CREATE INDEX runs_checks ON runs (finished_at) WHERE trigger ->> '$.kind' = 'check';
