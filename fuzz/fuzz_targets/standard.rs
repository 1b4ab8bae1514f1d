//! Arbitrary bytes as the header of Standard Webhooks and GitLab.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pocketci_server::intake::providers;

fuzz_target!(|data: &[u8]| {
    if let Ok(read) = providers::standard::parse(data) {
        assert!((1..=16).contains(&(read.v1.len() + read.v1a.len())));
    }
});
