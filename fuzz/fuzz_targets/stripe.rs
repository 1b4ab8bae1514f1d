//! Arbitrary bytes as the header of Stripe.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pocketci_server::intake::providers;

fuzz_target!(|data: &[u8]| {
    if let Ok(read) = providers::stripe::parse(data) {
        assert!(read.sent >= 0 && (1..=16).contains(&read.digests.len()));
    }
});
