//! Arbitrary bytes as the header of Buildkite.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pocketci_server::intake::providers;

fuzz_target!(|data: &[u8]| {
    if let Ok(read) = providers::buildkite::parse(data) {
        assert!(read.sent >= 0 && read.digests.iter().all(|digest| digest.len() == 32));
    }
});
