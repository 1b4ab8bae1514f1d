//! Arbitrary bytes as a custom scheme with a header: the first line is the scheme in JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pocketci_server::intake::providers::{CustomScheme, custom};

fuzz_target!(|data: &[u8]| {
    let (scheme, header) = match data.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &[][..]),
    };
    if let Ok(scheme) = serde_json::from_slice::<CustomScheme>(scheme) {
        let checked = scheme.check().is_ok();
        let read = custom::parse(&scheme, header);
        assert!(!checked || read.is_err() || !header.is_empty());
    }
});
