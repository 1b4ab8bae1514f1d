//! From a tree to the model, as strictly as Concourse's server reads it; every fault is collected.
//!
//! There are two manners. Around steps ("loose"), a number or boolean where text is expected becomes text and keys are
//! found in any case; inside of steps and task configurations nothing is bent. In both, null is the same as absent.

mod fields;
mod job;
mod pocketci;
mod scalars;
mod step;
mod steps;
mod task;
mod top;

pub use scalars::env_text_of;
pub use step::MAX_STEP_DEPTH;

use super::fault::{Fault, Warning, WarningKind};
use super::model::{Config, TaskConfig};
use super::tree::{Node, Position};
use std::collections::HashMap;

/// What came out of decoding.
pub struct Decoded {
    /// What could be read; complete only without faults.
    pub config: Config,
    /// Of types and keys.
    pub faults: Vec<Fault>,
    /// Unknown keys of steps: faults that Concourse finds when it validates.
    pub unknown: Vec<Fault>,
    /// Notes.
    pub warnings: Vec<Warning>,
    /// Where the things of the configuration are, by their paths.
    pub places: HashMap<String, Position>,
}

/// Reads a pipeline. `strict` refuses unknown keys at the top, too.
pub fn pipeline(root: &Node, strict: bool) -> Decoded {
    let mut decoder = Decoder::default();
    let config = top::config(&mut decoder, root, strict);
    Decoded {
        config,
        faults: decoder.faults,
        unknown: decoder.unknown,
        warnings: decoder.warnings,
        places: decoder.places,
    }
}

/// Reads a task's configuration, as it stands in a file of its own.
///
/// # Errors
/// All faults of types and keys.
pub fn task_config(root: &Node) -> Result<TaskConfig, Vec<Fault>> {
    let mut decoder = Decoder::default();
    let config = task::config(&mut decoder, root, "task");
    match config {
        Some(config) if decoder.faults.is_empty() => Ok(config),
        _ => Err(decoder.faults),
    }
}

/// Most faults in one answer: a list of ten thousand wrong steps is wrong in one way.
const MAX_FAULTS: usize = 200;

/// What is collected on the way.
#[derive(Default)]
struct Decoder {
    faults: Vec<Fault>,
    unknown: Vec<Fault>,
    warnings: Vec<Warning>,
    places: HashMap<String, Position>,
    /// Steps around the one that is being read.
    depth: usize,
}

impl Decoder {
    fn fault(&mut self, path: &str, at: Position, message: impl AsRef<str>) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(Fault {
                group: None,
                path: path.to_owned(),
                at: Some(at),
                message: if path.is_empty() {
                    message.as_ref().to_owned()
                } else {
                    format!("{path}: {}", message.as_ref())
                },
            });
        }
    }

    fn expected(&mut self, path: &str, node: &Node, expected: &str) {
        self.fault(
            path,
            node.at,
            format!("expected {expected}, not {}", node.told()),
        );
    }

    fn note(&mut self, message: String) {
        self.warnings.push(Warning {
            kind: WarningKind::Note,
            message,
        });
    }
}
