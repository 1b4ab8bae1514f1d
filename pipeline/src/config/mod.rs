//! The Concourse-compatible configuration: what a YAML pipeline says, before anything of it runs.
//!
//! [`load`] goes from text to a valid [`Config`]: [`tree`] (YAML with positions), [`vars`] (`((vars))`), decoding,
//! validation. [`crate::plan`] makes a job's plan of it.

mod decode;
pub mod diff;
mod fault;
pub mod format;
pub mod glob;
mod load;
pub mod model;
pub mod schedule;
pub mod tree;
mod validate;
pub mod vars;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod corpus;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;

pub use decode::{MAX_STEP_DEPTH, env_text_of};
pub use fault::{Fault, Warning, WarningKind, report};
pub use load::{Loaded, Strictness, decoded, load, load_as, load_task, looks_like_a_pipeline};
pub use model::{Config, Job, Resource, ResourceType, Step};
pub use validate::task_faults;
