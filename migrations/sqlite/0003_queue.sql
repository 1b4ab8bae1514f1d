-- Fair queue, concurrency groups, settings of pipelines, and who caused an end.

ALTER TABLE pipelines ADD COLUMN settings TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(settings));
ALTER TABLE pipelines ADD COLUMN paused_by TEXT NOT NULL DEFAULT '';
UPDATE pipelines SET paused_by = 'unknown' WHERE paused;

ALTER TABLE runs ADD COLUMN actor TEXT;
ALTER TABLE runs ADD COLUMN cancel_reason TEXT CHECK (cancel_reason IN ('user', 'superseded'));
ALTER TABLE runs ADD COLUMN group_key TEXT;
-- It waits for its place in the group: none of its jobs may be handed out yet.
ALTER TABLE runs ADD COLUMN group_held INTEGER NOT NULL DEFAULT 0 CHECK (group_held IN (0, 1));
UPDATE runs SET actor = '' WHERE outcome IS NOT NULL;
UPDATE runs SET cancel_reason = 'user' WHERE cancel_actor IS NOT NULL;
CREATE INDEX runs_in_groups ON runs (pipeline_id, group_key, group_held, id) WHERE group_key IS NOT NULL AND outcome IS NULL;

-- needs: what the job asks of an agent, as a key. turn: its place in the round over pipelines
-- (server/src/store/sqlite/queue.rs). hold: why it may not be handed out yet.
ALTER TABLE jobs ADD COLUMN actor TEXT;
ALTER TABLE jobs ADD COLUMN pipeline_id BLOB CHECK (length(pipeline_id) = 16);
ALTER TABLE jobs ADD COLUMN needs TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN turn INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN hold TEXT CHECK (hold IS NULL OR (hold IN ('group', 'paused') AND state = 'queued'));
ALTER TABLE jobs ADD COLUMN queue_timeout_ms INTEGER CHECK (queue_timeout_ms > 0);
ALTER TABLE jobs ADD COLUMN queue_until INTEGER;
ALTER TABLE jobs ADD COLUMN attempts INTEGER NOT NULL DEFAULT 3 CHECK (attempts >= 1);
UPDATE jobs SET actor = '' WHERE outcome IS NOT NULL;
UPDATE jobs SET pipeline_id = (SELECT r.pipeline_id FROM runs r WHERE r.id = jobs.run_id), needs = driver || ' ' || labels
    WHERE outcome IS NULL;

DROP INDEX jobs_queued;
-- A claim steps through the distinct (needs, priority) and takes the first turns of those that fit.
CREATE INDEX jobs_ready ON jobs (needs, priority, turn, queued_at, id) WHERE state = 'queued' AND hold IS NULL;
-- Those that have waited longest, for ageing.
CREATE INDEX jobs_oldest ON jobs (needs, priority, queued_at, id) WHERE state = 'queued' AND hold IS NULL;
-- What is handed out in the transaction that stores it has turn 0 and is in no index of the queue.
CREATE INDEX jobs_turns ON jobs (pipeline_id, needs, turn) WHERE outcome IS NULL AND turn > 0;
CREATE INDEX jobs_held ON jobs (pipeline_id, run_id) WHERE state = 'queued' AND hold IS NOT NULL;
CREATE INDEX jobs_overdue ON jobs (queue_until) WHERE state = 'queued' AND queue_until IS NOT NULL;
