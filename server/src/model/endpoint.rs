//! A webhook endpoint: a receiving point of its own, with secrets and a secret URL, for one pipeline or for an event.

use super::pipeline::WebhookSecret;
use super::{EndpointId, PipelineId};
use pocketci_proto::api::WebhookSettings;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

/// Longest name of an endpoint, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// Longest key of an event, in bytes.
pub const MAX_EVENT_KEY_BYTES: usize = 200;
/// Most secrets, and most secret ids, that may be active at once.
pub const MAX_KEYS: usize = 8;
/// Digits of a fingerprint that is shown.
const ID_DIGITS: usize = 8;

/// What the requests of an endpoint start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One pipeline.
    Pipeline(PipelineId),
    /// Whoever listens to this event.
    Event(String),
}

/// A secret of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSecret {
    /// Sealed in the store, open in memory.
    pub secret: WebhookSecret,
    /// Names it in receipts: see [`fingerprint`].
    pub id: String,
    /// Until when it is taken.
    pub not_after: Option<OffsetDateTime>,
}

/// A secret id of an endpoint's URL: a random UUID (version 4, 122 bits), of which only the digest is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointUuid {
    /// See [`uuid_hash`].
    pub hash: [u8; 32],
    /// Its first digits, for people.
    pub prefix: String,
    /// Until when it is taken.
    pub not_after: Option<OffsetDateTime>,
}

impl EndpointUuid {
    /// A new one, taken for ever.
    pub fn of(uuid: Uuid) -> Self {
        Self {
            hash: uuid_hash(uuid),
            prefix: uuid.simple().to_string()[..ID_DIGITS].to_owned(),
            not_after: None,
        }
    }
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its id; stable over changes and no secret.
    pub id: EndpointId,
    /// Unique among endpoints.
    pub name: String,
    /// Grows with every change.
    pub version: i64,
    /// What it starts.
    pub target: Target,
    /// Whether it takes requests.
    pub enabled: bool,
    /// How.
    pub settings: WebhookSettings,
    /// Newest first.
    pub secrets: Vec<EndpointSecret>,
    /// Newest first.
    pub uuids: Vec<EndpointUuid>,
    /// First set.
    pub created_at: OffsetDateTime,
    /// Last changed.
    pub updated_at: OffsetDateTime,
}

/// By what an endpoint is found that has this secret id.
pub fn uuid_hash(uuid: Uuid) -> [u8; 32] {
    Sha256::digest(uuid.as_bytes()).into()
}

/// What tells a secret of a hook from its others, without telling anything about it to whoever does not have it: a few
/// digits of a salted SHA-256.
pub fn fingerprint(hook: Uuid, secret: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(b"webhook secret");
    hash.update(hook.as_bytes());
    hash.update(secret);
    let mut digits = hex::encode(hash.finalize());
    digits.truncate(ID_DIGITS);
    digits
}

/// Where a secret of an endpoint is sealed for.
pub fn secret_place(id: EndpointId) -> String {
    format!("endpoint/{id}")
}

/// Whether something with this end is taken at `now`.
pub fn is_active(not_after: Option<OffsetDateTime>, now: OffsetDateTime) -> bool {
    not_after.is_none_or(|end| now < end)
}

/// Whether it can be an endpoint's name: letters, digits, `-`, `_` and `.`, up to [`MAX_NAME_BYTES`], and no UUID.
pub fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.chars().all(allowed)
        && Uuid::parse_str(name).is_err()
}

/// Whether it can be an event's key: printable, without white space, up to [`MAX_EVENT_KEY_BYTES`].
pub fn is_event_key(key: &str) -> bool {
    let allowed = |c: char| !c.is_whitespace() && !c.is_control();
    (1..=MAX_EVENT_KEY_BYTES).contains(&key.len()) && key.chars().all(allowed)
}

impl Endpoint {
    /// Makes this the newest secret; the others are taken until `end` at most, those that are over are forgotten.
    pub fn add_secret(&mut self, newest: EndpointSecret, now: OffsetDateTime, end: OffsetDateTime) {
        self.secrets.retain(|old| old.id != newest.id);
        for old in &mut self.secrets {
            old.not_after = Some(old.not_after.map_or(end, |earlier| earlier.min(end)));
        }
        self.secrets.retain(|old| is_active(old.not_after, now));
        self.secrets.truncate(MAX_KEYS - 1);
        self.secrets.insert(0, newest);
    }

    /// Makes this the newest secret id; as [`Self::add_secret`].
    pub fn add_uuid(&mut self, uuid: Uuid, now: OffsetDateTime, end: OffsetDateTime) {
        for old in &mut self.uuids {
            old.not_after = Some(old.not_after.map_or(end, |earlier| earlier.min(end)));
        }
        self.uuids.retain(|old| is_active(old.not_after, now));
        self.uuids.truncate(MAX_KEYS - 1);
        self.uuids.insert(0, EndpointUuid::of(uuid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;

    fn endpoint() -> Endpoint {
        Endpoint {
            id: EndpointId::new(),
            name: "orders".into(),
            version: 1,
            target: Target::Event("webhook.orders".into()),
            enabled: true,
            settings: WebhookSettings::default(),
            secrets: Vec::new(),
            uuids: Vec::new(),
            created_at: OffsetDateTime::UNIX_EPOCH,
            updated_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_new_secret_ends_the_others_after_their_grace_and_never_prolongs_them() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let mut endpoint = endpoint();
        let id = endpoint.id.0;
        let secret = |text: &str| EndpointSecret {
            secret: WebhookSecret::new(text).unwrap(),
            id: fingerprint(id, text.as_bytes()),
            not_after: None,
        };
        endpoint.add_secret(secret("one"), now, now);
        endpoint.add_secret(secret("two"), now, now + Duration::HOUR);
        endpoint.add_secret(secret("three"), now, now + Duration::DAY);
        let ends: Vec<_> = endpoint.secrets.iter().map(|one| one.not_after).collect();
        let (hour, day) = (Some(now + Duration::HOUR), Some(now + Duration::DAY));
        assert_eq!(ends, [None, day, hour]);
        let later = now + Duration::HOUR;
        endpoint.add_secret(secret("four"), later, later);
        assert_eq!(
            endpoint.secrets,
            [secret("four")],
            "no grace ends the others at once"
        );
    }

    #[test]
    fn a_secret_id_is_kept_as_its_digest() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let uuid = Uuid::new_v4();
        let mut endpoint = endpoint();
        endpoint.add_uuid(uuid, now, now);
        assert_eq!(endpoint.uuids[0].hash, uuid_hash(uuid));
        assert!(!format!("{endpoint:?}").contains(&uuid.to_string()));
    }

    #[test]
    fn names_and_keys_are_what_can_be_typed() {
        assert!(is_name("orders-1.x") && !is_name("") && !is_name("a b"));
        assert!(!is_name("00000000-0000-4000-8000-000000000000"));
        assert!(is_event_key("webhook.orders/new") && !is_event_key("a b") && !is_event_key(""));
    }
}
