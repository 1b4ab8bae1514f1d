//! Arbitrary bytes as the header of Linear.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pocketci_server::intake::providers;

fuzz_target!(|data: &[u8]| {
    let _ = providers::linear::parse(data);
});
