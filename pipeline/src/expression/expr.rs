//! The expr language, made forgiving: member accesses become optional ones before parsing, so what is missing is nil.

use super::WebhookVars;
use expr::{Context, Program};
use std::fmt::Write;

/// Longest body that an expression with loops may look at, in bytes.
const MAX_LOOP_BODY_BYTES: usize = 256 * 1024;
/// Functions that run a predicate over a list.
const LOOPS: &[&str] = &[
    "all",
    "any",
    "none",
    "one",
    "filter",
    "map",
    "find",
    "findIndex",
    "findLast",
    "findLastIndex",
    "count",
    "sum",
    "reduce",
    "sortBy",
    "groupBy",
];

pub(super) struct Expr {
    program: Program,
    loops: bool,
}

impl Expr {
    pub(super) fn compile(text: &str) -> Result<Self, String> {
        let forgiving = forgive(text)?;
        let program =
            expr::compile(&forgiving.text).map_err(|error| one_line(&error.to_string()))?;
        Ok(Self {
            program,
            loops: forgiving.loops,
        })
    }

    pub(super) fn evaluate(&self, vars: &WebhookVars) -> Result<serde_json::Value, String> {
        if self.loops && vars.body.len() > MAX_LOOP_BODY_BYTES {
            return Err(format!(
                "the body has {} bytes; an expr expression with loops looks at most at {MAX_LOOP_BODY_BYTES}",
                vars.body.len()
            ));
        }
        let mut context = Context::default();
        context.insert("provider", vars.provider.as_str());
        context.insert("eventType", vars.event_type.as_str());
        context.insert("method", vars.method.as_str());
        context.insert("body", vars.body.as_str());
        let value = |value: &dyn erased::Json| value.to_expr();
        context.insert("headers", value(&vars.headers)?);
        context.insert("query", value(&vars.query)?);
        context.insert("payload", value(&vars.payload())?);
        let result =
            expr::run(&self.program, &context).map_err(|error| one_line(&error.to_string()))?;
        expr::from_value(result).map_err(|error| one_line(&error.to_string()))
    }
}

/// Anything serializable as a value of expr.
mod erased {
    pub(super) trait Json {
        fn to_expr(&self) -> Result<expr::Value, String>;
    }

    impl<T: serde::Serialize> Json for T {
        fn to_expr(&self) -> Result<expr::Value, String> {
            expr::to_value(self).map_err(|error| error.to_string())
        }
    }
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

struct Forgiving {
    text: String,
    loops: bool,
}

/// Rewrites `.name` to `?.name`, `[index]` to `?.[index]`, header names to lower case; refuses ranges and nested
/// loops, whose work could not be bounded.
fn forgive(text: &str) -> Result<Forgiving, String> {
    let mut out = String::with_capacity(text.len() * 2);
    let mut rest = text;
    let mut previous = ' ';
    let mut word = String::new();
    let mut open_loops: Vec<bool> = Vec::new();
    let mut loops = false;
    while let Some(c) = rest.chars().next() {
        if matches!(c, '"' | '\'' | '`') {
            let literal = string_literal(rest, c);
            out.push_str(&literal_for(&word, previous, literal));
            rest = &rest[literal.len()..];
            previous = '"';
            word.clear();
            continue;
        }
        let next = rest[c.len_utf8()..].chars().next().unwrap_or(' ');
        if c == '.' && next == '.' {
            return Err("ranges are not allowed in webhook expressions".into());
        }
        if c == '(' {
            let is_loop = LOOPS.contains(&word.as_str());
            if is_loop && open_loops.contains(&true) {
                return Err("loops inside loops are not allowed in expr; write it in CEL".into());
            }
            loops |= is_loop;
            open_loops.push(is_loop);
        } else if c == ')' {
            open_loops.pop();
        }
        let after_value =
            previous.is_alphanumeric() || matches!(previous, '_' | ')' | ']' | '"' | '}' | '#');
        if after_value
            && c == '.'
            && (next.is_alphabetic() || next == '_')
            && !is_method(&rest[1..])
        {
            out.push_str("?.");
        } else if !after_value && previous != '?' && c == '.' && next.is_alphabetic() {
            // `.name` alone is the member of the element that a predicate looks at.
            out.push_str("#?.");
        } else if after_value && c == '[' {
            out.push_str("?.[");
        } else {
            out.push(c);
        }
        if c.is_alphanumeric() || c == '_' {
            word.push(c);
        } else if c != '[' {
            word.clear();
        }
        if !c.is_whitespace() {
            previous = c;
        }
        rest = &rest[c.len_utf8()..];
    }
    Ok(Forgiving { text: out, loops })
}

fn is_method(rest: &str) -> bool {
    rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_')
        .trim_start()
        .starts_with('(')
}

/// The literal at the start of `text`, with its quotes; to the end of the text if it is not closed.
fn string_literal(text: &str, quote: char) -> &str {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            _ if c == quote => return &text[..at + 1],
            _ => {}
        }
    }
    text
}

/// Header names are lower-case.
fn literal_for(word: &str, previous: char, literal: &str) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = if word == "headers" && previous == '[' {
        write!(out, "{}", literal.to_lowercase())
    } else {
        write!(out, "{literal}")
    };
    out
}
