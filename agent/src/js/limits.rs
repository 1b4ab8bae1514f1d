//! What one job's JavaScript may use, and the watch that stops it.

use crate::container::STOP_GRACE;
use nix::time::{ClockId, clock_gettime};
use std::cell::{Cell, RefCell};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Memory of one JavaScript runtime unless the operator says otherwise.
const DEFAULT_MEMORY_BYTES: usize = 256 << 20;
/// Native stack JavaScript may use: some thousand nested calls.
const DEFAULT_STACK_BYTES: usize = 1 << 20;
/// Time on the processor, not counting waits for steps.
const DEFAULT_CPU_TIME: Duration = Duration::from_secs(60);
/// A job that takes longer is most likely stuck.
const DEFAULT_WALL_TIME: Duration = Duration::from_secs(24 * 3600);
/// Steps of one job at once.
const DEFAULT_MAX_STEPS: usize = 32;
/// Output of one job.
const DEFAULT_MAX_OUTPUT_BYTES: u64 = 256 << 20;
/// Output of one stream of a step: a quarter of the job's, so that no step takes it all.
const DEFAULT_MAX_STEP_OUTPUT_BYTES: u64 = 64 << 20;
/// After being told to stop, this many more visits of the interrupt handler (about 10 000 loop turns each) are a program
/// that swallows the interrupt: an endless loop around `new Promise(() => { for (;;); })` turns it into a rejection.
const MAX_VISITS_AFTER_TRIP: u32 = 1_000;

/// What one job may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of QuickJS's own heap.
    pub memory_bytes: usize,
    /// Bytes of stack for nested calls, at most 16 MiB; the engine's thread gets some more.
    pub stack_bytes: usize,
    /// Time on the processor of the job's own thread.
    pub cpu_time: Duration,
    /// From the job's start to its end.
    pub wall_time: Duration,
    /// Steps at once (more wait), and sandboxes at once (more are refused).
    pub max_steps: usize,
    /// Bytes of output kept in the job's log.
    pub max_output_bytes: u64,
    /// Bytes of one stream of a step kept in the job's log: the first half and the last.
    pub max_step_output_bytes: u64,
    /// What a step gets between the polite signal and the kill.
    pub stop_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: DEFAULT_MEMORY_BYTES,
            stack_bytes: DEFAULT_STACK_BYTES,
            cpu_time: DEFAULT_CPU_TIME,
            wall_time: DEFAULT_WALL_TIME,
            max_steps: DEFAULT_MAX_STEPS,
            max_output_bytes: DEFAULT_MAX_OUTPUT_BYTES,
            max_step_output_bytes: DEFAULT_MAX_STEP_OUTPUT_BYTES,
            stop_grace: STOP_GRACE,
        }
    }
}

/// Why JavaScript must not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trip {
    /// The run was cancelled.
    Cancelled,
    /// The processor time is used up.
    Cpu,
    /// The host panicked: a defect of ours, nothing can be relied on.
    Broken,
    /// The program went another way than its journal says.
    Diverged,
}

/// Asked by the interpreter every few thousand steps; once tripped it stays so.
pub(super) struct Watch {
    cancel: CancellationToken,
    cpu_time: Duration,
    tripped: Cell<Option<Trip>>,
    visits_after_trip: Cell<u32>,
    divergence: RefCell<String>,
}

impl Watch {
    pub fn new(cancel: CancellationToken, cpu_time: Duration) -> Self {
        Self {
            cancel,
            cpu_time,
            tripped: Cell::new(None),
            visits_after_trip: Cell::new(0),
            divergence: RefCell::default(),
        }
    }

    /// Looks at the token and the clock.
    pub fn check(&self) -> Option<Trip> {
        if self.tripped.get().is_none() {
            if self.cancel.is_cancelled() {
                self.tripped.set(Some(Trip::Cancelled));
            } else if thread_cpu_time() > self.cpu_time {
                self.tripped.set(Some(Trip::Cpu));
            }
        }
        self.tripped.get()
    }

    /// Stops everything because of a defect of ours.
    pub fn break_off(&self) {
        self.tripped.set(self.tripped.get().or(Some(Trip::Broken)));
    }

    /// Stops everything because the program went another way than its journal says; the first time counts.
    pub fn diverge(&self, why: String) {
        if self.tripped.get().is_none() {
            self.tripped.set(Some(Trip::Diverged));
            *self.divergence.borrow_mut() = why;
        }
    }

    /// What was said to [`Watch::diverge`].
    pub fn divergence(&self) -> String {
        self.divergence.borrow().clone()
    }

    /// Cancelled when the run is to stop.
    pub fn cancelled(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// What the last look found.
    pub fn tripped(&self) -> Option<Trip> {
        self.tripped.get()
    }

    /// The interpreter's question: true stops it. Counts how often it had to ask again.
    pub fn interrupt(&self) -> bool {
        if self.tripped.get().is_some() {
            self.visits_after_trip
                .set(self.visits_after_trip.get().saturating_add(1));
            return true;
        }
        self.check().is_some()
    }

    /// The program goes on although it was stopped again and again.
    pub fn is_defied(&self) -> bool {
        self.visits_after_trip.get() > MAX_VISITS_AFTER_TRIP
    }
}

/// Processor time of this thread; the job's thread is its own, so it starts at zero.
fn thread_cpu_time() -> Duration {
    // Zero when the clock is missing: the wall-clock timeout of the job remains.
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map(Duration::from)
        .unwrap_or_default()
}
