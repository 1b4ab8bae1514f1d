//! Bounded admission: how many webhooks, and how many bytes of them, may be in memory at once.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Body bytes are counted in units of this many, so that large budgets fit a semaphore.
const UNIT_BYTES: usize = 1024;

/// The two budgets; clones share them.
#[derive(Clone)]
pub struct Admission {
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// A place for one request; it grows with the request's body and is given back on drop.
pub struct Admitted {
    _request: OwnedSemaphorePermit,
    bytes: Arc<Semaphore>,
    held: Vec<OwnedSemaphorePermit>,
    counted: usize,
    seen: usize,
}

impl Admission {
    /// At most so many requests, and so many bytes of bodies.
    pub fn new(requests: usize, bytes: usize) -> Self {
        let limit = |n: usize| n.min(Semaphore::MAX_PERMITS);
        Self {
            requests: Arc::new(Semaphore::new(limit(requests))),
            bytes: Arc::new(Semaphore::new(limit(bytes.div_ceil(UNIT_BYTES)))),
        }
    }

    /// A place, if there is one now.
    pub fn admit(&self) -> Option<Admitted> {
        let request = self.requests.clone().try_acquire_owned().ok()?;
        Some(Admitted {
            _request: request,
            bytes: self.bytes.clone(),
            held: Vec::new(),
            counted: 0,
            seen: 0,
        })
    }
}

impl Admitted {
    /// Counts bytes that were read; `false` if there is no room for them now.
    pub fn grow(&mut self, bytes: usize) -> bool {
        self.seen += bytes;
        let units = self.seen.div_ceil(UNIT_BYTES);
        let Ok(more) = u32::try_from(units - self.counted) else {
            return false;
        };
        if more == 0 {
            return true;
        }
        let Ok(permit) = self.bytes.clone().try_acquire_many_owned(more) else {
            return false;
        };
        self.counted = units;
        match self.held.last_mut() {
            Some(held) => held.merge(permit),
            None => self.held.push(permit),
        }
        true
    }
}

/// Bytes of bodies that may be in temporary files at once; clones share it.
#[derive(Clone)]
pub struct DiskBudget(Arc<Semaphore>);

impl DiskBudget {
    /// At most so many bytes.
    pub fn new(bytes: u64) -> Self {
        let units = bytes.div_ceil(UNIT_BYTES as u64);
        let units = usize::try_from(units).unwrap_or(usize::MAX);
        Self(Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))))
    }

    /// Makes `held` cover `bytes`; `false` if there is no room for them now.
    pub(super) fn grow(&self, held: &mut Option<OwnedSemaphorePermit>, bytes: u64) -> bool {
        let have = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) as u64;
        let wanted = bytes.div_ceil(UNIT_BYTES as u64);
        let Ok(more) = u32::try_from(wanted.saturating_sub(have)) else {
            return false;
        };
        if more == 0 {
            return true;
        }
        let Ok(permit) = self.0.clone().try_acquire_many_owned(more) else {
            return false;
        };
        match held {
            Some(held) => held.merge(permit),
            None => *held = Some(permit),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_bytes_are_bounded_and_given_back() {
        let admission = Admission::new(2, 10 * UNIT_BYTES);
        let mut first = admission.admit().unwrap();
        let mut second = admission.admit().unwrap();
        assert!(admission.admit().is_none());
        assert!(first.grow(1) && first.grow(UNIT_BYTES - 1) && first.grow(8 * UNIT_BYTES));
        assert!(second.grow(UNIT_BYTES));
        assert!(!second.grow(1));
        drop(first);
        assert!(second.grow(1));
        assert!(admission.admit().is_some());
    }
}
