-- Output may be packed, and gaps in it are declared. A row without encoding is output as it is, as all were before.
-- zstd: `bytes` is a frame with `size` bytes of output. gap: `size` bytes of output are lost, `bytes` says why.

ALTER TABLE events ADD COLUMN encoding TEXT
    CHECK (encoding IS NULL OR (bytes IS NOT NULL AND encoding IN ('zstd', 'gap')));
ALTER TABLE events ADD COLUMN size INTEGER CHECK ((size IS NULL) = (encoding IS NULL) AND (size IS NULL OR size >= 1));
