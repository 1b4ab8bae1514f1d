//! Pipelines that a job of another one (or of itself) sets: the `set_pipeline` step.

use super::Runs;
use crate::model::PipelineId;
use crate::model::pipeline::{ContentType, PutPipeline};
use crate::store::Result;
use pocketci_pipeline::config::vars::Vars;
use pocketci_pipeline::config::{self, Config, diff};
use pocketci_proto::api::Listen;
use serde_json::{Map, Value};

/// A pipeline to set.
pub struct SetByJob {
    /// The pipeline of the job.
    pub by: PipelineId,
    /// Its name; `None` for the job's own pipeline.
    pub name: Option<String>,
    /// A JSON object, or empty: part of its identity.
    pub instance_vars: String,
    /// Whose it is to be; empty for the job's own team.
    pub team: String,
    /// YAML.
    pub source: String,
}

/// What became of it.
pub enum SetPipeline {
    /// It is as it should be.
    Done {
        /// Whether it was not before.
        changed: bool,
        /// What changed, to be printed.
        diff: String,
        /// To be printed.
        warnings: Vec<String>,
    },
    /// The YAML has faults; all are told.
    Invalid(String),
    /// It cannot be set at all.
    Refused(String),
}

/// The one team there is.
const TEAM: &str = "main";

impl Runs {
    /// Validates and stores; a new pipeline is not paused.
    pub async fn set_by_job(&self, set: SetByJob) -> Result<SetPipeline> {
        if !set.team.is_empty() && set.team != TEAM {
            let why = format!(
                "there is no team {:?}: this server has only {TEAM:?}",
                set.team
            );
            return Ok(SetPipeline::Refused(why));
        }
        let name = match set.name {
            None => match self.store().pipeline(set.by).await? {
                Some(own) => own.name,
                None => return Ok(SetPipeline::Refused("the pipeline is gone".to_owned())),
            },
            Some(name) => match instance_name(&name, &set.instance_vars) {
                Ok(name) => name,
                Err(why) => return Ok(SetPipeline::Refused(why)),
            },
        };
        let file_name = format!("{name}.yml");
        let loaded = match config::load(&file_name, &set.source, &Vars::default()) {
            Ok(loaded) => loaded,
            Err(faults) => {
                let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
                return Ok(SetPipeline::Invalid(told.join("\n")));
            }
        };
        let before = match self.store().pipeline_by_name(&name).await? {
            Some(stored) => self.program(stored.revision_id).await?,
            None => None,
        };
        let nothing = Config::default();
        let before = before.as_ref().map_or(&nothing, |program| &program.config);
        let diff = diff::render(&diff::diff(before, &loaded.config), false);
        let put = PutPipeline {
            name,
            content_type: ContentType::Yaml,
            file_name,
            source: set.source,
            javascript: String::new(),
            source_map: String::new(),
            modules: Vec::new(),
            driver: None,
            labels: None,
            webhook_secrets: None,
            settings: None,
            listens: loaded
                .config
                .on
                .iter()
                .map(|listen| Listen {
                    event: listen.event.clone(),
                    filter: listen.filter.clone(),
                })
                .collect(),
        };
        let outcome = self.store().put_pipeline(put).await?;
        Ok(SetPipeline::Done {
            changed: outcome.changed.contains(&"content"),
            diff,
            warnings: loaded.warnings.iter().map(ToString::to_string).collect(),
        })
    }
}

/// `name`, or `name/branch:main` for an instance.
fn instance_name(name: &str, vars: &str) -> std::result::Result<String, String> {
    let vars: Map<String, Value> = match vars {
        "" => Map::new(),
        text => serde_json::from_str(text).map_err(|_| "instance_vars is no object".to_owned())?,
    };
    let mut parts: Vec<String> = vars
        .iter()
        .map(|(var, value)| match value {
            Value::String(text) => format!("{var}:{text}"),
            other => format!("{var}:{other}"),
        })
        .collect();
    parts.sort();
    let full = match parts.is_empty() {
        true => name.to_owned(),
        false => format!("{name}/{}", parts.join(",")),
    };
    if name.is_empty() || full.len() > MAX_NAME_BYTES || full.chars().any(char::is_control) {
        return Err(format!(
            "{full:?} cannot be a pipeline's name: it must have 1 to {MAX_NAME_BYTES} printable characters"
        ));
    }
    Ok(full)
}

/// Longest name with its instance.
const MAX_NAME_BYTES: usize = 250;
