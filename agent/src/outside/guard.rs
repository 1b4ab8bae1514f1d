//! The guard over what pipelines reach through `fetch`, `webhook.send` and `notify`.

pub use pocketci_outside::guard::{Allowed, Guard, Words};

/// How the agent's refusals are told.
const WORDS: Words = Words {
    what: "fetch",
    way_out: "the agent's operator may allow it with --fetch-allow",
};

/// Lets through public addresses, and what the operator allows.
pub fn fetch_guard(allowed: Vec<Allowed>) -> Guard {
    Guard::new(allowed, WORDS)
}
