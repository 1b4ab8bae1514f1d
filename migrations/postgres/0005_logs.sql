-- Output may be packed, and gaps in it are declared. A row without encoding is output as it is, as all were before.
-- zstd: `bytes` is a frame with `size` bytes of output. gap: `size` bytes of output are lost, `bytes` says why.

ALTER TABLE run_events ADD COLUMN encoding text;
ALTER TABLE run_events ADD COLUMN size bigint;
ALTER TABLE run_events ADD CONSTRAINT run_events_encoding_check CHECK (
    (encoding IS NULL) = (size IS NULL)
    AND (encoding IS NULL OR (bytes IS NOT NULL AND encoding IN ('zstd', 'gap') AND size >= 1))
) NOT VALID;
