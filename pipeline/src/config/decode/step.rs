//! A step: which kind it is, its modifiers, and what is left over.

use super::fields::{Fields, Manner, list};
use super::scalars::whole;
use super::{Decoder, job, steps};
use crate::config::fault::Fault;
use crate::config::model::{AcrossVar, CORE_KEYS, Core, Hooks, MaxInFlight, Modifiers, Step};
use crate::config::tree::{Kind, Node};

/// Keys that, alone, make a step of modifiers only.
const MODIFIERS: [&str; 8] = [
    "ensure",
    "on_error",
    "on_abort",
    "on_failure",
    "on_success",
    "across",
    "attempts",
    "timeout",
];

/// Deepest nesting of steps in steps, hooks included. Whatever walks a plan recurses.
pub const MAX_STEP_DEPTH: usize = 32;

/// Reads a list of steps; `path` is that of the list.
pub fn steps(decoder: &mut Decoder, node: &Node, path: &str) -> Vec<Step> {
    list(decoder, node, path)
        .iter()
        .enumerate()
        .filter_map(|(i, item)| step(decoder, item, &format!("{path}[{i}]")))
        .collect()
}

/// Reads a step; `None`, with a fault, if it is of no kind.
pub fn step(decoder: &mut Decoder, node: &Node, path: &str) -> Option<Step> {
    if decoder.depth == MAX_STEP_DEPTH {
        let message = format!("steps are nested deeper than {MAX_STEP_DEPTH} levels");
        decoder.fault(path, node.at, message);
        return None;
    }
    decoder.depth += 1;
    let step = step_at_depth(decoder, node, path);
    decoder.depth -= 1;
    step
}

fn step_at_depth(decoder: &mut Decoder, node: &Node, path: &str) -> Option<Step> {
    decoder.places.insert(path.to_owned(), node.at);
    let mut fields = Fields::open(decoder, node, path, Manner::Strict)?;
    let Some(key) = CORE_KEYS.into_iter().find(|key| fields.has(key)) else {
        no_kind(decoder, &fields);
        return None;
    };
    let modifiers = modifiers(decoder, &mut fields, key);
    // Concourse's paths have the wrapper in them.
    let inner = if fields.has("across") {
        format!("{path}.across")
    } else {
        path.to_owned()
    };
    let core = steps::core(decoder, &mut fields, key, &inner);
    let unknown: Vec<&str> = fields.left().map(|entry| entry.key.as_str()).collect();
    if let Some(first) = fields.left().next() {
        let listed: Vec<String> = unknown.iter().map(|key| format!("{key:?}")).collect();
        decoder.unknown.push(Fault {
            group: Some("jobs"),
            path: path.to_owned(),
            at: Some(first.at),
            message: format!("{path}: unknown fields [{}]", listed.join(" ")),
        });
    }
    core.map(|core| Step { core, modifiers })
}

fn no_kind(decoder: &mut Decoder, fields: &Fields<'_>) {
    let message = if MODIFIERS.iter().any(|key| fields.has(key)) {
        "no core step type declared (e.g. get, put, task, etc.)".to_owned()
    } else {
        let keys: Vec<String> = fields
            .left()
            .map(|entry| entry.key.to_lowercase())
            .collect();
        let meant = CORE_KEYS
            .into_iter()
            .find(|key| keys.iter().any(|k| k == key));
        match meant {
            Some(key) => format!("no step configured (did you mean {key:?}?)"),
            None if fields.has("aggregate") => {
                "no step configured (aggregate is gone: use in_parallel)".to_owned()
            }
            None => "no step configured".to_owned(),
        }
    };
    decoder.fault(&fields.path, fields.at, message);
}

fn modifiers(decoder: &mut Decoder, fields: &mut Fields<'_>, core: &str) -> Modifiers {
    let path = fields.path.clone();
    let across = fields
        .take("across")
        .map(|node| across(decoder, node, &path));
    let fail_fast = across.is_some() && fields.flag(decoder, "fail_fast");
    Modifiers {
        across: across.unwrap_or_default(),
        fail_fast,
        attempts: fields.take("attempts").map(|node| match node.kind {
            Kind::Null => 0,
            // A count that is no number is a fault already; 1 adds no second one.
            _ => whole(decoder, node, &format!("{path}.attempts")).unwrap_or(1),
        }),
        timeout: if Core::has_own_timeout(core) {
            None
        } else {
            fields.optional_text(decoder, "timeout")
        },
        hooks: hooks(decoder, fields),
    }
}

fn hooks(decoder: &mut Decoder, fields: &mut Fields<'_>) -> Hooks {
    let path = fields.path.clone();
    let mut read = |key: &str| {
        let node = fields.take(key)?;
        job::hook(decoder, node, &format!("{path}.{key}"))
    };
    Hooks {
        on_success: read("on_success"),
        on_failure: read("on_failure"),
        on_error: read("on_error"),
        on_abort: read("on_abort"),
        ensure: read("ensure"),
    }
}

fn across(decoder: &mut Decoder, node: &Node, path: &str) -> Vec<AcrossVar> {
    let path = format!("{path}.across");
    let items = list(decoder, node, &path);
    if items.is_empty() && matches!(node.kind, Kind::Null | Kind::List(_)) {
        decoder.unknown.push(Fault {
            group: Some("jobs"),
            path: path.clone(),
            at: Some(node.at),
            message: format!("{path}: no vars specified"),
        });
    }
    let mut vars = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let path = format!("{path}[{i}]");
        decoder.places.insert(path.clone(), item.at);
        if let Some(mut fields) = Fields::open(decoder, item, path, Manner::Strict) {
            vars.push(AcrossVar {
                var: fields.text(decoder, "var"),
                values: fields
                    .take("values")
                    .map(Node::to_value)
                    .unwrap_or_default(),
                max_in_flight: max_in_flight(decoder, &mut fields),
            });
            fields.refuse_unknown(decoder);
        }
    }
    vars
}

fn max_in_flight(decoder: &mut Decoder, fields: &mut Fields<'_>) -> Option<MaxInFlight> {
    let node = fields.some("max_in_flight")?;
    let path = fields.path_of("max_in_flight");
    match &node.kind {
        Kind::Text(word) if word == "all" => Some(MaxInFlight::All),
        Kind::Int(_) | Kind::Float(_) => whole(decoder, node, &path).map(MaxInFlight::Limit),
        _ => {
            decoder.expected(&path, node, "a whole number or \"all\"");
            None
        }
    }
}
