//! The Concourse-compatible configuration: what a YAML pipeline says, before anything of it runs.

pub mod model;

pub use model::{Config, Job, Resource, ResourceType, Step};
