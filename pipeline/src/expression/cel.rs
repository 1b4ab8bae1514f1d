//! CEL, made forgiving: every selection and index is rewritten into a call that answers null for what is missing.

use super::WebhookVars;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue};
use cel::objects::{Key, Map};
use cel::{Context, Program, Value};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Elements that all loops of one evaluation may visit together; each may cost as much as the body is long.
const MAX_ITERATIONS: usize = 2_000;
/// Deepest nesting of loops.
const MAX_LOOP_DEPTH: usize = 2;
/// Longest body that an expression with loops may look at, in bytes.
const MAX_LOOP_BODY_BYTES: usize = 256 * 1024;

/// Functions of CEL's standard library. Another name means that the text is no CEL: compiling it tells that at once,
/// where evaluating it would only fail later.
const FUNCTIONS: &[&str] = &[
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "bool",
    "duration",
    "timestamp",
    "type",
    "dyn",
    "min",
    "max",
    "getFullYear",
    "getMonth",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
];

const GET: &str = "pocketci_get";
const HAS: &str = "pocketci_has";
const BOUND: &str = "pocketci_bound";
const INDEX: &str = "_[_]";

pub(super) struct Cel {
    expression: IdedExpr,
    loops: bool,
}

impl Cel {
    pub(super) fn compile(text: &str) -> Result<Self, String> {
        let program = Program::compile(text).map_err(|error| first_line(&error.to_string()))?;
        let mut rewriter = Rewriter::default();
        let expression = rewriter.rewrite(program.expression().clone(), 0)?;
        Ok(Self {
            expression,
            loops: rewriter.loops,
        })
    }

    pub(super) fn evaluate(&self, vars: &WebhookVars) -> Result<serde_json::Value, String> {
        if self.loops && vars.body.len() > MAX_LOOP_BODY_BYTES {
            return Err(format!(
                "the body has {} bytes; an expression with loops looks at most at {MAX_LOOP_BODY_BYTES}",
                vars.body.len()
            ));
        }
        let mut context = Context::default();
        for (name, value) in [
            ("provider", string(&vars.provider)),
            ("eventType", string(&vars.event_type)),
            ("method", string(&vars.method)),
            ("headers", strings(&vars.headers)),
            ("query", strings(&vars.query)),
            ("body", string(&vars.body)),
            ("payload", from_json(vars.payload())),
            // The word for null in the seed's documents.
            ("nil", Value::Null),
        ] {
            context.add_variable_from_value(name, value);
        }
        let visited = Arc::new(AtomicUsize::new(0));
        context
            .add_function(GET, get)
            .and_then(|()| context.add_function(HAS, has))
            .and_then(|()| context.add_function(BOUND, move |list: Value| bound(list, &visited)))
            .map_err(|error| error.to_string())?;
        let value = context
            .resolve(&self.expression)
            .map_err(|error| first_line(&error.to_string()))?;
        value.json().map_err(|error| error.to_string())
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or("invalid").trim().to_owned()
}

fn string(text: &str) -> Value {
    Value::String(Arc::new(text.to_owned()))
}

fn strings(map: &std::collections::BTreeMap<String, String>) -> Value {
    let entries: HashMap<Key, Value> = map
        .iter()
        .map(|(name, value)| (Key::String(Arc::new(name.clone())), string(value)))
        .collect();
    Value::Map(Map {
        map: Arc::new(entries),
    })
}

/// Whole numbers become ints, so that `payload.n == 1` holds.
fn from_json(value: serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => Value::Int(int),
            (None, Some(uint)) => Value::UInt(uint),
            (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::String(Arc::new(text)),
        serde_json::Value::Array(items) => {
            Value::List(Arc::new(items.into_iter().map(from_json).collect()))
        }
        serde_json::Value::Object(entries) => Value::Map(Map {
            map: Arc::new(
                entries
                    .into_iter()
                    .map(|(name, value)| (Key::String(Arc::new(name)), from_json(value)))
                    .collect(),
            ),
        }),
    }
}

fn find(target: &Value, key: &Value) -> Option<Value> {
    match (target, key) {
        (Value::Map(map), Value::String(name)) => map.map.get(&Key::String(name.clone())).cloned(),
        (Value::Map(map), Value::Int(number)) => map.map.get(&Key::Int(*number)).cloned(),
        (Value::List(list), Value::Int(at)) => usize::try_from(*at)
            .ok()
            .and_then(|at| list.get(at))
            .cloned(),
        _ => None,
    }
}

fn get(target: Value, key: Value) -> Value {
    find(&target, &key).unwrap_or(Value::Null)
}

fn has(target: Value, key: Value) -> bool {
    find(&target, &key).is_some()
}

/// Counts what a loop is about to visit.
fn bound(list: Value, visited: &AtomicUsize) -> Result<Value, cel::ExecutionError> {
    let length = match &list {
        Value::List(items) => items.len(),
        Value::Map(map) => map.map.len(),
        // A missing list has nothing to visit.
        Value::Null => return Ok(Value::List(Arc::new(Vec::new()))),
        _ => 0,
    };
    let total = visited
        .fetch_add(length, Ordering::Relaxed)
        .saturating_add(length);
    if total > MAX_ITERATIONS {
        return Err(cel::ExecutionError::function_error(
            "loop",
            format!("more than {MAX_ITERATIONS} elements are visited"),
        ));
    }
    Ok(list)
}

#[derive(Default)]
struct Rewriter {
    loops: bool,
}

impl Rewriter {
    fn rewrite(&mut self, node: IdedExpr, depth: usize) -> Result<IdedExpr, String> {
        let id = node.id;
        let expr = match node.expr {
            Expr::Select(select) => {
                let operand = self.rewrite(*select.operand, depth)?;
                let field = lower_for_headers(&operand, select.field);
                let name = if select.test { HAS } else { GET };
                call(name, vec![operand, literal(id, field)])
            }
            Expr::Call(found) if found.func_name == INDEX && found.args.len() == 2 => {
                let mut args = self.rewrite_all(found.args, depth)?;
                let target_is_headers = is_headers(&args[0]);
                if let (true, Expr::Literal(LiteralValue::String(text))) =
                    (target_is_headers, &args[1].expr)
                {
                    let lower = text.inner().to_lowercase();
                    args[1] = literal(args[1].id, lower);
                }
                call(GET, args)
            }
            Expr::Call(found) if is_unknown(&found.func_name) => {
                return Err(format!("unknown function {}", found.func_name));
            }
            Expr::Call(found) => Expr::Call(CallExpr {
                func_name: found.func_name,
                target: match found.target {
                    Some(target) => Some(Box::new(self.rewrite(*target, depth)?)),
                    None => None,
                },
                args: self.rewrite_all(found.args, depth)?,
            }),
            Expr::Comprehension(found) => {
                Expr::Comprehension(Box::new(self.comprehension(*found, depth)?))
            }
            Expr::List(mut list) => {
                list.elements = self.rewrite_all(list.elements, depth)?;
                Expr::List(list)
            }
            Expr::Map(mut map) => {
                for entry in &mut map.entries {
                    if let EntryExpr::MapEntry(pair) = &mut entry.expr {
                        pair.key = self.rewrite(std::mem::take(&mut pair.key), depth)?;
                        pair.value = self.rewrite(std::mem::take(&mut pair.value), depth)?;
                    }
                }
                Expr::Map(map)
            }
            other @ (Expr::Ident(_) | Expr::Literal(_) | Expr::Struct(_) | Expr::Unspecified) => {
                other
            }
        };
        Ok(IdedExpr { id, expr })
    }

