//! Names: `^[lower-case or caseless letter, digit][those, - _ .]*$` and not only digits, else a warning.

use crate::config::fault::{Warning, WarningKind};

/// What is to be said about a name.
pub enum Told {
    /// Nothing.
    Fine,
    /// A warning.
    Odd(Warning),
    /// An error.
    Empty(String),
}

/// Looks at a name; `path` is what it names. `is_free`: it may be anything, since `((.:vars))` are put into it later.
pub fn check(name: &str, path: &str, is_free: bool) -> Told {
    if name.is_empty() {
        return Told::Empty(format!("{path}: identifier cannot be an empty string"));
    }
    if is_free {
        return Told::Fine;
    }
    let why = if name.chars().all(|c| c.is_ascii_digit()) {
        "cannot be just numbers".to_owned()
    } else if name.chars().next().is_some_and(|c| !is_first(c)) {
        "must start with a lowercase letter or a number".to_owned()
    } else if let Some(c) = name.chars().find(|c| !is_first(*c) && !"-_.".contains(*c)) {
        format!("illegal character '{c}'")
    } else {
        return Told::Fine;
    };
    Told::Odd(Warning {
        kind: WarningKind::InvalidIdentifier,
        message: format!("{path}: '{name}' is not a valid identifier: {why}"),
    })
}

fn is_first(c: char) -> bool {
    c.is_ascii_digit() || (c.is_alphabetic() && !c.is_uppercase())
}
