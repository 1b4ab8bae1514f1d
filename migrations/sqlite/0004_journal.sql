-- What entered a job's program, so that another attempt goes on where the last one was. Goes with the job, or when it ends.

ALTER TABLE jobs ADD COLUMN journal_seq INTEGER NOT NULL DEFAULT 0 CHECK (journal_seq >= 0);
ALTER TABLE jobs ADD COLUMN journal_bytes INTEGER NOT NULL DEFAULT 0 CHECK (journal_bytes >= 0);

CREATE TABLE journal (
    job_id       BLOB NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq          INTEGER NOT NULL CHECK (seq >= 1),
    attempt      INTEGER NOT NULL CHECK (attempt >= 1),
    call         INTEGER NOT NULL CHECK (call >= 0),
    kind         TEXT NOT NULL,
    content_hash BLOB NOT NULL CHECK (length(content_hash) IN (0, 32)),
    result       BLOB NOT NULL,
    PRIMARY KEY (job_id, seq)
) STRICT;

-- Here, so that jobs without a journal pay for no statement.
CREATE TRIGGER journal_ends_with_job AFTER UPDATE OF state ON jobs
    WHEN NEW.state = 'finished' AND OLD.journal_seq > 0 BEGIN
    DELETE FROM journal WHERE job_id = OLD.id;
END;
