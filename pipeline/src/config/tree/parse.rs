//! From YAML text to a tree: events of the parser, aliases expanded within a budget, merge keys merged.

use super::scalar::resolve;
use super::{Entry, Kind, Node, Position};
use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, Tag};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// Largest document, in bytes.
pub const MAX_BYTES: usize = 4 << 20;
/// Most parts of a document after its aliases were expanded: a document of a few lines can name billions.
pub const MAX_NODES: usize = 250_000;
/// Most bytes of text after aliases were expanded.
const MAX_TEXT_BYTES: usize = 16 << 20;
/// Deepest nesting. Everything that walks a tree recurses, and JSON readers stop at 128.
pub const MAX_DEPTH: usize = 100;
/// Most faults in one answer.
const MAX_FAULTS: usize = 50;

/// What is wrong with the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextFault {
    /// Where.
    pub at: Position,
    /// What.
    pub message: String,
}

/// A parsed document.
#[derive(Debug)]
pub struct Document {
    /// Its root.
    pub root: Node,
    /// Where a second document begins, if there is one; it is not read.
    pub second: Option<Position>,
}

/// Reads the first document of a text.
///
/// # Errors
/// Every fault found: one of syntax ends the reading, duplicate keys and odd keys do not.
pub fn parse(text: &str) -> Result<Document, Vec<TextFault>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > MAX_BYTES {
        return Err(vec![TextFault {
            at: Position { line: 1, column: 1 },
            message: format!(
                "the document has {} bytes, more than the {MAX_BYTES} allowed",
                text.len()
            ),
        }]);
    }
    let mut options = granit_parser::options! {
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    options.set_emit_comments(false);
    let mut builder = Builder::default();
    let mut second = None;
    let mut documents = 0;
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = match next {
            Ok(next) => next,
            Err(error) => {
                if documents > 1 {
                    break;
                }
                builder.faults.push(TextFault {
                    at: position(error.marker()),
                    message: match error.kind() {
                        ErrorKind::RecursionLimitExceeded => too_deep(),
                        kind => kind.to_string(),
                    },
                });
                break;
            }
        };
        let at = position(&span.start);
        match event {
            Event::DocumentStart(..) => documents += 1,
            _ if documents > 1 => {
                second = Some(at);
                break;
            }
            event => {
                if let Err(message) = builder.take(event, at) {
                    builder.faults.push(TextFault { at, message });
                    break;
                }
            }
        }
    }
    builder.faults.truncate(MAX_FAULTS);
    if !builder.faults.is_empty() {
        return Err(builder.faults);
    }
    let root = builder.root.unwrap_or(Node {
        at: Position { line: 1, column: 1 },
        kind: Kind::Null,
    });
    Ok(Document { root, second })
}

fn too_deep() -> String {
    format!("nested deeper than {MAX_DEPTH} levels")
}

fn position(marker: &Marker) -> Position {
    Position {
        line: u32::try_from(marker.line()).unwrap_or(u32::MAX),
        column: u32::try_from(marker.col() + 1).unwrap_or(u32::MAX),
    }
}

/// A list or map that is not finished.
struct Open {
    at: Position,
    anchor: usize,
    body: Body,
}

enum Body {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        /// Keys seen: a map with thousands of keys must not be searched for each.
        known: HashSet<String>,
        /// Maps under an unquoted `<<`, in order.
        merged: Vec<Node>,
        key: Option<Key>,
    },
}

enum Key {
    Named(String, Position),
    Merge,
    /// A key with a fault: its value is read and dropped.
    Unusable,
}

