//! Arbitrary bytes as a timestamp.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pocketci_server::intake::providers;

fuzz_target!(|data: &[u8]| {
    if let Ok(read) = providers::timestamp::seconds(data) {
        assert!(read >= 0);
    }
});
