//! Jobs of YAML pipelines, from their plan to their end, on both drivers; `make test` starts an engine.
#![allow(clippy::unwrap_used, missing_docs)] // a test fails by panicking

#[macro_use]
mod bench;
mod containers;
mod files;
mod flow;
mod one_off;
mod outside;
mod resources;
mod values;
