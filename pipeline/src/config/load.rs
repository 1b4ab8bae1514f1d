//! From text to a pipeline, or to everything that is wrong with it.

use super::fault::{Fault, Warning, WarningKind};
use super::model::{Config, TaskConfig};
use super::tree::{self, Kind, Node, Position};
use super::vars::{Lookup, Vars, interpolate_tree};
use super::{decode, validate};
use std::collections::{HashMap, HashSet};

/// A pipeline that may be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The pipeline.
    pub config: Config,
    /// Odd, but accepted.
    pub warnings: Vec<Warning>,
}

/// How strict one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strictness {
    /// As Concourse's server: unknown keys at the top are ignored, warnings are no faults.
    #[default]
    Server,
    /// As `--strict`: both are faults, notes excepted.
    Strict,
}

/// Reads, interpolates, decodes and validates a pipeline. Vars that `vars` does not know stay as text.
///
/// # Errors
/// All faults that were found; at least one.
pub fn load(file_name: &str, text: &str, vars: &Vars) -> Result<Loaded, Vec<Fault>> {
    load_as(file_name, text, vars, Strictness::Server)
}

/// [`load`], as strictly as asked for.
///
/// # Errors
/// As [`load`].
pub fn load_as(
    file_name: &str,
    text: &str,
    vars: &Vars,
    strictness: Strictness,
) -> Result<Loaded, Vec<Fault>> {
    let document = tree_of(text)?;
    let root = interpolated(document.root, vars)?;
    is_a_map(&root)?;
    let decoded = decode::pipeline(&root, strictness == Strictness::Strict);
    let found = validate::validate(&decoded.config, &decoded.places);
    let mut warnings = found.warnings;
    warnings.extend(decoded.warnings);
    if let Some(at) = document.second {
        warnings.push(Warning {
            kind: WarningKind::Note,
            message: format!(
                "{file_name}:{}: the file has a second document, which is ignored",
                at.line
            ),
        });
    }
    let mut faults = decoded.faults;
    let honest = honest(found.faults, &faults, &decoded.places);
    faults.extend(in_groups(honest, decoded.unknown));
    if strictness == Strictness::Strict {
        let refused = warnings.iter().filter(|w| w.kind != WarningKind::Note);
        faults.extend(refused.map(|warning| Fault {
            group: Some("configuration (strict)"),
            path: String::new(),
            at: None,
            message: warning.to_string(),
        }));
    }
    cut(&mut faults);
    if faults.is_empty() {
        Ok(Loaded {
            config: decoded.config,
            warnings,
        })
    } else {
        Err(faults)
    }
}

/// Reads a pipeline without vars and without looking at whether its parts fit together.
///
/// # Errors
/// All faults of text, types and keys.
pub fn decoded(text: &str) -> Result<Config, Vec<Fault>> {
    let root = tree_of(text)?.root;
    is_a_map(&root)?;
    let decoded = decode::pipeline(&root, false);
    let mut faults = decoded.faults;
    faults.extend(decoded.unknown);
    if faults.is_empty() {
        Ok(decoded.config)
    } else {
        Err(faults)
    }
}

/// Whether a text without a name is a YAML pipeline: a map with jobs. No program is one.
pub fn looks_like_a_pipeline(text: &str) -> bool {
    tree::parse(text).is_ok_and(|document| document.root.get("jobs").is_some())
}

/// Reads a task's configuration from a file of its own. Vars that `vars` does not know stay as text; whether the result
/// is complete is for [`task_faults`](super::task_faults) to say, since steps add to it.
///
/// # Errors
/// All faults of text, types and keys.
pub fn load_task(text: &str, vars: &dyn Lookup) -> Result<TaskConfig, Vec<Fault>> {
    let document = tree_of(text)?;
    let root = interpolated(document.root, vars)?;
    decode::task_config(&root)
}

fn tree_of(text: &str) -> Result<tree::Document, Vec<Fault>> {
    tree::parse(text).map_err(|faults| {
        faults
            .into_iter()
            .map(|fault| text_fault(fault.at, fault.message))
            .collect()
    })
}

fn is_a_map(root: &Node) -> Result<(), Vec<Fault>> {
    match root.kind {
        Kind::Map(_) | Kind::Null => Ok(()),
        _ => Err(vec![text_fault(
            root.at,
            format!("a pipeline must be a map, not {}", root.told()),
        )]),
    }
}

fn interpolated(root: Node, vars: &dyn Lookup) -> Result<Node, Vec<Fault>> {
    interpolate_tree(root, vars).map_err(|errors| {
        errors
            .into_iter()
            .map(|(at, error)| text_fault(at, error.to_string()))
            .collect()
    })
}

fn text_fault(at: Position, message: String) -> Fault {
    Fault {
        group: None,
        path: String::new(),
        at: Some(at),
        message,
    }
}

/// Faults that do not merely follow from a part that could not be read: with such a part, nobody knows what the
/// pipeline uses, and the thing it is in is known only in part.
fn honest(found: Vec<Fault>, unread: &[Fault], places: &HashMap<String, Position>) -> Vec<Fault> {
    if unread.is_empty() {
        return found;
    }
    const OF_THE_WHOLE: [&str; 5] = [
        "is not used",
        "does not interact",
        "unknown ",
        "no jobs match",
        "belongs to no group",
    ];
    let thing = |fault: &'_ Fault| {
        validate::nearest(places, &fault.path).map_or_else(String::new, |(path, _)| path.to_owned())
    };
    let damaged: HashSet<String> = unread.iter().map(thing).collect();
    found
        .into_iter()
        .filter(|fault| {
            let follows = OF_THE_WHOLE.iter().any(|part| fault.message.contains(part))
                || fault.path == "jobs"
                || damaged.contains(&thing(fault));
            !follows
        })
        .collect()
}

/// Most faults in one answer.
const MAX_FAULTS: usize = 500;

fn cut(faults: &mut Vec<Fault>) {
    if faults.len() > MAX_FAULTS {
        let more = faults.len() - MAX_FAULTS;
        faults.truncate(MAX_FAULTS);
        faults.push(text_fault(
            Position { line: 1, column: 1 },
            format!("{more} more faults are not shown"),
        ));
    }
}

/// The unknown keys of steps stand with the other faults of jobs.
fn in_groups(found: Vec<Fault>, unknown: Vec<Fault>) -> Vec<Fault> {
    let at = found
        .iter()
        .position(|fault| fault.group == Some("jobs"))
        .or_else(|| {
            found
                .iter()
                .position(|fault| fault.group == Some("display config"))
        })
        .unwrap_or(found.len());
    let mut all = found;
    let after = all.split_off(at);
    all.extend(unknown);
    all.extend(after);
    all
}
