//! `((vars))`: used when a pipeline is set and, with other lookups, when its steps run.
//!
//! A text that is one var becomes the var's value, of whatever type; inside a longer text only texts and whole numbers
//! can stand. Keys of maps are interpolated too. What comes out is not looked at again.

mod interpolate;
mod lookup;
mod reference;

pub use interpolate::{Mode, interpolate, interpolate_tree, used};
pub(crate) use interpolate::{go_kind, is_plain};
pub use lookup::{Chain, Local, Lookup, NamedVars, Vars};
pub use reference::Reference;

/// What is wrong with a var; the words are Concourse's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VarError {
    /// Nobody knows these. Only of [`Mode::Strict`].
    #[error("undefined vars: {}", .0.join(", "))]
    Undefined(Vec<String>),
    /// The text between the parentheses names no var.
    #[error("invalid var '{name}': {why}")]
    Invalid {
        /// As written.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// There are named sources, but not this one.
    #[error("missing source '{source_name}' in var: {name}")]
    MissingSource {
        /// The var.
        name: String,
        /// Its source.
        source_name: String,
    },
    /// The var is known, this field of it is not.
    #[error("missing field '{field}' in var: {name}")]
    MissingField {
        /// The var.
        name: String,
        /// The field.
        field: String,
    },
    /// The var has no fields.
    #[error("cannot access field '{field}' of non-map value ('{kind}') from var: {name}")]
    NoMap {
        /// The var.
        name: String,
        /// The field.
        field: String,
        /// What the var is, in Go's words.
        kind: &'static str,
    },
    /// The value cannot stand inside of a text.
    #[error("cannot interpolate non-primitive value ({kind}) from var: {name}")]
    NotText {
        /// The var.
        name: String,
        /// What the var is, in Go's words.
        kind: &'static str,
    },
    /// They would fill the memory.
    #[error("the values of vars have more than {limit} MiB together; use large ones less often")]
    TooLarge {
        /// In MiB.
        limit: usize,
    },
    /// The place where the value is kept did not answer.
    #[error("var {name} cannot be looked up: {why}")]
    Lookup {
        /// The var.
        name: String,
        /// Without the value.
        why: String,
    },
}

#[cfg(test)]
mod tests;
