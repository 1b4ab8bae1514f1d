-- As version 2 wrote it: a pipeline, a queued run, a running one that is to stop, a finished one with output.
CREATE TABLE schema_migrations (version bigint PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now());
INSERT INTO schema_migrations (version, name) VALUES (1, 'initial'), (2, 'pipeline_api');
INSERT INTO pipelines VALUES ('01010101-0101-0101-0101-010101010101', 'old', 3, '02020202-0202-0202-0202-020202020202', 'native',
    '{"os":"linux"}', true, now(), now());
INSERT INTO revisions (id, pipeline_id, number, content_type, file_name, source, javascript, source_map, created_at)
    VALUES ('02020202-0202-0202-0202-020202020202', '01010101-0101-0101-0101-010101010101', 1, 'ts', 'a.ts', 's', 'j', '{}', now());
INSERT INTO agent_tokens VALUES ('03030303-0303-0303-0303-030303030303', 'all', decode(repeat('00', 32), 'hex'), now(), NULL);
INSERT INTO agents VALUES ('04040404-0404-0404-0404-040404040404', 'ann', '03030303-0303-0303-0303-030303030303',
    '05050505-0505-0505-0505-050505050505', '06060606-0606-0606-0606-060606060606', true, 4, '{}', 'native', '0.1.0', now());
INSERT INTO runs (id, pipeline_id, revision_id, state, outcome, reason, message, trigger_kind, trigger_data, wants_reply, replied,
    event_seq, cancel_actor, created_at, started_at, finished_at) VALUES
    ('0a0a0a0a-0a0a-0a0a-0a0a-0a0a0a0a0a0a', '01010101-0101-0101-0101-010101010101', '02020202-0202-0202-0202-020202020202', 'queued',
     NULL, '', '', 'manual', '{"kind":"manual"}', false, false, 0, NULL, now(), NULL, NULL),
    ('0b0b0b0b-0b0b-0b0b-0b0b-0b0b0b0b0b0b', '01010101-0101-0101-0101-010101010101', '02020202-0202-0202-0202-020202020202', 'running',
     NULL, '', '', 'manual', '{"kind":"manual"}', false, false, 0, 'eve', now(), now(), NULL),
    ('0c0c0c0c-0c0c-0c0c-0c0c-0c0c0c0c0c0c', '01010101-0101-0101-0101-010101010101', '02020202-0202-0202-0202-020202020202', 'finished',
     'errored', 'agent_lost', 'm', 'manual', '{"kind":"manual"}', false, false, 1, NULL, now(), now(), now());
INSERT INTO jobs (id, run_id, name, state, outcome, reason, message, attempt, lost, agent_id, session_id, lease_until, labels, driver,
    report_seq, log_seq, queued_at, started_at, finished_at) VALUES
    ('1a1a1a1a-1a1a-1a1a-1a1a-1a1a1a1a1a1a', '0a0a0a0a-0a0a-0a0a-0a0a-0a0a0a0a0a0a', 'pipeline', 'queued', NULL, '', '', 0, 0,
     NULL, NULL, NULL, '{"os":"linux"}', 'native', 0, 0, now(), NULL, NULL),
    ('1b1b1b1b-1b1b-1b1b-1b1b-1b1b1b1b1b1b', '0b0b0b0b-0b0b-0b0b-0b0b-0b0b0b0b0b0b', 'pipeline', 'running', NULL, '', '', 1, 0,
     '04040404-0404-0404-0404-040404040404', '06060606-0606-0606-0606-060606060606', now(), '{"os":"linux"}', 'native', 1, 0, now(),
     now(), NULL),
    ('1c1c1c1c-1c1c-1c1c-1c1c-1c1c1c1c1c1c', '0c0c0c0c-0c0c-0c0c-0c0c-0c0c0c0c0c0c', 'pipeline', 'finished', 'errored', 'agent_lost',
     'm', 3, 3, NULL, NULL, NULL, '{}', NULL, 1, 1, now(), now(), now());
INSERT INTO run_events (run_id, seq, at, job_id, attempt, step, stream, byte_offset, bytes)
    VALUES ('0c0c0c0c-0c0c-0c0c-0c0c-0c0c0c0c0c0c', 1, now(), '1c1c1c1c-1c1c-1c1c-1c1c-1c1c1c1c1c1c', 3, 0, 'stdout', 0, '\x6f6c640a');
