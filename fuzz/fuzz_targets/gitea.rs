//! Arbitrary bytes as the header and the form of Forgejo, Gitea and Gogs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pocketci_server::intake::providers;

fuzz_target!(|data: &[u8]| {
    let _ = providers::gitea::parse(data);
    let _ = providers::gitea::payload_of_form(data);
});
