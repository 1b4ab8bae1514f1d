//! One job's JavaScript against a host that records.
#![allow(clippy::unwrap_used)]

mod errors;
mod globals;
mod hostile;
mod http;
mod http_body;
mod journal;
mod limits;
mod modules;
mod prelude;
mod resume;
mod run;
mod seed;
mod support;
mod waiting;
