//! Requests that come twice: by what they are known again, and what is done then.

use super::{ReceiptId, RunId};
use sha2::{Digest, Sha256};
use std::time::Duration;
use uuid::Uuid;

/// How long a key is remembered at least.
pub const KEYS_KEPT: Duration = Duration::from_secs(7 * 86_400);
/// Bytes of a SHA-256 that stand for a key.
pub const KEY_BYTES: usize = 16;

/// What a request claims in the transaction that stores what it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DedupKey {
    /// The pipeline's or endpoint's id.
    pub hook: Uuid,
    /// See [`DedupKey::new`].
    pub key: [u8; KEY_BYTES],
    /// Of the body, where the same key with another body is a contradiction; `None` where it is the rule (`dedup_key`).
    pub body_sha256: Option<[u8; 32]>,
}

/// Where a key comes from: keys of different origin never meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOrigin {
    /// The provider's delivery id.
    Delivery,
    /// The hook's `dedup_key` expression.
    Expression,
}

impl DedupKey {
    /// The first bytes of the SHA-256 of origin, provider and value; each counts with its length.
    pub fn new(hook: Uuid, origin: KeyOrigin, provider: &str, value: &str) -> Self {
        let origin = match origin {
            KeyOrigin::Delivery => "delivery",
            KeyOrigin::Expression => "expression",
        };
        let mut hash = Sha256::new();
        for part in [origin, provider, value] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut key = [0; KEY_BYTES];
        key.copy_from_slice(&hash.finalize()[..KEY_BYTES]);
        Self {
            hook,
            key,
            body_sha256: None,
        }
    }

    /// The same, which only one body may have.
    pub fn of_body(self, sha256: [u8; 32]) -> Self {
        Self {
            body_sha256: Some(sha256),
            ..self
        }
    }
}

/// The request that had a key first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct First {
    /// Its receipt.
    pub receipt_id: ReceiptId,
    /// The run it started, if it was for one pipeline.
    pub run_id: Option<RunId>,
}

/// What is known of the first request with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimed {
    /// Which it was.
    pub first: First,
    /// Digest of its body, if that was claimed.
    pub body_sha256: Option<[u8; 32]>,
    /// Whether what it started goes on or has ended well. What failed, was stopped or is gone is not standing.
    pub stands: bool,
}

/// What is done with a request whose key was claimed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Nothing: it was done.
    Duplicate,
    /// Nothing: it contradicts the first one.
    Conflict,
    /// The same once more, since the first one failed.
    Redelivery,
}

impl Claimed {
    /// What is done with a later request with this key.
    pub fn again(&self, key: &DedupKey) -> Again {
        if let (Some(first), Some(now)) = (self.body_sha256, key.body_sha256)
            && first != now
        {
            return Again::Conflict;
        }
        match self.stands {
            true => Again::Duplicate,
            false => Again::Redelivery,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_different_origin_or_provider_differ() {
        let hook = Uuid::from_bytes([1; 16]);
        let key =
            |origin, provider: &str, value: &str| DedupKey::new(hook, origin, provider, value).key;
        let one = key(KeyOrigin::Delivery, "github", "7");
        assert_eq!(one, key(KeyOrigin::Delivery, "github", "7"));
        assert_ne!(one, key(KeyOrigin::Expression, "github", "7"));
        assert_ne!(one, key(KeyOrigin::Delivery, "githu", "b7"));
    }

    #[test]
    fn what_failed_is_done_again_and_another_body_is_a_contradiction() {
        let key = DedupKey::new(Uuid::nil(), KeyOrigin::Delivery, "github", "7").of_body([1; 32]);
        let claimed = |stands, body| Claimed {
            first: First {
                receipt_id: ReceiptId::new(),
                run_id: None,
            },
            body_sha256: body,
            stands,
        };
        assert_eq!(claimed(true, Some([1; 32])).again(&key), Again::Duplicate);
        assert_eq!(claimed(false, Some([1; 32])).again(&key), Again::Redelivery);
        assert_eq!(claimed(false, Some([2; 32])).again(&key), Again::Conflict);
        assert_eq!(claimed(true, None).again(&key), Again::Duplicate);
    }
}
