//! A pipeline: a named program in numbered revisions, with its settings.

use super::settings::{self, SettingsError};
use super::{PipelineId, RevisionId};
use pocketci_proto::api::{Driver, Listen, PipelineSettings, RunAs};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use time::OffsetDateTime;

/// Most webhook secrets that may be active at once.
pub const MAX_WEBHOOK_SECRETS: usize = 8;

/// A webhook secret's bytes. Never shown, not even by Debug; never empty.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Vec<u8>);

impl WebhookSecret {
    /// `None` if empty: an empty secret would verify anybody.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Option<Self> {
        let bytes = bytes.into();
        (!bytes.is_empty()).then_some(Self(bytes))
    }

    /// The key of the signature.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

/// What kind of program a revision is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentType {
    /// TypeScript.
    Ts,
    /// JavaScript.
    Js,
    /// Concourse-style YAML.
    Yaml,
}

impl ContentType {
    /// The word used in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ts => "ts",
            Self::Js => "js",
            Self::Yaml => "yaml",
        }
    }

    /// Reads what [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Ts, Self::Js, Self::Yaml]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// Labels that an agent must have, all of them.
pub type Labels = BTreeMap<String, String>;

/// A stored pipeline.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Its id; stable over updates.
    pub id: PipelineId,
    /// Unique among pipelines.
    pub name: String,
    /// Grows with every change; a cached copy is current iff its version is the stored one.
    pub version: i64,
    /// The newest revision.
    pub revision_id: RevisionId,
    /// Its number, from 1.
    pub revision: i32,
    /// Its kind.
    pub content_type: ContentType,
    /// Driver, if the pipeline names one.
    pub driver: Option<Driver>,
    /// Labels that an agent must have.
    pub labels: Labels,
    /// Active secrets, newest first; none means that webhooks are not verified.
    pub webhook_secrets: Vec<WebhookSecret>,
    /// How its runs wait and are tried again.
    pub settings: PipelineSettings,
    /// Triggers are refused and queued jobs wait while set.
    pub paused: bool,
    /// Who paused it; empty if it is not paused.
    pub paused_by: String,
    /// First set.
    pub created_at: OffsetDateTime,
    /// Last changed.
    pub updated_at: OffsetDateTime,
}

/// A file that a program imports.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Module {
    /// Path relative to the program's folder.
    pub name: String,
    /// The author's text.
    pub source: String,
    /// What runs.
    pub javascript: String,
    /// `javascript` → `source`.
    pub source_map: String,
}

/// One version of a pipeline's program; never changes once stored.
#[derive(Clone)]
pub struct Revision {
    /// Its id.
    pub id: RevisionId,
    /// Of which pipeline.
    pub pipeline_id: PipelineId,
    /// Number, from 1.
    pub number: i32,
    /// Kind of program.
    pub content_type: ContentType,
    /// The author's file name.
    pub file_name: String,
    /// The author's text.
    pub source: String,
    /// What runs; empty for YAML.
    pub javascript: String,
    /// JSON, `javascript` → `source`; empty for YAML.
    pub source_map: String,
    /// What it imports.
    pub modules: Vec<Module>,
}

/// A wanted state of a pipeline, already checked. `None` keeps what is stored.
#[derive(Clone)]
pub struct PutPipeline {
    /// Unique name.
    pub name: String,
    /// Kind of program.
    pub content_type: ContentType,
    /// The author's file name.
    pub file_name: String,
    /// The author's text.
    pub source: String,
    /// What runs.
    pub javascript: String,
    /// `javascript` → `source`.
    pub source_map: String,
    /// What it imports.
    pub modules: Vec<Module>,
    /// Driver; `Some(None)` leaves the choice to the agent.
    pub driver: Option<Option<Driver>>,
    /// Labels that an agent must have.
    pub labels: Option<Labels>,
    /// Replaces all secrets; an empty list removes them.
    pub webhook_secrets: Option<Vec<WebhookSecret>>,
    /// Merge patch of the settings.
    pub settings: Option<SettingsPatch>,
    /// Events that the program itself listens to.
    pub listens: Vec<Listen>,
}

/// A merge patch that was checked: whatever settings it meets, the result is one that can be, as each field is
/// checked by itself.
#[derive(Debug, Clone)]
pub struct SettingsPatch(Value);

