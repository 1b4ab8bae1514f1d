//! The fault suite: pulled plugs by schedule and one by one. The short form is part of `make test`, `make chaos` is the long one.
#![allow(clippy::unwrap_used, missing_docs)] // a test fails by panicking

mod storm;
