//! Arbitrary bytes as the header of Bitbucket.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pocketci_server::intake::providers;

fuzz_target!(|data: &[u8]| {
    let _ = providers::bitbucket::parse(data);
});
