//! Deliveries: what subscribers are told is built, signed, sent and recorded, by any number of servers.

pub mod payload;
pub mod terms;
