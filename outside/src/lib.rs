//! The way out: HTTP requests of pipelines and of the server, to addresses that the operator allows.
//!
//! Invariant: no byte is sent to an address that [`guard::Guard`] did not pass. Names are resolved here and the connection
//! goes to the address that was checked, so a name that changes between check and use gains nothing. No redirect is ever
//! followed here.
//!
//! Reading order: `guard` (where to), `client` (connections and TLS), `exchange` (one bounded request), `signature` (how a
//! receiver knows it was us), `again` (when to try again).

pub mod again;
pub mod client;
pub mod exchange;
pub mod guard;
pub mod signature;