impl SettingsPatch {
    /// Checks a patch.
    pub fn new(patch: Value) -> Result<Self, SettingsError> {
        settings::patched(&PipelineSettings::default(), &patch).map(|_| Self(patch))
    }

    fn of(&self, stored: &PipelineSettings) -> PipelineSettings {
        settings::patched(stored, &self.0).unwrap_or_else(|_| stored.clone())
    }
}

/// What a put did.
#[derive(Debug, Clone)]
pub struct PutOutcome {
    /// As stored now.
    pub pipeline: Pipeline,
    /// Whether it is new.
    pub created: bool,
    /// Which of `content`, `driver`, `labels`, `webhook_secrets`, `settings` differ from before (all for a new one, as far as set).
    pub changed: Vec<&'static str>,
}

impl PutOutcome {
    /// Decides what `put` does to what is stored (a pipeline with its newest revision, or nothing).
    ///
    /// The caller writes the pipeline if anything changed, a new revision under `pipeline.revision_id` if `content`
    /// did, the secrets if `webhook_secrets` did.
    pub fn decide(
        stored: Option<(Pipeline, Revision)>,
        put: &PutPipeline,
        now: OffsetDateTime,
    ) -> Self {
        let created = stored.is_none();
        let mut changed = Vec::new();
        let mut pipeline = match stored {
            Some((pipeline, newest)) => {
                if !newest.is_program_of(put) {
                    changed.push("content");
                }
                pipeline
            }
            None => {
                changed.push("content");
                Pipeline::blank(put, now)
            }
        };
        if changed.contains(&"content") {
            pipeline.revision += 1;
            pipeline.revision_id = RevisionId::new();
            pipeline.content_type = put.content_type;
        }
        pipeline.merge_settings(put, &mut changed);
        if !changed.is_empty() {
            pipeline.version += 1;
            pipeline.updated_at = now;
        }
        Self {
            pipeline,
            created,
            changed,
        }
    }
}

impl PutOutcome {
    /// Events that the pipeline listens to from now on: by its settings, and by its program as it is put.
    pub fn listens(&self, put: &PutPipeline) -> Vec<Listen> {
        let mut all = self.pipeline.settings.on.clone();
        all.extend(put.listens.iter().cloned());
        all
    }
}

impl Pipeline {
    /// Whether runs that nobody verified have its rights all the same (`webhook.run_as: pipeline`).
    pub fn lends_rights(&self) -> bool {
        let webhook = self.settings.webhook.as_ref();
        webhook.and_then(|webhook| webhook.run_as) == Some(RunAs::Pipeline)
    }

    fn blank(put: &PutPipeline, now: OffsetDateTime) -> Self {
        Self {
            id: PipelineId::new(),
            name: put.name.clone(),
            version: 0,
            revision_id: RevisionId::new(),
            revision: 0,
            content_type: put.content_type,
            driver: None,
            labels: Labels::new(),
            webhook_secrets: Vec::new(),
            settings: PipelineSettings::default(),
            paused: false,
            paused_by: String::new(),
            created_at: now,
            updated_at: now,
        }
    }
    /// Takes over what `put` sets and names what differs from before in `changed`.
    fn merge_settings(&mut self, put: &PutPipeline, changed: &mut Vec<&'static str>) {
        if let Some(driver) = put.driver
            && driver != self.driver
        {
            self.driver = driver;
            changed.push("driver");
        }
        if let Some(labels) = &put.labels
            && *labels != self.labels
        {
            self.labels.clone_from(labels);
            changed.push("labels");
        }
        if let Some(secrets) = &put.webhook_secrets
            && *secrets != self.webhook_secrets
        {
            self.webhook_secrets.clone_from(secrets);
            changed.push("webhook_secrets");
        }
        if let Some(patch) = &put.settings {
            let settings = patch.of(&self.settings);
            if settings != self.settings {
                self.settings = settings;
                changed.push("settings");
            }
        }
    }
}

impl Revision {
    /// Whether `put` brings this very program, so that no new revision is needed.
    fn is_program_of(&self, put: &PutPipeline) -> bool {
        self.content_type == put.content_type
            && self.file_name == put.file_name
            && self.source == put.source
            && self.javascript == put.javascript
            && self.modules == put.modules
    }
}
