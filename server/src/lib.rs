//! The server: takes signed webhooks, stores runs, hands jobs to agents, lets people watch.
//!
//! Layers, left may name right and never back (a test reads the sources and holds this):
//! `app → { http | grpc | background } → intake → runs → deliveries → store → model`.

pub mod app;
pub mod background;
pub mod deliveries;
pub mod grpc;
pub mod http;
pub mod intake;
pub mod model;
pub mod runs;
pub mod store;
