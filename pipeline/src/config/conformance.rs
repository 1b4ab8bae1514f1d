//! For tests: the cases of the reference, which stand beside the project and not in it.

use std::path::PathBuf;

/// The folder with the cases; `None`, said on stderr, where it is absent.
pub fn folder() -> Option<PathBuf> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let found = here
        .ancestors()
        .map(|folder| folder.join("../shared/conformance"))
        .find(|folder| folder.join("README.md").is_file());
    if found.is_none() {
        eprintln!("skipped: no ../shared/conformance beside the project");
    }
    found
}

/// A file of the cases.
pub fn read(name: &str) -> Option<String> {
    folder().map(|folder| std::fs::read_to_string(folder.join(name)).expect("a file of the cases"))
}
