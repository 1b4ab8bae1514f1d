//! Ids of runs that follow from what starts them: whoever comes to the same conclusion names the same run, so that it
//! is stored once.

use super::RunId;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

/// The id of the run that `parts` stand for. Its time is `at`, to the millisecond, which keeps it a version 7 UUID
/// (RFC 9562 section 5.7) that sorts among its neighbours. Each part counts with its length.
pub fn run_id(at: OffsetDateTime, parts: &[&[u8]]) -> RunId {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let hash = hash.finalize();
    let millis = u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    bytes[6..].copy_from_slice(&hash[..10]);
    bytes[6] = (bytes[6] & 0x0f) | 0x70;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    RunId(Uuid::from_bytes(bytes))
}

/// When a run was made, by its id.
pub fn made_at(run: RunId) -> OffsetDateTime {
    let mut millis = [0; 8];
    millis[2..].copy_from_slice(&run.0.as_bytes()[..6]);
    let nanos = i128::from(u64::from_be_bytes(millis)) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_conclusion_is_the_same_run() {
        let parent = RunId::new();
        let at = made_at(parent);
        let id = run_id(at, &[b"a", b"bc"]);
        assert_eq!(id, run_id(at, &[b"a", b"bc"]));
        for other in [&[b"ab".as_slice(), b"c"][..], &[b"abc"], &[b"a", b"bd"]] {
            assert_ne!(id, run_id(at, other));
        }
        assert_eq!(id.0.get_version_num(), 7);
        assert_eq!(id.0.as_bytes()[..6], parent.0.as_bytes()[..6]);
    }
}
