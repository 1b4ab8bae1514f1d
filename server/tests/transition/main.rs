//! How a run may change: single rules, then random lives that must keep every invariant.

// A failed expectation of a test is a panic; `unwrap` says so in the fewest words.
#![allow(clippy::unwrap_used)]

mod lives;
mod rules;
mod story;
