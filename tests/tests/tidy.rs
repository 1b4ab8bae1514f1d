//! The shape of the house, read off the sources: who may name whom, what every file must have.
#![allow(clippy::unwrap_used, missing_docs)] // a test fails by panicking

use std::path::{Path, PathBuf};

/// Longest file, in lines.
const MAX_LINES: usize = 500;
/// External crates and the only places that may name them.
const HOMES: &[(&str, &[&str])] = &[
    ("axum", &["server/src/http/", "benches/"]),
    (
        "tonic",
        &[
            "server/src/grpc/",
            "server/src/app/grpc_listener.rs",
            "agent/src/link/",
            "proto/",
            "tests/",
            "benches/",
        ],
    ),
    ("rusqlite", &["server/src/store/sqlite/", "server/tests/"]),
    (
        "tokio_postgres",
        &[
            "server/src/store/postgres/",
            "server/tests/",
            "tests/",
            "benches/",
        ],
    ),
    ("deadpool_postgres", &["server/src/store/postgres/"]),
    (
        "bollard",
        &["agent/src/container/", "agent/tests/", "tests/"],
    ),
    ("rquickjs", &["agent/src/js/"]),
    ("oxc", &["pipeline/"]),
    ("cel", &["pipeline/"]),
    ("expr", &["pipeline/"]),
    (
        "reqwest",
        &["outside/", "agent/src/outside/", "cli/src/", "tests/"],
    ),
    ("zstd", &["proto/"]),
    ("lettre", &["agent/src/outside/notify/"]),
    ("minijinja", &["agent/src/outside/notify/"]),
    ("serde_saphyr", &["pipeline/"]),
    ("pocketci_server", &["server/", "cli/", "fuzz/"]),
    ("pocketci_agent", &["agent/", "benches/", "cli/"]),
];
/// The server's layers: a file of one may name those after it, never those before. Neighbours of one row are apart.
const LAYERS: &[&[&str]] = &[
    &["app"],
    &["http", "grpc", "background"],
    &["intake"],
    &["runs"],
    &["deliveries"],
    &["store"],
    &["model"],
];
/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &[
    "utils", "util", "common", "helpers", "helper", "imp", "manager", "misc",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    walk(&path, found);
                }
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    let root = root();
    let mut found = Vec::new();
    walk(&root, &mut found);
    found
        .into_iter()
        .map(|path| {
            let name = path
                .strip_prefix(&root)
                .unwrap()
                .to_string_lossy()
                .into_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            (name, text)
        })
        .collect()
}

/// Code lines with their numbers: without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn names_crate(line: &str, name: &str) -> bool {
    let path = format!("{name}::");
    line.match_indices(&path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

fn check(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if !text.starts_with("//!") {
        faults.push(format!(
            "{name}:1: the first line must be `//!` and say the file's one idea"
        ));
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        faults.push(format!(
            "{name}:{lines}: more than {MAX_LINES} lines; split it by noun"
        ));
    }
    let stem = Path::new(name)
        .file_stem()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    if EMPTY_NAMES.contains(&stem.as_str()) {
        faults.push(format!(
            "{name}:1: the name {stem} says nothing; name the thing inside"
        ));
    }
    for (number, line) in code(text) {
        for (krate, homes) in HOMES {
            if names_crate(line, krate) && !homes.iter().any(|home| name.starts_with(home)) {
                faults.push(format!(
                    "{name}:{number}: {krate} is at home in {homes:?} only; go through that module"
                ));
            }
        }
        if let Some(fault) = layer_fault(name, line) {
            faults.push(format!("{name}:{number}: {fault}"));
        }
        let forbidden = [
            concat!("#[ig", "nore"),
            concat!("to", "do!("),
            concat!("unimple", "mented!("),
        ];
        for word in forbidden.iter().filter(|word| line.contains(**word)) {
            faults.push(format!(
                "{name}:{number}: {word} is a promise nobody keeps; do it or leave it out"
            ));
        }
    }
    faults
}

/// A server file that names a layer above its own, or beside it.
fn layer_fault(name: &str, line: &str) -> Option<String> {
    let own = name.strip_prefix("server/src/")?.split(['/', '.']).next()?;
    let row_of = |layer: &str| LAYERS.iter().position(|row| row.contains(&layer));
    let own_row = row_of(own)?;
    LAYERS.iter().flat_map(|row| row.iter()).find_map(|other| {
        let named = line.contains(&format!("crate::{other}::")) || line.contains(&format!("use crate::{other};"));
        let other_row = row_of(other)?;
        (named && *other != own && other_row <= own_row)
            .then(|| format!("{own} must not name {other}: dependencies go app → http|grpc|background → intake → runs → deliveries → store → model"))
    })
}

#[test]
fn the_house_is_tidy() {
    let sources = sources();
    assert!(sources.len() > 50, "the sources were not found");
    let faults: Vec<String> = sources
        .iter()
        .flat_map(|(name, text)| check(name, text))
        .collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_rule_catches_its_violation() {
    let caught = |name: &str, text: &str| check(name, &format!("//! x\n{text}\n")).join("\n");
    assert!(
        caught("server/src/store/mod.rs", "use crate::http::x;")
            .contains("store must not name http")
    );
    assert!(
        caught("server/src/http/a.rs", "use crate::grpc::x;").contains("http must not name grpc")
    );
    assert!(caught("server/src/runs/a.rs", "use crate::store::x;").is_empty());
    assert!(
        caught("server/src/runs/a.rs", concat!("use rus", "qlite::Row;"))
            .contains("rusqlite is at home")
    );
    assert!(
        caught("agent/src/js/a.rs", concat!("use pocketci_", "server::x;"))
            .contains("pocketci_server is at home")
    );
    assert!(caught("cli/src/utils.rs", "").contains("says nothing"));
    assert!(caught("cli/src/a.rs", concat!("#[ig", "nore]")).contains("promise"));
    assert!(caught("cli/src/a.rs", &"\n".repeat(600)).contains("split it"));
    assert!(
        check("cli/src/a.rs", "fn main() {}")
            .join("")
            .contains("first line")
    );
}

#[test]
fn no_registry_host_or_path_of_a_machine_is_named() {
    let words = [
        concat!("crates", ".io"),
        concat!("registry.npm", "js"),
        concat!("docker", ".io/"),
        concat!("/work", "/"),
        concat!("/ro", "ot/"),
    ];
    let mut faults = Vec::new();
    for (name, text) in sources() {
        for (number, line) in (1..).zip(text.lines()) {
            if words.iter().any(|word| line.contains(word)) {
                faults.push(format!("{name}:{number}: {line}"));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
