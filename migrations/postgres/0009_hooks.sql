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

-- secrets: JSON of {id, sealed, not_after}; settings as pipelines' webhook settings.
CREATE TABLE endpoints (
    id          uuid PRIMARY KEY,
    name        text COLLATE "C" NOT NULL UNIQUE CHECK (name <> ''),
    version     bigint NOT NULL CHECK (version >= 1),
    pipeline_id uuid REFERENCES pipelines (id) ON DELETE CASCADE,
    event_key   text CHECK (event_key <> ''),
    enabled     boolean NOT NULL,
    settings    text NOT NULL,
    secrets     text NOT NULL,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    CHECK ((pipeline_id IS NULL) <> (event_key IS NULL))
);

-- The secret ids of endpoints' URLs, by their SHA-256.
CREATE TABLE endpoint_uuids (
    hash        bytea PRIMARY KEY CHECK (octet_length(hash) = 32),
    endpoint_id uuid NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
    position    integer NOT NULL CHECK (position >= 0),
    prefix      text NOT NULL,
    not_after   timestamptz,
    UNIQUE (endpoint_id, position)
);

-- Which pipelines listen to which events; kept by the transaction that sets a pipeline. filters: JSON list of
-- expressions, null for none.
CREATE TABLE listeners (
    event_key   text COLLATE "C" NOT NULL,
    pipeline_id uuid NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
    filters     text NOT NULL,
    PRIMARY KEY (event_key, pipeline_id)
);
CREATE INDEX listeners_by_pipeline ON listeners (pipeline_id);

-- Keys of requests that were taken: claimed in the transaction that stores what they start.
CREATE TABLE hook_keys (
    hook_id     uuid NOT NULL,
    key         bytea NOT NULL CHECK (octet_length(key) = 16),
    body_sha256 bytea CHECK (octet_length(body_sha256) = 32),
    receipt_id  uuid NOT NULL,
    run_id      uuid,
    seen_at     timestamptz NOT NULL,
    PRIMARY KEY (hook_id, key)
);
CREATE INDEX hook_keys_by_age ON hook_keys (seen_at);

-- The listeners that a message was for, stored with its receipt.
CREATE TABLE receipt_targets (
    receipt_id  uuid NOT NULL REFERENCES receipts (id) ON DELETE CASCADE,
    pipeline_id uuid NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
    run_id      uuid NOT NULL,
    state       text NOT NULL CHECK (state IN ('pending', 'started', 'filtered', 'dropped')),
    reason      text NOT NULL DEFAULT '',
    tries       integer NOT NULL DEFAULT 0 CHECK (tries >= 0),
    next_try_at timestamptz NOT NULL,
    PRIMARY KEY (receipt_id, pipeline_id)
);
CREATE INDEX receipt_targets_pending ON receipt_targets (next_try_at) WHERE state = 'pending';
CREATE INDEX receipt_targets_by_pipeline ON receipt_targets (pipeline_id);