#[derive(Default)]
struct Builder {
    stack: Vec<Open>,
    root: Option<Node>,
    /// Finished nodes with an anchor, and how deep they are.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    bytes: usize,
    faults: Vec<TextFault>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, at: Position) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1, text.len())?;
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let kind = scalar(text, style, tag.as_deref())?;
                let is_merge = plain && matches!(&kind, Kind::Text(text) if text == "<<");
                self.add(Node { at, kind }, anchor, is_merge)
            }
            Event::SequenceStart(_, anchor, _) => self.open(at, anchor, Body::List(Vec::new())),
            Event::MappingStart(_, anchor, _) => {
                let body = Body::Map {
                    entries: Vec::new(),
                    known: HashSet::new(),
                    merged: Vec::new(),
                    key: None,
                };
                self.open(at, anchor, body)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => {
                let Some((node, depth)) = self.anchors.get(&anchor) else {
                    return Err("an alias stands inside of what it names".to_owned());
                };
                if self.stack.len() + depth > MAX_DEPTH {
                    return Err(too_deep());
                }
                let (nodes, bytes) = weight(node);
                let node = node.clone();
                self.count(nodes, bytes)?;
                self.add(node, 0, false)
            }
            _ => Ok(()),
        }
    }

    fn count(&mut self, nodes: usize, bytes: usize) -> Result<(), String> {
        self.nodes += nodes;
        self.bytes += bytes;
        if self.nodes > MAX_NODES || self.bytes > MAX_TEXT_BYTES {
            return Err(format!(
                "with its aliases expanded the document has more than {MAX_NODES} parts or {MAX_TEXT_BYTES} bytes"
            ));
        }
        Ok(())
    }

    fn open(&mut self, at: Position, anchor: usize, body: Body) -> Result<(), String> {
        self.count(1, 0)?;
        if self.stack.len() >= MAX_DEPTH {
            return Err(too_deep());
        }
        self.stack.push(Open { at, anchor, body });
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let Some(Open { at, anchor, body }) = self.stack.pop() else {
            return Ok(());
        };
        let kind = match body {
            Body::List(items) => Kind::List(items),
            Body::Map {
                mut entries,
                mut known,
                merged,
                ..
            } => {
                for map in merged {
                    merge(&mut entries, &mut known, map);
                }
                Kind::Map(entries)
            }
        };
        self.add(Node { at, kind }, anchor, false)
    }

    /// A finished node: remembered under its anchor and put into what is open.
    fn add(&mut self, node: Node, anchor: usize, is_merge: bool) -> Result<(), String> {
        if anchor != 0 {
            // The copy counts: anchors within anchors would otherwise hold a hundred of them.
            let (nodes, bytes) = weight(&node);
            self.count(nodes, bytes)?;
            let depth = depth(&node);
            self.anchors.insert(anchor, (node.clone(), depth));
        }
        let Some(open) = self.stack.last_mut() else {
            self.root.get_or_insert(node);
            return Ok(());
        };
        match &mut open.body {
            Body::List(items) => items.push(node),
            Body::Map {
                entries,
                known,
                merged,
                key,
            } => match key.take() {
                None if is_merge => *key = Some(Key::Merge),
                None => match key_text(&node) {
                    Ok(text) if known.insert(text.clone()) => {
                        *key = Some(Key::Named(text, node.at));
                    }
                    Ok(text) => {
                        *key = Some(Key::Unusable);
                        self.faults.push(TextFault {
                            at: node.at,
                            message: format!("duplicate key {text:?}"),
                        });
                    }
                    Err(message) => {
                        *key = Some(Key::Unusable);
                        self.faults.push(TextFault {
                            at: node.at,
                            message,
                        });
                    }
                },
                Some(Key::Named(text, at)) => entries.push(Entry {
                    key: text,
                    at,
                    value: node,
                }),
                Some(Key::Merge) => merged.extend(mergeable(node)?),
                Some(Key::Unusable) => {}
            },
        }
        Ok(())
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>) -> Result<Kind, String> {
    let suffix = tag
        .filter(|tag| tag.handle() == "tag:yaml.org,2002:")
        .map(Tag::suffix);
    match suffix {
        Some("str" | "binary" | "timestamp") => Ok(Kind::Text(text.into_owned())),
        Some("bool" | "int" | "float" | "null") => resolve(&text),
        Some(_) | None if style == ScalarStyle::Plain => resolve(&text),
        Some(_) | None => Ok(Kind::Text(text.into_owned())),
    }
}

fn key_text(node: &Node) -> Result<String, String> {
    match &node.kind {
        Kind::Text(text) => Ok(text.clone()),
        Kind::Bool(value) => Ok(value.to_string()),
        Kind::Int(value) => Ok(value.to_string()),
        Kind::Large(value) => Ok(value.to_string()),
        Kind::Float(value) => Ok(super::go_float(*value)),
        Kind::Null | Kind::List(_) | Kind::Map(_) => {
            Err(format!("a key must be text, not {}", node.told()))
        }
    }
}

fn mergeable(node: Node) -> Result<Vec<Node>, String> {
    const EXPECTED: &str = "a merge key (<<) needs a map or a list of maps; write the key as \"<<\" to merge a ((var))";
    match node.kind {
        Kind::Map(_) => Ok(vec![node]),
        Kind::List(items) if items.iter().all(|item| matches!(item.kind, Kind::Map(_))) => {
            Ok(items)
        }
        _ => Err(EXPECTED.to_owned()),
    }
}

/// What is there already wins.
fn merge(entries: &mut Vec<Entry>, known: &mut HashSet<String>, map: Node) {
    if let Kind::Map(more) = map.kind {
        for entry in more {
            if known.insert(entry.key.clone()) {
                entries.push(entry);
            }
        }
    }
}

fn weight(node: &Node) -> (usize, usize) {
    match &node.kind {
        Kind::Text(text) => (1, text.len()),
        Kind::List(items) => items.iter().map(weight).fold((1, 0), plus),
        Kind::Map(entries) => entries
            .iter()
            .map(|entry| plus(weight(&entry.value), (1, entry.key.len())))
            .fold((1, 0), plus),
        _ => (1, 0),
    }
}

fn plus(one: (usize, usize), other: (usize, usize)) -> (usize, usize) {
    (one.0 + other.0, one.1 + other.1)
}

fn depth(node: &Node) -> usize {
    match &node.kind {
        Kind::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Kind::Map(entries) => {
            1 + entries
                .iter()
                .map(|entry| depth(&entry.value))
                .max()
                .unwrap_or(0)
        }
        _ => 0,
    }
}
