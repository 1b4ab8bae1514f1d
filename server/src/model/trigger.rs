//! What starts a run.

use super::one_off::OneOff;
use super::version::Version;
use serde::{Deserialize, Serialize};

/// What started a run, as the pipeline sees it (the webhook itself is in the receipt).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// How.
    pub kind: TriggerKind,
    /// `pipelineContext.args`.
    #[serde(default)]
    pub args: Vec<String>,
    /// Jobs asked for.
    #[serde(default)]
    pub jobs: Vec<String>,
    /// The resource to look at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckTrigger>,
    /// The task to execute instead of a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_off: Option<OneOff>,
    /// An unverified request started it, and its pipeline does not lend it its rights: no secrets.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anonymous: bool,
}

impl Trigger {
    /// Without arguments.
    pub fn new(kind: TriggerKind) -> Self {
        Self {
            kind,
            args: Vec::new(),
            jobs: Vec::new(),
            check: None,
            one_off: None,
            anonymous: false,
        }
    }
}

/// See [`Trigger`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TriggerKind {
    /// An HTTP request to `/api/webhooks/…`, or a simulated one.
    Webhook,
    /// A user.
    Manual,
    /// Another pipeline's `triggerPipeline`.
    Pipeline,
    /// A new version of a resource that a job is triggered by.
    Version,
    /// The clock.
    Schedule,
    /// The server, to look for new versions of a resource.
    Check,
}

impl TriggerKind {
    /// The word in the database and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Manual => "manual",
            Self::Pipeline => "pipeline",
            Self::Version => "version",
            Self::Schedule => "schedule",
            Self::Check => "check",
        }
    }

    /// Reads what [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Webhook,
            Self::Manual,
            Self::Pipeline,
            Self::Version,
            Self::Schedule,
            Self::Check,
        ]
        .into_iter()
        .find(|kind| kind.as_str() == text)
    }
}

/// What a run of kind [`TriggerKind::Check`] looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckTrigger {
    /// The resource.
    pub resource: String,
    /// Its [`super::version::ResourceScope`] when the check began, in hexadecimal digits.
    pub scope: String,
    /// The newest version known, or the one to begin with.
    #[serde(default)]
    pub from: Option<Version>,
}
