//! Arbitrary bytes as a query with a secret.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pocketci_server::intake::providers;

fuzz_target!(|data: &[u8]| {
    let _ = providers::url_secret::parse(&String::from_utf8_lossy(data));
});
