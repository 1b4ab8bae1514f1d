//! Resources: what a pipeline checks for versions, gets and puts.
//!
//! A resource's type is either one of ours (`git`, `time`, `registry-image`, `mock`), which run in the agent, or an image
//! whose scripts are run by the protocol of Concourse's resources. A type that a pipeline declares comes before one of
//! ours with the same name, except for itself: it may be built from it. What was fetched is kept between jobs (`cache`).

mod built_in;
pub mod cache;
mod git;
mod image;
mod job;
mod key;
mod kind;
mod mock;
mod registry;
pub mod script;
mod settings;
mod time;

pub use cache::{CacheLimits, GetCache};
pub use job::{Resources, Setup};

use crate::container::{DriverError, Output, OutputStream, Remains, Volume};
use bytes::Bytes;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A version of a resource: names and texts, never empty.
pub type Version = BTreeMap<String, String>;

/// Files that steps hand on to each other. The volume is not written any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Its files.
    pub volume: Volume,
    /// Set where the engine has them as an image already; the volume then need not have a `rootfs/`.
    pub image: Option<String>,
}

/// A resource as the pipeline declares it, variables filled in. `source` may hold secrets and is never shown.
#[derive(Clone, Default)]
pub struct ResourceSpec {
    /// Its name in the pipeline; empty for an image that a task names itself.
    pub name: String,
    /// A type of the pipeline, or one of ours.
    pub type_name: String,
    /// Where it is and how to get there.
    pub source: Map<String, Value>,
}

/// A resource type as the pipeline declares it, variables filled in. `source` and `params` may hold secrets.
#[derive(Clone, Default)]
pub struct TypeSpec {
    /// What resources call it.
    pub name: String,
    /// The type of its image.
    pub type_name: String,
    /// Where its image is.
    pub source: Map<String, Value>,
    /// For fetching its image.
    pub params: Map<String, Value>,
    /// Beneath the source of each of its resources, key by key.
    pub defaults: Map<String, Value>,
    /// Its scripts run privileged, if the operator allows it.
    pub privileged: bool,
}

/// Where a step's output goes, and what ends it.
#[derive(Clone)]
pub struct StepIo {
    /// Its log.
    pub output: mpsc::Sender<Output>,
    /// Ends it: politely first, as [`crate::container::Driver::run`] does.
    pub stop: CancellationToken,
    /// For looking into its containers, where that is allowed.
    pub looked_at: Option<LookedAt>,
}

/// A step that people may look into.
#[derive(Clone)]
pub struct LookedAt {
    /// Its number.
    pub step: u32,
    /// What there is of its container.
    pub remains: Arc<Remains>,
}

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Its script ended with another code than 0.
    Failed {
        /// That code.
        exit_code: i32,
    },
    /// It could not be carried out; a sentence for the author, without secrets.
    Errored(String),
    /// It was told to stop.
    Stopped,
}

/// What was fetched or published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its version.
    pub version: Version,
    /// To be shown; names may repeat.
    pub metadata: Vec<(String, String)>,
}

impl StepIo {
    /// Adds to the step's log.
    pub(crate) async fn say(&self, text: &str) {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        if !bytes.is_empty() {
            // Nobody listens: the step goes on.
            let _ = self.output.send((OutputStream::Stderr, bytes)).await;
        }
    }

    /// The work, unless the step is stopped first.
    pub(crate) async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = Result<T, Stop>>,
    ) -> Result<T, Stop> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Stop::Stopped),
            done = work => done,
        }
    }
}

impl Stop {
    /// The error with what lies beneath it.
    pub(crate) fn errored(error: &DriverError) -> Self {
        Self::Errored(error.with_causes())
    }
}

impl fmt::Debug for ResourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResourceSpec")
            .field("name", &self.name)
            .field("type_name", &self.type_name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TypeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypeSpec")
            .field("name", &self.name)
            .field("type_name", &self.type_name)
            .finish_non_exhaustive()
    }
}
