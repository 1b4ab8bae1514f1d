//! One job's JavaScript against a host that records.
#![allow(clippy::unwrap_used)]

mod errors;
mod globals;
mod http;
mod limits;
mod run;
mod seed;
mod support;
mod waiting;
