//! Arbitrary bytes as the header of Sentry.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pocketci_server::intake::providers;

fuzz_target!(|data: &[u8]| {
    let _ = providers::sentry::parse(data);
});
