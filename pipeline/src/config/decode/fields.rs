//! The keys of one map: each is taken once, what is left is unknown.

use super::Decoder;
use crate::config::tree::{Entry, Kind, Node, Position};

/// How strictly values are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Numbers and booleans become text, keys are found in any case.
    Loose,
    /// As written.
    Strict,
}

/// A map that is being read.
pub struct Fields<'n> {
    entries: &'n [Entry],
    taken: Vec<bool>,
    /// Its path in the configuration.
    pub path: String,
    /// Where it is.
    pub at: Position,
    pub manner: Manner,
}

impl<'n> Fields<'n> {
    /// Opens a map; null is an empty one. `None`, with a fault, for anything else.
    pub fn open(
        decoder: &mut Decoder,
        node: &'n Node,
        path: impl Into<String>,
        manner: Manner,
    ) -> Option<Self> {
        let path = path.into();
        let entries: &[Entry] = match &node.kind {
            Kind::Map(entries) => entries,
            Kind::Null => &[],
            _ => {
                decoder.expected(&path, node, "a map");
                return None;
            }
        };
        Some(Self {
            entries,
            taken: vec![false; entries.len()],
            path,
            at: node.at,
            manner,
        })
    }

    /// Whether there is such a key, taken or not.
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// Takes a value, null included.
    pub fn take(&mut self, key: &str) -> Option<&'n Node> {
        let exact = self.entries.iter().position(|entry| entry.key == key);
        let found = match self.manner {
            Manner::Strict => exact,
            Manner::Loose => exact.or_else(|| {
                self.entries
                    .iter()
                    .position(|entry| entry.key.eq_ignore_ascii_case(key))
            }),
        }?;
        self.taken[found] = true;
        Some(&self.entries[found].value)
    }

    /// Takes a value that is not null.
    pub fn some(&mut self, key: &str) -> Option<&'n Node> {
        self.take(key)
            .filter(|node| !matches!(node.kind, Kind::Null))
    }

    /// The path of a key.
    pub fn path_of(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    /// What nobody took.
    pub fn left(&self) -> impl Iterator<Item = &'n Entry> {
        self.entries
            .iter()
            .zip(&self.taken)
            .filter(|(_, taken)| !**taken)
            .map(|(entry, _)| entry)
    }

    /// A fault for each key nobody took.
    pub fn refuse_unknown(&self, decoder: &mut Decoder) {
        for entry in self.left() {
            decoder.fault(
                &self.path,
                entry.at,
                format!("unknown field {:?}", entry.key),
            );
        }
    }
}

/// Reads a list; null is an empty one.
pub fn list<'n>(decoder: &mut Decoder, node: &'n Node, path: &str) -> &'n [Node] {
    match &node.kind {
        Kind::List(items) => items,
        Kind::Null => &[],
        _ => {
            decoder.expected(path, node, "a list");
            &[]
        }
    }
}
