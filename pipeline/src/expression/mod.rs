//! Expressions over a webhook: CEL, and the expr language of the seed for what CEL cannot parse.
//!
//! In both, a key that is missing is null instead of an error, and header names are found in any case. Everything is
//! bounded: the text, its nesting, and the work of its loops (see the constants).

mod cel;
mod expr;

use crate::deep_stack;
use crate::payload::payload_of;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// Longest expression, in bytes.
pub const MAX_TEXT_BYTES: usize = 4096;
/// Deepest nesting of brackets; parsers recurse.
pub const MAX_NESTING: usize = 48;
/// Expressions kept compiled; when full, all are forgotten.
const MAX_CACHED: usize = 256;

/// The expression cannot be used, or not with this webhook.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// Too long or too deep.
    #[error("the expression {0}")]
    TooLarge(String),
    /// Neither language understands it.
    #[error("the expression is neither CEL ({cel}) nor expr ({expr})")]
    Syntax {
        /// CEL's words.
        cel: String,
        /// expr's words.
        expr: String,
    },
    /// It failed on this webhook.
    #[error("the expression cannot be evaluated: {0}")]
    Evaluation(String),
    /// It is no condition.
    #[error("the expression must be true or false, but is {0}")]
    NotBoolean(String),
}

/// What an expression may look at (seed 000).
#[derive(Debug, Clone, Default)]
pub struct WebhookVars {
    /// `github`, `slack`, `generic`…
    pub provider: String,
    /// Provider-specific.
    pub event_type: String,
    /// HTTP method.
    pub method: String,
    /// Lower-case names.
    pub headers: BTreeMap<String, String>,
    /// Decoded.
    pub query: BTreeMap<String, String>,
    /// The body as text.
    pub body: String,
}

impl WebhookVars {
    /// See [`payload_of`].
    fn payload(&self) -> Value {
        let content_type = self.headers.get("content-type").map_or("", String::as_str);
        payload_of(content_type, &self.body)
    }
}

enum Compiled {
    Cel(cel::Cel),
    Expr(expr::Expr),
}

/// A compiled expression.
pub struct Expression {
    compiled: Compiled,
}

impl Expression {
    /// Compiles; CEL first.
    pub fn compile(text: &str) -> Result<Self, ExpressionError> {
        check_size(text)?;
        let cel = match guarded(|| cel::Cel::compile(text)) {
            Ok(compiled) => {
                return Ok(Self {
                    compiled: Compiled::Cel(compiled),
                });
            }
            Err(error) => error,
        };
        match guarded(|| expr::Expr::compile(text)) {
            Ok(compiled) => Ok(Self {
                compiled: Compiled::Expr(compiled),
            }),
            Err(expr) => Err(ExpressionError::Syntax { cel, expr }),
        }
    }

    /// Its value for this webhook.
    pub fn evaluate(&self, vars: &WebhookVars) -> Result<Value, ExpressionError> {
        guarded(|| match &self.compiled {
            Compiled::Cel(compiled) => compiled.evaluate(vars),
            Compiled::Expr(compiled) => compiled.evaluate(vars),
        })
        .map_err(ExpressionError::Evaluation)
    }

    /// Whether it holds for this webhook.
    pub fn matches(&self, vars: &WebhookVars) -> Result<bool, ExpressionError> {
        match self.evaluate(vars)? {
            Value::Bool(held) => Ok(held),
            other => Err(ExpressionError::NotBoolean(shown(&other))),
        }
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// Levels of nesting that an expression of the allowed size can have, each several calls deep in its parser.
const LEVELS: usize = MAX_NESTING * 16;

/// A parser or evaluator that panics or recurses on odd input must not take the agent with it: the work has a thread
/// with stack enough.
fn guarded<T: Send>(work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    deep_stack::run(LEVELS, work).unwrap_or_else(|error| Err(error.to_string()))
}

fn check_size(text: &str) -> Result<(), ExpressionError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(ExpressionError::TooLarge(format!(
            "has {} bytes; at most {MAX_TEXT_BYTES} are allowed",
            text.len()
        )));
    }
    let mut depth = 0usize;
    let mut run = 0usize;
    for c in text.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        // Prefix operators, ternaries and selections recurse too.
        run += usize::from(matches!(c, '!' | '-' | '?' | '.'));
        if depth > MAX_NESTING || run > MAX_NESTING * 8 {
            return Err(ExpressionError::TooLarge(format!(
                "is nested too deeply; at most {MAX_NESTING} brackets are allowed"
            )));
        }
    }
    Ok(())
}

/// Compiled expressions, shared; what cannot be compiled is remembered too.
#[derive(Default)]
pub struct ExpressionCache {
    known: Mutex<HashMap<String, Result<Arc<Expression>, ExpressionError>>>,
}

impl ExpressionCache {
    /// Compiles a text, or finds it.
    pub fn get(&self, text: &str) -> Result<Arc<Expression>, ExpressionError> {
        let found = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(text)
            .cloned();
        if let Some(found) = found {
            return found;
        }
        let compiled = Expression::compile(text).map(Arc::new);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_CACHED {
            known.clear();
        }
        if text.len() <= MAX_TEXT_BYTES {
            known.insert(text.to_owned(), compiled.clone());
        }
        compiled
    }
}

#[cfg(test)]
mod tests;
