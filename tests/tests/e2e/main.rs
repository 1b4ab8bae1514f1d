//! End to end: the shipped program as separate processes.
#![allow(clippy::unwrap_used, missing_docs)] // a test fails by panicking

mod cli;
mod docker;
mod docs;
mod durable;
mod events;
mod examples;
mod execute;
mod execute_faults;
mod faults;
mod gates;
mod hooks;
mod http;
mod local;
mod logs;
mod lying;
mod outside;
mod queueing;
mod restart;
mod secrets;
mod security;
mod stopping;
mod versions;
mod watching;
mod webhook;
mod yaml;
mod yaml_files;
