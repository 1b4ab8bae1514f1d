//! The manual tells the truth.

use super::*;
use std::collections::BTreeSet;

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/yaml.md");
    std::fs::read_to_string(path).expect("the manual")
}

#[test]
fn every_pipeline_in_the_manual_is_valid() {
    let page = page();
    let blocks: Vec<&str> = page
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(blocks.len() >= 3, "the blocks were not found");
    for block in blocks {
        let loaded = load("p.yml", block, &Vars::new());
        let loaded =
            loaded.unwrap_or_else(|faults| panic!("{}\n{block}", report("p.yml", &faults)));
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    }
}

/// The keys that the decoder asks for, from its own sources.
fn asked_for() -> BTreeSet<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/decode");
    let mut keys = BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("the sources") {
        let text = std::fs::read_to_string(entry.expect("a file").path()).expect("a source");
        for before in [
            "(decoder, \"",
            ".take(\"",
            ".some(\"",
            "&mut fields, \"",
            "fields, \"",
        ] {
            for rest in text.split(before).skip(1) {
                keys.extend(rest.split('"').next().map(str::to_owned));
            }
        }
    }
    keys
}

#[test]
fn the_manual_names_every_key() {
    let page = page();
    let named: BTreeSet<&str> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .flat_map(|code| {
            // Whole too: a key may have a full stop in it.
            let words = code.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            words.chain([code])
        })
        .collect();
    let keys = asked_for();
    assert!(keys.len() > 90, "{keys:?}");
    let missing: Vec<&String> = keys
        .iter()
        .filter(|key| !named.contains(key.as_str()))
        .collect();
    assert!(missing.is_empty(), "not in docs/yaml.md: {missing:?}");
}

#[test]
fn the_limits_in_the_manual_are_those_of_the_code() {
    let page = page();
    assert_eq!(tree::MAX_BYTES, 4 << 20);
    assert_eq!(tree::MAX_NODES, 250_000);
    assert!(page.contains("4 MiB of text, 250 000 parts"));
    assert!(page.contains(&format!("{} levels of nesting", tree::MAX_DEPTH)));
    assert!(page.contains(&format!(
        "steps in steps {} levels deep",
        crate::config::MAX_STEP_DEPTH
    )));
}
