-- Subscriptions, events to tell, deliveries and their tries.
-- Events, deliveries and tries have no foreign keys, as runs have none: they are written in the transactions of runs.
-- What deleted subscriptions and pipelines leave behind is forgotten in pages: it may be millions of rows.

CREATE TABLE subscriptions (
    id              uuid PRIMARY KEY,
    version         bigint NOT NULL CHECK (version >= 1),
    name            text COLLATE "C" NOT NULL UNIQUE CHECK (name <> ''),
    url             text NOT NULL CHECK (url <> ''),
    events          text[] NOT NULL CHECK (cardinality(events) > 0),
    -- NULL: whatever happens in any pipeline.
    pipeline_id     uuid REFERENCES pipelines (id) ON DELETE CASCADE,
    -- JSON, bytes sealed.
    secrets         text NOT NULL,
    headers         text NOT NULL,
    verify_tls      boolean NOT NULL,
    ca_pem          text,
    filter          text,
    concurrency     integer NOT NULL CHECK (concurrency BETWEEN 1 AND 64),
    rate_per_second double precision CHECK (rate_per_second > 0),
    -- JSON array of milliseconds.
    schedule        text,
    ordered         boolean NOT NULL,
    disabled_reason text CHECK (disabled_reason IN ('operator', 'gone', 'asked', 'failing')),
    disabled_since  timestamptz,
    failures        bigint NOT NULL DEFAULT 0 CHECK (failures >= 0),
    failing_since   timestamptz,
    failed_at       timestamptz,
    succeeded_at    timestamptz,
    paused_until    timestamptz,
    -- The rate's bucket is empty at this instant and full a second later.
    slot_at         timestamptz NOT NULL DEFAULT '-infinity',
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    CHECK ((disabled_reason IS NULL) = (disabled_since IS NULL)),
    CHECK ((failures = 0) = (failing_since IS NULL)),
    CHECK (verify_tls OR headers = '[]')
) WITH (fillfactor = 50);
CREATE INDEX subscriptions_enabled ON subscriptions (id) WHERE disabled_reason IS NULL;
CREATE INDEX subscriptions_of_pipelines ON subscriptions (pipeline_id);

CREATE TABLE outgoing_events (
    id          uuid PRIMARY KEY,
    seq         bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    name        text NOT NULL,
    pipeline_id uuid,
    run_id      uuid,
    job_id      uuid,
    attempt     integer NOT NULL,
    at          timestamptz NOT NULL,
    status      text NOT NULL,
    data        text NOT NULL,
    payload     text
) WITH (fillfactor = 70);
CREATE INDEX outgoing_events_by_time ON outgoing_events (at, seq);

CREATE TABLE deliveries (
    id              uuid PRIMARY KEY,
    seq             bigint NOT NULL GENERATED ALWAYS AS IDENTITY UNIQUE,
    origin          text NOT NULL CHECK (origin IN ('event', 'resend', 'replay', 'ping', 'send')),
    subscription_id uuid,
    receiver        text NOT NULL,
    event_id        uuid,
    event           text,
    webhook_id      text NOT NULL,
    pipeline_id     uuid,
    run_id          uuid,
    state           text NOT NULL
        CHECK (state IN ('pending', 'sending', 'delivered', 'failed', 'filtered', 'dropped')),
    reason          text NOT NULL DEFAULT '',
    tries           integer NOT NULL DEFAULT 0 CHECK (tries >= 0),
    next_at         timestamptz,
    sender          uuid,
    lease_until     timestamptz,
    resend_of       uuid,
    replay_id       uuid,
    created_at      timestamptz NOT NULL,
    finished_at     timestamptz,
    CHECK ((state = 'pending') = (next_at IS NOT NULL)),
    CHECK (origin = 'send' OR (state = 'sending') = (lease_until IS NOT NULL)),
    CHECK ((state IN ('pending', 'sending')) = (finished_at IS NULL)),
    CHECK ((origin = 'send') = (subscription_id IS NULL)),
    CHECK ((event_id IS NULL) = (event IS NULL) AND (event_id IS NULL) = (origin = 'send'))
) WITH (fillfactor = 60);
CREATE UNIQUE INDEX deliveries_once ON deliveries (event_id, subscription_id) WHERE origin = 'event';
CREATE UNIQUE INDEX deliveries_replayed_once ON deliveries (replay_id, event_id) WHERE replay_id IS NOT NULL;
CREATE INDEX deliveries_of_events ON deliveries (event_id, subscription_id);
CREATE INDEX deliveries_due ON deliveries (subscription_id, next_at, seq) WHERE state = 'pending';
CREATE INDEX deliveries_in_order ON deliveries (subscription_id, seq) WHERE state = 'pending';
CREATE INDEX deliveries_in_hand ON deliveries (subscription_id, lease_until)
    WHERE state = 'sending' AND lease_until IS NOT NULL;
CREATE INDEX deliveries_by_subscription ON deliveries (subscription_id, seq);
CREATE INDEX deliveries_by_pipeline ON deliveries (pipeline_id, seq);
CREATE INDEX deliveries_by_run ON deliveries (run_id, seq);
CREATE INDEX deliveries_by_state ON deliveries (state, seq);
-- Of webhook.send.
CREATE INDEX deliveries_sent_by_pipelines ON deliveries (pipeline_id) WHERE subscription_id IS NULL;
CREATE INDEX deliveries_oldest ON deliveries (created_at);

-- A try is here before its first byte is sent; until it is recorded it is unknown whether it arrived.
CREATE TABLE delivery_tries (
    delivery_id      uuid NOT NULL,
    number           integer NOT NULL CHECK (number >= 1),
    state            text NOT NULL CHECK (state IN ('unknown', 'delivered', 'failed')),
    began_at         timestamptz NOT NULL,
    sender           text NOT NULL,
    url              text NOT NULL,
    method           text NOT NULL,
    headers          text NOT NULL,
    body_bytes       bigint NOT NULL,
    body_sha256      text NOT NULL,
    status           integer,
    response_headers text NOT NULL DEFAULT '[]',
    response_body    bytea NOT NULL DEFAULT '',
    error            text NOT NULL DEFAULT '',
    duration_us      bigint NOT NULL DEFAULT 0,
    first_byte_us    bigint,
    peer             text,
    PRIMARY KEY (delivery_id, number)
) WITH (fillfactor = 70);

CREATE TABLE replays (
    id              uuid PRIMARY KEY,
    subscription_id uuid NOT NULL REFERENCES subscriptions (id) ON DELETE CASCADE,
    which           text NOT NULL CHECK (which IN ('failed', 'missing', 'all')),
    since           timestamptz NOT NULL,
    until           timestamptz NOT NULL,
    events          text[] NOT NULL,
    expected        bigint NOT NULL,
    created         bigint NOT NULL DEFAULT 0,
    done            boolean NOT NULL DEFAULT false,
    -- The last event looked at, and the last one there was.
    cursor_at       timestamptz NOT NULL,
    cursor_seq      bigint NOT NULL,
    last_seq        bigint NOT NULL,
    created_at      timestamptz NOT NULL
);
CREATE INDEX replays_of_subscriptions ON replays (subscription_id, created_at);
CREATE INDEX replays_unfinished ON replays (created_at) WHERE NOT done;

CREATE FUNCTION tries_end_with_delivery() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM delivery_tries t USING gone WHERE t.delivery_id = gone.id;
    RETURN NULL;
END
$$;
CREATE TRIGGER tries_end_with_delivery AFTER DELETE ON deliveries
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION tries_end_with_delivery();
