//! Promises that were rejected while nobody was listening.

use rquickjs::runtime::RejectionTracker;
use rquickjs::{Ctx, Persistent, Value};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Kept for the report; more are only counted.
const MAX_KEPT: usize = 100;

struct Rejection {
    promise: Persistent<Value<'static>>,
    reason: Persistent<Value<'static>>,
}

/// Shared with the engine's tracker. Must be cleared before the runtime is dropped.
#[derive(Clone, Default)]
pub(super) struct Rejections {
    kept: Rc<RefCell<Vec<Rejection>>>,
    dropped: Rc<Cell<usize>>,
}

impl Rejections {
    /// The callback QuickJS tells about rejections without a handler, and about handlers that came later.
    pub fn tracker(&self) -> RejectionTracker {
        let this = self.clone();
        Box::new(move |ctx, promise, reason, is_handled| {
            let promise = Persistent::save(&ctx, promise);
            let mut kept = this.kept.borrow_mut();
            if is_handled {
                kept.retain(|rejection| rejection.promise != promise);
            } else if kept.len() < MAX_KEPT {
                kept.push(Rejection {
                    promise,
                    reason: Persistent::save(&ctx, reason),
                });
            } else {
                this.dropped.set(this.dropped.get() + 1);
            }
        })
    }

    /// Those still unhandled but for `known`, in order, and how many more there were.
    pub fn take<'js>(&self, ctx: &Ctx<'js>, known: &[Value<'js>]) -> (Vec<Value<'js>>, usize) {
        let kept = std::mem::take(&mut *self.kept.borrow_mut());
        let mut reasons = Vec::new();
        for Rejection { promise, reason } in kept {
            // Restoring fails only for another runtime's values.
            let (Ok(promise), Ok(reason)) = (promise.restore(ctx), reason.restore(ctx)) else {
                continue;
            };
            if !known.contains(&promise) {
                reasons.push(reason);
            }
        }
        (reasons, self.dropped.replace(0))
    }

    /// Lets go of all values.
    pub fn clear(&self) {
        let kept = std::mem::take(&mut *self.kept.borrow_mut());
        drop(kept);
    }
}
