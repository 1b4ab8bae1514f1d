//! The configuration of a YAML revision, read once.

use super::graph::Graph;
use crate::model::pipeline::{ContentType, Revision};
use crate::model::version::ResourceScope;
use crate::model::{JobId, RevisionId};
use pocketci_pipeline::config::model::JobInput;
use pocketci_pipeline::config::vars::Vars;
use pocketci_pipeline::config::{self, Config, Resource};
use serde_json::json;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most configurations kept; when full, everything is forgotten and read again.
const MAX_KEPT: usize = 256;
/// Most jobs remembered whose webhook was looked at; when full, all are forgotten.
const MAX_MEANT: usize = 4096;

/// A configuration with what is computed from it.
pub struct Program {
    /// What the file says.
    pub config: Config,
    /// Its jobs' order.
    pub graph: Graph,
    /// By job: what it gets.
    inputs: HashMap<String, Vec<JobInput>>,
    /// See [`Program::scopes`].
    scopes: Vec<(String, ResourceScope)>,
}

impl Program {
    /// Of what was checked when it was set; `None` if it cannot be read (any more: it was stored by another release).
    fn read(revision: &Revision) -> Option<Self> {
        match config::load(&revision.file_name, &revision.source, &Vars::default()) {
            Ok(loaded) => Some(Self::of(loaded.config)),
            Err(faults) => {
                let first = faults.first().map(ToString::to_string);
                tracing::warn!(revision = %revision.id, first, "a stored pipeline has faults");
                None
            }
        }
    }

    /// Of a configuration.
    pub fn of(config: Config) -> Self {
        let inputs = config
            .jobs
            .iter()
            .map(|job| (job.name.clone(), config.inputs(job)))
            .collect();
        let scopes = config
            .resources
            .iter()
            .map(|resource| (resource.name.clone(), scope(&config, resource)))
            .collect();
        Self {
            graph: Graph::of(&config),
            inputs,
            scopes,
            config,
        }
    }

    /// What a job gets; nothing if there is no such job.
    pub fn inputs(&self, job: &str) -> &[JobInput] {
        self.inputs.get(job).map_or(&[], Vec::as_slice)
    }

    /// The resources with what their versions depend on.
    pub fn scopes(&self) -> &[(String, ResourceScope)] {
        &self.scopes
    }

    /// What the versions of a resource depend on, if there is one of this name.
    pub fn scope(&self, resource: &str) -> Option<ResourceScope> {
        let mut scopes = self.scopes.iter();
        scopes
            .find(|(name, _)| name == resource)
            .map(|(_, scope)| *scope)
    }
}

/// Type and source, and those of the types that it builds on. Vars count as they are written.
fn scope(config: &Config, resource: &Resource) -> ResourceScope {
    let mut parts = vec![json!([resource.type_name, resource.source])];
    let mut seen = BTreeSet::new();
    let mut kind = resource.type_name.as_str();
    while seen.insert(kind)
        && let Some(found) = config.resource_types.iter().find(|t| t.name == kind)
    {
        parts.push(json!([found.type_name, found.source, found.defaults]));
        kind = &found.type_name;
    }
    ResourceScope::of(&parts.iter().collect::<Vec<_>>())
}

/// The configurations read lately.
#[derive(Default)]
pub struct Programs {
    kept: Mutex<HashMap<RevisionId, Option<Arc<Program>>>>,
    /// Revisions whose resources are known to the store.
    declared: Mutex<HashSet<RevisionId>>,
    /// Jobs of which it is known that the webhook is meant for them.
    meant: Mutex<HashSet<JobId>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Programs {
    /// Of a revision; `None` if it is no YAML, or has faults.
    pub fn of(&self, revision: &Revision) -> Option<Arc<Program>> {
        if revision.content_type != ContentType::Yaml {
            return None;
        }
        if let Some(found) = lock(&self.kept).get(&revision.id) {
            return found.clone();
        }
        let program = Program::read(revision).map(Arc::new);
        let mut kept = lock(&self.kept);
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(revision.id, program.clone());
        program
    }

    /// Whether the resources of a revision were made known by this server.
    pub(super) fn is_declared(&self, id: RevisionId) -> bool {
        lock(&self.declared).contains(&id)
    }

    /// Whether a webhook was found to be meant for this job.
    pub(super) fn is_meant(&self, id: JobId) -> bool {
        lock(&self.meant).contains(&id)
    }

    /// It was; forgetting it costs a second look.
    pub(super) fn meant(&self, id: JobId) {
        let mut meant = lock(&self.meant);
        if meant.len() >= MAX_MEANT {
            meant.clear();
        }
        meant.insert(id);
    }

    /// They are now. An older revision that is set again is a new revision.
    pub(super) fn declared(&self, id: RevisionId) {
        let mut declared = lock(&self.declared);
        if declared.len() >= MAX_KEPT {
            declared.clear();
        }
        declared.insert(id);
    }
}
