//! Deliveries of events to those who subscribed.

pub mod payload;
