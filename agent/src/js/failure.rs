//! How an exception is told: name, message, the author's lines, causes, a code frame.

use super::inspect::inspect;
use super::position::map_stack;
use super::value::{caught, text};
use super::{JobEnd, Program};
use rquickjs::{Coerced, Ctx, Object, Result, Value};

/// Causes of causes are told this deep.
const MAX_CAUSES: usize = 4;
/// A longer message is cut: it goes to the run's record, not to its log.
const MAX_MESSAGE_CHARS: usize = 16_000;

/// What became of the job when its program threw `thrown`.
pub(super) fn failed<'js>(
    ctx: &Ctx<'js>,
    program: &Program,
    memory_bytes: usize,
    thrown: &Value<'js>,
) -> JobEnd {
    if is_out_of_memory(thrown) {
        return memory_limit(memory_bytes);
    }
    let mut message = describe(ctx, program, thrown);
    if thrown.is_null() {
        // What QuickJS throws when not even an error fits; it cannot be told from the author's own `throw null`.
        message.push_str(&format!(
            " (the engine throws null when memory runs out entirely: the limit is {} MiB)",
            memory_bytes >> 20
        ));
    }
    JobEnd::Failed { message }
}

/// The end of a job that needed more memory than it may use.
pub(super) fn memory_limit(memory_bytes: usize) -> JobEnd {
    JobEnd::Errored {
        reason: "memory_limit",
        message: format!(
            "the pipeline's JavaScript needs more than {} MiB of memory, its limit; move heavy work into a step \
             (runtime.run), or have the agent's operator raise --js-memory-mib",
            memory_bytes >> 20
        ),
    }
}

/// The engine's own error for a failed allocation.
fn is_out_of_memory(thrown: &Value<'_>) -> bool {
    thrown.is_error()
        && thrown.as_object().is_some_and(|error| {
            property(error, "name").as_deref() == Some("InternalError")
                && property(error, "message").as_deref() == Some("out of memory")
        })
}

/// The whole story of a thrown value.
pub(super) fn describe<'js>(ctx: &Ctx<'js>, program: &Program, thrown: &Value<'js>) -> String {
    let mut told = String::new();
    let mut frame = String::new();
    let mut next = Some(thrown.clone());
    for depth in 0..=MAX_CAUSES {
        let Some(value) = next.take() else { break };
        if depth > 0 {
            told.push_str("\ncaused by: ");
        }
        let Some(error) = value.as_object().filter(|_| value.is_error()) else {
            if depth == 0 {
                told.push_str("thrown: ");
            }
            told.push_str(
                &inspect(ctx, program, &value)
                    .unwrap_or_else(|_| "a value that cannot be shown".to_owned()),
            );
            break;
        };
        told.push_str(&headline(error));
        let mapped = map_stack(program, &property(error, "stack").unwrap_or_default());
        if !mapped.stack.is_empty() {
            told.push('\n');
            told.push_str(&mapped.stack);
        }
        if frame.is_empty() {
            frame = mapped.frame;
        }
        next = read(error, "cause").filter(|cause| !cause.is_undefined());
    }
    if let Some((cut, _)) = told.char_indices().nth(MAX_MESSAGE_CHARS) {
        told.truncate(cut);
        told.push('…');
    }
    if !frame.is_empty() {
        told.push_str("\n\n");
        told.push_str(&frame);
    }
    told
}

/// `Name: message`, as far as they are there.
pub(super) fn headline(error: &Object<'_>) -> String {
    let name = property(error, "name")
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "Error".to_owned());
    match property(error, "message").filter(|message| !message.is_empty()) {
        Some(message) => format!("{name}: {message}"),
        None => name,
    }
}

/// A property as text; the author's getters may throw or give anything.
pub(super) fn property(object: &Object<'_>, name: &str) -> Option<String> {
    let value = read(object, name)?;
    if let Some(string) = value.as_string() {
        return text(string).ok();
    }
    if value.is_undefined() || value.is_null() || value.is_object() || value.is_symbol() {
        return None;
    }
    value.get::<Coerced<String>>().ok().map(|coerced| coerced.0)
}

fn read<'js>(object: &Object<'js>, name: &str) -> Option<Value<'js>> {
    let value: Result<Value> = object.get(name);
    match value {
        Ok(value) => Some(value),
        Err(error) => {
            // An interrupt stays pending or not: the watch remembers it.
            let _ = caught(object.ctx(), error);
            None
        }
    }
}