    fn rewrite_all(&mut self, nodes: Vec<IdedExpr>, depth: usize) -> Result<Vec<IdedExpr>, String> {
        nodes
            .into_iter()
            .map(|node| self.rewrite(node, depth))
            .collect()
    }

    fn comprehension(
        &mut self,
        mut found: ComprehensionExpr,
        depth: usize,
    ) -> Result<ComprehensionExpr, String> {
        if depth >= MAX_LOOP_DEPTH {
            return Err(format!("loops are nested more than {MAX_LOOP_DEPTH} deep"));
        }
        self.loops = true;
        let range = self.rewrite(found.iter_range, depth)?;
        let id = range.id;
        found.iter_range = IdedExpr {
            id,
            expr: call(BOUND, vec![range]),
        };
        found.accu_init = self.rewrite(found.accu_init, depth + 1)?;
        found.loop_cond = self.rewrite(found.loop_cond, depth + 1)?;
        found.loop_step = self.rewrite(found.loop_step, depth + 1)?;
        found.result = self.rewrite(found.result, depth + 1)?;
        Ok(found)
    }
}

fn call(name: &str, args: Vec<IdedExpr>) -> Expr {
    Expr::Call(CallExpr {
        func_name: name.to_owned(),
        target: None,
        args,
    })
}

fn literal(id: u64, text: String) -> IdedExpr {
    IdedExpr {
        id,
        expr: Expr::Literal(LiteralValue::String(text.into())),
    }
}

/// Operators are named with signs (`_&&_`, `@in`).
fn is_unknown(function: &str) -> bool {
    function.chars().all(char::is_alphanumeric) && !FUNCTIONS.contains(&function)
}

fn is_headers(node: &IdedExpr) -> bool {
    matches!(&node.expr, Expr::Ident(name) if name == "headers")
}

fn lower_for_headers(operand: &IdedExpr, field: String) -> String {
    if is_headers(operand) {
        field.to_lowercase()
    } else {
        field
    }
}
