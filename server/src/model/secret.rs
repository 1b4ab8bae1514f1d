//! Secrets of pipelines: what is stored of them is sealed by the [`super::vault`].

use super::PipelineId;
use time::OffsetDateTime;

/// Longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// Largest secret, in bytes.
pub const MAX_SECRET_BYTES: usize = 64 * 1024;

/// Whose secret it is; `None` is everybody's.
pub type Scope = Option<PipelineId>;

/// A secret as it is listed: never with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretInfo {
    /// Whose.
    pub scope: Scope,
    /// Its name.
    pub name: String,
    /// When it was last set.
    pub updated_at: OffsetDateTime,
}

/// A secret as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// Whose.
    pub scope: Scope,
    /// Its name.
    pub name: String,
    /// See [`super::vault::Vault::seal`].
    pub sealed: Vec<u8>,
}

/// Where a secret is sealed for: bytes moved to another place do not open.
pub fn place(scope: Scope, name: &str) -> String {
    match scope {
        Some(pipeline) => format!("secret/{pipeline}/{name}"),
        None => format!("secret/global/{name}"),
    }
}

/// Where a webhook secret is sealed for.
pub fn webhook_place(pipeline_name: &str) -> String {
    format!("webhook/{pipeline_name}")
}

/// Whether it can be a secret's name: letters, digits, `_`, `-`, `.` and `/`, up to [`MAX_NAME_BYTES`].
pub fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.chars().all(allowed)
}
