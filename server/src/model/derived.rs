//! Ids that follow from what they are about: whoever comes to the same conclusion names the same run, and the same event
//! to tell, so that it is stored once and keeps its id when it is told again.

use super::{EventId, RunId};
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

/// The namespace of [`event_id`]; any UUID that nobody else uses.
const EVENTS: Uuid = Uuid::from_u128(0x5d0c_5c61_8f1e_4a6e_9b0f_7a3d_2c94_e1b7);

/// The id of an event: of its name, the entity it is about and that entity's attempt (0 where there is only one), as a
/// version 5 UUID (RFC 9562 section 5.5).
pub fn event_id(name: &str, entity: Uuid, attempt: i32) -> EventId {
    EventId(Uuid::new_v5(
        &EVENTS,
        format!("{name}/{entity}/{attempt}").as_bytes(),
    ))
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
    fn an_event_told_again_keeps_its_id() {
        let entity = Uuid::from_u128(7);
        let id = event_id("job-completed", entity, 1);
        assert_eq!(id, event_id("job-completed", entity, 1));
        assert_ne!(id, event_id("job-completed", entity, 2));
        assert_ne!(id, event_id("workflow-completed", entity, 1));
        assert_eq!(id.0.get_version_num(), 5);
    }

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
