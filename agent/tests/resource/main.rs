//! Resources: the protocol of scripts in real containers, types on types, the cache, and the built-in types offline. What
//! runs containers needs an engine; `make test` starts one.
#![allow(clippy::unwrap_used, missing_docs)] // a test fails by panicking

mod cache;
mod fake_registry;
mod git;
mod git_put;
mod offline;
mod protocol;
mod registry;
mod registry_names;
mod support;
mod types;
