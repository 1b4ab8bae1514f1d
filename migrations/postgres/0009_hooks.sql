-- Webhook endpoints, events with their listeners, delivery ids seen, verdicts of receipts.

-- A request may start a run of a pipeline, one of each listener of an event, or none; so nothing ties the verdict to
-- one run any more, and a request to an endpoint of an event belongs to no pipeline.
ALTER TABLE receipts
    DROP CONSTRAINT receipts_check,
    DROP CONSTRAINT receipts_verdict_check,
    ALTER COLUMN pipeline_id DROP NOT NULL,
    ADD COLUMN endpoint_id   uuid,
    ADD COLUMN event_key     text,
    ADD COLUMN verified      boolean NOT NULL DEFAULT false,
    ADD COLUMN secret_id     text,
    ADD COLUMN delivery_id   text,
    ADD COLUMN attempt       integer,
    -- The answer, written once it was sent.
    ADD COLUMN reply_status  integer CHECK (reply_status BETWEEN 100 AND 999),
    ADD COLUMN reply_summary text NOT NULL DEFAULT '',
    ADD COLUMN duration_us   bigint CHECK (duration_us >= 0),
    ADD COLUMN redelivery_of uuid,
    ADD COLUMN replay_of     uuid,
    ADD COLUMN files         text NOT NULL DEFAULT '[]',
    ADD COLUMN body_place    text NOT NULL DEFAULT 'inline' CHECK (body_place IN ('inline', 'pages', 'none')),
    ADD CONSTRAINT receipts_verdict_check CHECK (verdict IN ('accepted', 'duplicate', 'filtered', 'unrouted', 'handshake',
        'unauthorized', 'paused', 'queue_full', 'conflict', 'method', 'too_large', 'malformed', 'disabled', 'rate_limited')),
    ADD CONSTRAINT receipts_hook_check CHECK (pipeline_id IS NOT NULL OR endpoint_id IS NOT NULL);
UPDATE receipts SET body_place = 'none' WHERE verdict <> 'accepted';
-- The rows of hot tables pay for each index: endpoints have their own, which pipelines' URLs do not touch.
CREATE INDEX receipts_by_endpoint ON receipts (endpoint_id, id) WHERE endpoint_id IS NOT NULL;
