-- What entered a job's program, so that another attempt goes on where the last one was. Goes with the job, or when it ends.

ALTER TABLE jobs ADD COLUMN journal_seq bigint NOT NULL DEFAULT 0 CHECK (journal_seq >= 0);
ALTER TABLE jobs ADD COLUMN journal_bytes bigint NOT NULL DEFAULT 0 CHECK (journal_bytes >= 0);

CREATE TABLE journal (
    job_id       uuid NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq          bigint NOT NULL CHECK (seq >= 1),
    attempt      integer NOT NULL CHECK (attempt >= 1),
    call         bigint NOT NULL CHECK (call >= 0),
    kind         text NOT NULL,
    content_hash bytea NOT NULL CHECK (octet_length(content_hash) IN (0, 32)),
    result       bytea NOT NULL,
    PRIMARY KEY (job_id, seq)
);

-- Here, so that jobs without a journal pay for no statement.
CREATE FUNCTION journal_ends_with_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM journal WHERE job_id = OLD.id;
    RETURN NULL;
END
$$;
CREATE TRIGGER journal_ends_with_job AFTER UPDATE OF state ON jobs
    FOR EACH ROW WHEN (NEW.state = 'finished' AND OLD.journal_seq > 0) EXECUTE FUNCTION journal_ends_with_job();
