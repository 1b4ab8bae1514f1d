//! Arbitrary bytes as the header of Discord.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pocketci_server::intake::providers;

fuzz_target!(|data: &[u8]| {
    if let Ok(read) = providers::discord::parse(data) {
        assert_eq!(read.len(), 64);
    }
});
