//! Arbitrary bytes as the header of PagerDuty.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pocketci_server::intake::providers;

fuzz_target!(|data: &[u8]| {
    if let Ok(read) = providers::pagerduty::parse(data) {
        assert!((1..=16).contains(&read.len()));
    }
});
