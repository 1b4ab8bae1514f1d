-- As version 2 wrote it: a pipeline, a queued run, a running one that is to stop, a finished one with output.
CREATE TABLE schema_migrations (version INTEGER NOT NULL PRIMARY KEY, applied_at INTEGER NOT NULL) STRICT;
INSERT INTO schema_migrations VALUES (1, 0), (2, 0);
INSERT INTO pipelines VALUES (x'01010101010101010101010101010101', 'old', 3, 1, 'native', '{"os":"linux"}', '[]', 1, 0, 0);
INSERT INTO revisions (id, pipeline_id, number, content_type, file_name, source, javascript, source_map)
    VALUES (x'02020202020202020202020202020202', x'01010101010101010101010101010101', 1, 'ts', 'a.ts', 's', 'j', '{}');
INSERT INTO tokens VALUES (x'03030303030303030303030303030303', 'all', zeroblob(32), 0, NULL);
INSERT INTO agents VALUES (x'04040404040404040404040404040404', 'ann', x'05050505050505050505050505050505',
    x'06060606060606060606060606060606', x'03030303030303030303030303030303', 1, 4, '{}', '["native"]', '0.1.0', 0);
INSERT INTO runs (id, pipeline_id, revision_id, state, outcome, reason, message, trigger, wants_reply, replied, event_seq,
    cancel_actor, created_at, started_at, finished_at) VALUES
    (x'0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a', x'01010101010101010101010101010101', x'02020202020202020202020202020202', 'queued',
     NULL, NULL, NULL, '{"kind":"manual"}', 0, 0, 0, NULL, 0, NULL, NULL),
    (x'0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b', x'01010101010101010101010101010101', x'02020202020202020202020202020202', 'running',
     NULL, NULL, NULL, '{"kind":"manual"}', 0, 0, 0, 'eve', 0, 0, NULL),
    (x'0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c', x'01010101010101010101010101010101', x'02020202020202020202020202020202', 'finished',
     'errored', 'agent_lost', 'm', '{"kind":"manual"}', 0, 0, 1, NULL, 0, 0, 0);
INSERT INTO jobs (id, run_id, position, name, state, outcome, reason, message, attempt, lost, agent_id, session_id, lease_until,
    labels, driver, report_seq, log_seq, queued_at, started_at, finished_at) VALUES
    (x'1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a', x'0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a', 0, 'pipeline', 'queued', NULL, NULL, NULL, 0, 0,
     NULL, NULL, NULL, '{"os":"linux"}', 'native', 0, 0, 0, NULL, NULL),
    (x'1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b', x'0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b', 0, 'pipeline', 'running', NULL, NULL, NULL, 1, 0,
     x'04040404040404040404040404040404', x'06060606060606060606060606060606', 1, '{"os":"linux"}', 'native', 1, 0, 0, 0, NULL),
    (x'1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c', x'0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c', 0, 'pipeline', 'finished', 'errored', 'agent_lost',
     'm', 3, 3, NULL, NULL, NULL, '{}', '', 1, 1, 0, 0, 0);
INSERT INTO events (run_id, seq, at, job_id, attempt, step, stream, offset, bytes)
    VALUES (x'0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c', 1, 0, x'1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c', 3, 0, 'stdout', 0, x'6f6c640a');
