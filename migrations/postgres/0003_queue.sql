-- Fair queue, concurrency groups, settings of pipelines, and who caused an end.

ALTER TABLE pipelines ADD COLUMN settings text NOT NULL DEFAULT '{}';
ALTER TABLE pipelines ADD COLUMN paused_by text NOT NULL DEFAULT '';
UPDATE pipelines SET paused_by = 'unknown' WHERE paused;
ALTER TABLE pipelines ADD CONSTRAINT pipelines_are_paused_by_somebody CHECK (paused = (paused_by <> ''));

ALTER TABLE runs ADD COLUMN actor text NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN cancel_reason text CHECK (cancel_reason IN ('user', 'superseded'));
ALTER TABLE runs ADD COLUMN group_key text;
-- It waits for its place in the group: none of its jobs may be handed out yet.
ALTER TABLE runs ADD COLUMN group_held boolean NOT NULL DEFAULT false CHECK (NOT group_held OR group_key IS NOT NULL);
UPDATE runs SET cancel_reason = 'user' WHERE cancel_actor IS NOT NULL;
ALTER TABLE runs ADD CONSTRAINT runs_cancel_has_a_reason CHECK ((cancel_actor IS NULL) = (cancel_reason IS NULL));
CREATE INDEX runs_in_groups ON runs (pipeline_id, group_key, group_held, id) WHERE group_key IS NOT NULL AND state <> 'finished';

-- needs: what the job asks of an agent, as a key. turn: its place in the round over pipelines (server/src/store/
-- postgres/enqueue.rs). hold: why it may not be handed out yet.
ALTER TABLE jobs ADD COLUMN actor text NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN pipeline_id uuid;
ALTER TABLE jobs ADD COLUMN needs text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN priority integer NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN turn bigint NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN hold text CHECK (hold IN ('group', 'paused'));
ALTER TABLE jobs ADD COLUMN queue_timeout_ms bigint CHECK (queue_timeout_ms > 0);
ALTER TABLE jobs ADD COLUMN queue_until timestamptz;
ALTER TABLE jobs ADD COLUMN attempts integer NOT NULL DEFAULT 3 CHECK (attempts >= 1);
UPDATE jobs j SET pipeline_id = r.pipeline_id, needs = coalesce(j.driver, '') || ' ' || j.labels::text
    FROM runs r WHERE r.id = j.run_id AND j.state <> 'finished';
ALTER TABLE jobs ADD CONSTRAINT jobs_held_are_queued CHECK (hold IS NULL OR state = 'queued');

DROP INDEX jobs_queued;
-- A claim steps through the distinct (needs, priority) and takes the first turns of those that fit.
CREATE INDEX jobs_ready ON jobs (needs, priority, turn, queued_at, id) WHERE state = 'queued' AND hold IS NULL;
-- Those that have waited longest, for ageing.
CREATE INDEX jobs_oldest ON jobs (needs, priority, queued_at, id) WHERE state = 'queued' AND hold IS NULL;
-- What is handed out in the transaction that stores it has turn 0 and is in no index of the queue.
CREATE INDEX jobs_turns ON jobs (pipeline_id, needs, turn) WHERE state <> 'finished' AND turn > 0;
CREATE INDEX jobs_held ON jobs (pipeline_id, run_id) WHERE state = 'queued' AND hold IS NOT NULL;
CREATE INDEX jobs_overdue ON jobs (queue_until) WHERE state = 'queued' AND queue_until IS NOT NULL;
