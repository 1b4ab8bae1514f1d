//! End to end: the shipped program as separate processes.
#![allow(clippy::unwrap_used, missing_docs)] // a test fails by panicking

mod both_ways;
mod cli;
mod docker;
mod docs;
mod doors;
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
mod multipart;
mod oddities;
mod outside;
mod providers;
mod queueing;
mod receipts;
mod restart;
mod rights;
mod secrets;
mod security;
mod stopping;
mod strangers;
mod subscriptions;
mod versions;
mod watching;
mod webhook;
mod yaml;
mod yaml_files;
