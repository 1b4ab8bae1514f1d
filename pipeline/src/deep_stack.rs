//! Runs a recursive parser where its recursion cannot overflow the stack.
//!
//! Parsers, visitors and printers recurse as deep as a text is nested. The caller's stack (2 MiB on a worker thread)
//! would overflow on a hostile text, and a stack overflow kills the whole process. So the work runs on a thread of its
//! own whose stack is sized for the deepest nesting the text can possibly have. The memory is only reserved, not used,
//! unless a text really nests that deep.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Stack for the work itself, before any nesting.
const BASE_STACK_BYTES: usize = 4 << 20;

/// Stack one level of nesting may take; code that is not optimised has far larger frames. That it is enough is shown by
/// the tests of deep nesting in `program` and `expression`, which try every construct that nests.
const STACK_BYTES_PER_LEVEL: usize = if cfg!(debug_assertions) {
    32 << 10
} else {
    6 << 10
};

/// Why the work gave no result.
#[derive(Debug, thiserror::Error)]
pub enum DeepStackError {
    /// The thread could not be started.
    #[error("cannot start a thread to parse on; try again")]
    Spawn(#[source] std::io::Error),
    /// The work panicked; the message is the panic's own.
    #[error("the parser gave up: {0}")]
    Panicked(String),
}

/// Runs `work` on a stack for `levels` levels of nesting and turns a panic of it into an error.
///
/// # Errors
///
/// When the thread cannot be started, or when `work` panics.
pub fn run<T: Send>(levels: usize, work: impl FnOnce() -> T + Send) -> Result<T, DeepStackError> {
    let stack = BASE_STACK_BYTES + levels * STACK_BYTES_PER_LEVEL;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("pipeline-parse".to_owned())
            .stack_size(stack)
            .spawn_scoped(scope, || catch_unwind(AssertUnwindSafe(work)))
            .map_err(DeepStackError::Spawn)?;
        match thread.join() {
            Ok(result) => result.map_err(|panic| DeepStackError::Panicked(panic_text(&*panic))),
            // Only a panic while a panic is being dropped gets here.
            Err(panic) => resume_unwind(panic),
        }
    })
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown reason".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error() {
        let error = run(0, || -> () { panic!("odd token") }).expect_err("it panicked");
        assert_eq!(error.to_string(), "the parser gave up: odd token");
    }

    #[test]
    fn the_result_is_handed_back() {
        let text = String::from("borrowed");
        assert_eq!(run(1, || text.len()).expect("it ran"), 8);
    }
}
