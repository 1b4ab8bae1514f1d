//! What tells a step to stop, and why: a tree, as timeouts and failing siblings stop only their part of the plan.

use super::Outcome;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// A part of the plan that can be stopped; clones are the same part.
#[derive(Clone)]
pub struct Halt {
    part: Arc<Part>,
}

struct Part {
    token: CancellationToken,
    /// Why this very part was stopped; held while it is stopped.
    why: Mutex<Option<Outcome>>,
    parent: Option<Halt>,
}

impl Halt {
    /// What stops when this token is cancelled: the job, or its hooks.
    pub fn new(token: CancellationToken) -> Self {
        Self {
            part: Arc::new(Part {
                token,
                why: Mutex::default(),
                parent: None,
            }),
        }
    }

    /// A part that stops with this one, or before it.
    pub fn child(&self) -> Self {
        Self {
            part: Arc::new(Part {
                token: self.part.token.child_token(),
                why: Mutex::default(),
                parent: Some(self.clone()),
            }),
        }
    }

    /// Stops this part; what was running in it ends with `why`. Of a part that was stopped already, by itself or with what
    /// is around it, the first reason counts: a timeout that runs out while an aborted job cleans up is none.
    pub fn stop(&self, why: Outcome) {
        let mut known = self.why();
        if !self.part.token.is_cancelled() {
            *known = Some(why);
            self.part.token.cancel();
        }
    }

    fn why(&self) -> MutexGuard<'_, Option<Outcome>> {
        self.part.why.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a step that runs in this part and was stopped ends with; `None` while it may run.
    pub fn stopped(&self) -> Option<Outcome> {
        if !self.part.token.is_cancelled() {
            return None;
        }
        let mut part = Some(self);
        while let Some(halt) = part {
            // Whoever stops a part from outside stops it for a reason; without one it is the job's end.
            if let Some(why) = *halt.why() {
                return Some(why);
            }
            part = halt.part.parent.as_ref();
        }
        Some(Outcome::Aborted)
    }

    /// Cancelled when this part stops.
    pub fn token(&self) -> &CancellationToken {
        &self.part.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_reason_counts_and_parents_do_not_hear_of_it() {
        let job = Halt::new(CancellationToken::new());
        let timeout = job.child();
        let sibling = timeout.child();
        timeout.stop(Outcome::TimedOut);
        assert_eq!(job.stopped(), None);
        assert_eq!(sibling.stopped(), Some(Outcome::TimedOut));
        job.token().cancel();
        assert_eq!(job.stopped(), Some(Outcome::Aborted));
        assert_eq!(sibling.stopped(), Some(Outcome::TimedOut));
    }

    #[test]
    fn a_timeout_that_runs_out_after_the_abort_is_no_reason() {
        let job = Halt::new(CancellationToken::new());
        let timeout = job.child();
        let sibling = timeout.child();
        job.token().cancel();
        timeout.stop(Outcome::TimedOut);
        sibling.stop(Outcome::Failed);
        assert_eq!(timeout.stopped(), Some(Outcome::Aborted));
        assert_eq!(sibling.stopped(), Some(Outcome::Aborted));
    }
}
