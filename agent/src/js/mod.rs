//! Runs one job's JavaScript in a fresh QuickJS context.

pub mod host;
