//! The Concourse-compatible configuration: what a YAML pipeline says, before anything of it runs.

pub mod model;
pub mod tree;
pub mod vars;

#[cfg(test)]
mod conformance;

pub use model::{Config, Job, Resource, ResourceType, Step};
