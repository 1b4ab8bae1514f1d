//! Versions of resources: what a check finds, a get fetches and a put makes.

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use time::OffsetDateTime;

/// A version as its resource names it: at least one field, sorted.
pub type Version = BTreeMap<String, String>;

/// What a resource tells about a version, name and value in its order.
pub type Metadata = Vec<(String, String)>;

/// The canonical JSON of a version: sorted, without spaces. What is hashed, stored and searched.
pub fn canonical(version: &Version) -> String {
    // A map of strings cannot fail to serialize.
    serde_json::to_string(version).unwrap_or_default()
}

/// Whether a version has all these fields with these values.
pub fn contains(version: &Version, fields: &Version) -> bool {
    fields
        .iter()
        .all(|(name, value)| version.get(name) == Some(value))
}

/// A version in people's words: `ref: abc, path: x`.
pub fn words(version: &Version) -> String {
    let fields: Vec<String> = version
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    fields.join(", ")
}

macro_rules! hash {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }
    };
}

hash! {
    /// SHA-256 of a version's [`canonical`] JSON: its name within a resource.
    VersionHash
}
hash! {
    /// What the versions of a resource depend on. Another scope is another list of versions.
    ResourceScope
}

impl VersionHash {
    /// Of this version.
    pub fn of(version: &Version) -> Self {
        Self(Sha256::digest(canonical(version)).into())
    }
}

impl ResourceScope {
    /// Of a resource's type and source as configured (vars not filled in), and whatever else decides on its versions
    /// (the definitions of the custom types it is built on, say). The order of keys does not matter.
    pub fn of(parts: &[&Value]) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            write_sorted(part, &mut digest);
            digest.update([0]);
        }
        Self(digest.finalize().into())
    }
}

/// JSON with sorted keys, whatever order the map keeps.
fn write_sorted(value: &Value, digest: &mut Sha256) {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            digest.update([b'{']);
            for (key, value) in sorted {
                digest.update(Value::from(key.as_str()).to_string());
                digest.update([b':']);
                write_sorted(value, digest);
                digest.update([b',']);
            }
            digest.update([b'}']);
        }
        Value::Array(items) => {
            digest.update([b'[']);
            for item in items {
                write_sorted(item, digest);
                digest.update([b',']);
            }
            digest.update([b']']);
        }
        scalar => digest.update(scalar.to_string()),
    }
}

/// A version in its resource's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredVersion {
    /// Its name.
    pub hash: VersionHash,
    /// Its fields.
    pub version: Version,
    /// What a put or get told about it last.
    pub metadata: Metadata,
    /// Its place in the list, from 1, the newest last; grows when it is seen again beside a new one.
    pub check_order: i64,
    /// Whether builds may use it.
    pub enabled: bool,
    /// Whether it is what the pin by command stands for: the newest one that contains the pin's fields.
    pub pinned: bool,
    /// Stored first.
    pub first_seen_at: OffsetDateTime,
}

/// A pin by command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Fields that the version contains.
    pub fields: Version,
    /// Why, in its author's words.
    pub comment: String,
    /// Who pinned it, not empty.
    pub actor: String,
}

/// A resource that a pipeline declares, with what is known of its checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceState {
    /// Its name.
    pub name: String,
    /// The list that it has now.
    pub scope: ResourceScope,
    /// Number of the last check that began, 0 if none did.
    pub check_seq: i64,
    /// Whether that check has not ended. Who ran it may be gone: look at `check_started_at`.
    pub checking: bool,
    /// When it began (store's clock), if one of this scope did.
    pub check_started_at: Option<OffsetDateTime>,
    /// When a check ended last.
    pub check_finished_at: Option<OffsetDateTime>,
    /// When the check that ended last had begun: what was there before that is known.
    pub checked_at: Option<OffsetDateTime>,
    /// Why the check that ended last failed.
    pub check_error: Option<String>,
    /// The pin by command.
    pub pin: Option<Pin>,
    /// Whether a stored version is what the pin stands for; `false` without a pin.
    pub pin_found: bool,
    /// The newest version, enabled or not: what the next check starts from.
    pub newest: Option<Version>,
}

/// A version that a build used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildInput {
    /// Name of the input.
    pub name: String,
    /// The resource.
    pub resource: String,
    /// The version's name.
    pub hash: VersionHash,
    /// The version.
    pub version: Version,
    /// What is known about it, if it is in the resource's list still.
    pub metadata: Metadata,
    /// Whether no build of the job had used it before under this name.
    pub first_occurrence: bool,
}

/// A version that a build made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOutput {
    /// The resource.
    pub resource: String,
    /// The version's name.
    pub hash: VersionHash,
    /// The version.
    pub version: Version,
    /// What is known about it, if it is in the resource's list still.
    pub metadata: Metadata,
}

/// What a build used and made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BuildVersions {
    /// By name.
    pub inputs: Vec<BuildInput>,
    /// In the order in which they were made.
    pub outputs: Vec<BuildOutput>,
    /// The builds through which its inputs had passed.
    pub sources: Vec<super::JobId>,
}

/// What the [`canonical`] JSON of every version with these fields has in it, a piece for each field. A search for them
/// may find more (a quote in a name), never less.
pub fn fragments(fields: &Version) -> Vec<String> {
    let of = |(name, value): (&String, &String)| {
        let one = Version::from([(name.clone(), value.clone())]);
        let text = canonical(&one);
        text[1..text.len() - 1].to_owned()
    };
    fields.iter().map(of).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn version(fields: &[(&str, &str)]) -> Version {
        let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
        fields.iter().map(owned).collect()
    }

    #[test]
    fn the_order_of_fields_is_no_part_of_a_version() {
        let one = version(&[("ref", "a"), ("path", "b")]);
        let other = version(&[("path", "b"), ("ref", "a")]);
        assert_eq!(VersionHash::of(&one), VersionHash::of(&other));
        assert_eq!(canonical(&one), r#"{"path":"b","ref":"a"}"#);
    }

    #[test]
    fn a_scope_depends_on_every_part_and_not_on_the_order_of_keys() {
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let (one, other) = (
            parse(r#"{"a":1,"b":[{"c":null,"d":""}]}"#),
            parse(r#"{"b":[{"d":"","c":null}],"a":1}"#),
        );
        let of = |source: &Value| ResourceScope::of(&[&json!("git"), source]);
        assert_eq!(of(&one), of(&other));
        assert_ne!(of(&one), of(&parse(r#"{"a":1,"b":[{"c":null,"d":[]}]}"#)));
        assert_ne!(of(&one), ResourceScope::of(&[&json!("hg"), &one]));
        assert_ne!(of(&json!("x")), ResourceScope::of(&[&json!("gitx")]));
    }

    #[test]
    fn every_field_is_found_in_the_stored_text() {
        let odd = version(&[("a\"b", "\u{0}\\"), ("ref", "x\"y"), ("z", "é")]);
        let text = canonical(&odd);
        assert!(fragments(&odd).iter().all(|piece| text.contains(piece)));
        assert!(!text.contains(&fragments(&version(&[("z", "e")]))[0]));
    }
}
