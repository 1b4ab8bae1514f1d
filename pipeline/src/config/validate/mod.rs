//! What must hold between the parts of a pipeline, in Concourse's words and order.

mod cycles;
mod identifier;
mod index;
mod pocketci;
mod steps;
mod top;
mod var_sources;

pub use steps::task_faults;

use super::fault::{Fault, Warning, WarningKind};
use super::model::Config;
use super::tree::Position;
use index::Index;
use std::collections::HashMap;

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// In the order of Concourse's parts.
    pub faults: Vec<Fault>,
    /// Odd, but accepted.
    pub warnings: Vec<Warning>,
}

/// Validates a pipeline. `places` says where its things are in the file, by their paths; it may be empty.
pub fn validate(config: &Config, places: &HashMap<String, Position>) -> Found {
    let mut report = Report {
        config,
        places,
        index: Index::of(config),
        found: Found::default(),
        group: "groups",
    };
    top::groups(&mut report);
    top::resources(&mut report);
    top::types(&mut report);
    var_sources::check(&mut report);
    steps::jobs(&mut report);
    top::display(&mut report);
    cycles::check(&mut report);
    if report.index.is_exhausted() {
        let message = "the pipeline has too many jobs and globs to match them all".to_owned();
        report.fault("jobs", message);
    }
    report.found
}

/// What is collected on the way.
struct Report<'a> {
    config: &'a Config,
    places: &'a HashMap<String, Position>,
    index: Index<'a>,
    found: Found,
    group: &'static str,
}

impl Report<'_> {
    /// A fault; the message has the path in it where Concourse says it.
    fn fault(&mut self, path: &str, message: String) {
        let at = self.place(path);
        self.found.faults.push(Fault {
            group: Some(self.group),
            path: path.to_owned(),
            at,
            message,
        });
    }

    fn fault_at(&mut self, path: &str, message: impl AsRef<str>) {
        self.fault(path, format!("{path}: {}", message.as_ref()));
    }

    fn warn(&mut self, kind: WarningKind, path: &str, message: impl AsRef<str>) {
        self.found.warnings.push(Warning {
            kind,
            message: format!("{path}: {}", message.as_ref()),
        });
    }

    /// Checks a name.
    fn identifier(&mut self, name: &str, path: &str, is_free: bool) {
        match identifier::check(name, path, is_free) {
            identifier::Told::Fine => {}
            identifier::Told::Odd(warning) => self.found.warnings.push(warning),
            identifier::Told::Empty(message) => self.fault(path, message),
        }
    }

    /// Where a path is, or the nearest thing around it.
    fn place(&self, path: &str) -> Option<Position> {
        nearest(self.places, path).map(|(_, at)| at)
    }
}

/// The thing at a path, or the nearest one around it: its path and its place.
pub fn nearest<'p>(
    places: &HashMap<String, Position>,
    path: &'p str,
) -> Option<(&'p str, Position)> {
    let mut path = path;
    loop {
        if let Some(at) = places.get(path) {
            return Some((path, *at));
        }
        path = &path[..path.rfind(['.', '[', '('])?];
    }
}

/// `section.name`, or `section[i]` without a name.
fn identifier_of(section: &str, index: usize, name: &str) -> String {
    if name.is_empty() {
        format!("{section}[{index}]")
    } else {
        format!("{section}.{name}")
    }
}

/// Names of a section that must be unique.
#[derive(Default)]
struct Names {
    seen: HashMap<String, String>,
}

impl Names {
    /// A fault if the name was seen; `place` is `section[i]`.
    fn check(&mut self, report: &mut Report<'_>, name: &str, place: String) {
        if let Some(other) = self.seen.get(name) {
            let message = format!("{other} and {place} have the same name ('{name}')");
            report.fault(&place, message);
        } else if !name.is_empty() {
            self.seen.insert(name.to_owned(), place);
        }
    }
}
