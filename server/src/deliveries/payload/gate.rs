//! `gate`: an approval that a run waits for. CircleCI has no event for it.

use super::instant::iso_ms;
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

/// An open gate, with all that somebody needs to decide it.
#[derive(Debug, Clone, Serialize)]
pub struct Gate {
    /// Its id.
    pub id: Uuid,
    /// The author's name for it.
    pub name: String,
    /// For those who decide.
    pub message: String,
    /// Until when it can be decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// POST here to let the run go on.
    pub approve_url: String,
    /// POST here to end it.
    pub reject_url: String,
}

impl Gate {
    /// Of these words.
    pub fn of(
        id: Uuid,
        name: &str,
        message: &str,
        expires_at: Option<OffsetDateTime>,
        external_url: Option<&str>,
    ) -> Self {
        let base = external_url.unwrap_or_default().trim_end_matches('/');
        Self {
            id,
            name: name.to_owned(),
            message: message.to_owned(),
            expires_at: expires_at.map(iso_ms),
            approve_url: format!("{base}/api/gates/{id}/approve"),
            reject_url: format!("{base}/api/gates/{id}/reject"),
        }
    }
}
