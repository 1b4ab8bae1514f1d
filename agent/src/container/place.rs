//! Looking into a step: while it runs, and into what it left, for as long as that is kept.
//!
//! A step that is run with [`Remains`] does not remove what it leaves: whoever ran it decides. Nobody deciding means that
//! it is removed.

use super::{DriverError, Output};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The label on what a terminal creates; its value tells the process that it belongs to.
pub(crate) const TERMINAL_LABEL: &str = "pocketci.terminal";

/// A shell where nothing else is asked for: the better one of those that there are.
const SHELL: &str = "if command -v bash >/dev/null 2>&1; then exec bash; else exec sh; fi";

/// Columns and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// What is wanted in a step's place.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Program and arguments; empty is a shell.
    pub command: Vec<String>,
    /// With a terminal of this size; without one stdout and stderr are told apart.
    pub size: Option<Size>,
    /// Marks what is created for it.
    pub labels: BTreeMap<String, String>,
}

impl Wanted {
    /// The command, never empty.
    pub(super) fn command(&self) -> Vec<String> {
        match self.command.is_empty() {
            true => ["/bin/sh", "-c", SHELL].map(str::to_owned).to_vec(),
            false => self.command.clone(),
        }
    }
}

/// What comes from whoever looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// For the process's stdin.
    Bytes(Bytes),
    /// Nothing more follows on stdin.
    End,
    /// The terminal's size is another one now.
    Resize(Size),
}

/// Where a step runs, or ran.
#[async_trait]
pub trait Place: Send + Sync {
    /// Runs a command in it to its end; its exit code. Once `stop` is cancelled it is killed with everything it started;
    /// nothing of it is left when this returns.
    async fn terminal(
        &self,
        wanted: Wanted,
        input: mpsc::Receiver<Input>,
        output: mpsc::Sender<Output>,
        stop: CancellationToken,
    ) -> Result<i32, DriverError>;

    /// Keeps what the step left: a driver that remembers it over the end of this process does so until then.
    async fn keep(&self, until: SystemTime) -> Result<(), DriverError>;

    /// Removes it; terminals that are open may go on.
    async fn discard(&self);
}

/// What an earlier process of an agent kept.
pub struct Kept {
    /// Of the step's container.
    pub labels: BTreeMap<String, String>,
    /// When it is to go.
    pub until: SystemTime,
    /// What there is.
    pub place: Arc<dyn Place>,
}

/// See the module; filled by the driver that runs the step.
#[derive(Default)]
pub struct Remains {
    place: Mutex<Option<Arc<dyn Place>>>,
    all: AtomicBool,
}

impl Remains {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<dyn Place>>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The step runs here now, or has left this.
    pub(crate) fn set(&self, place: Arc<dyn Place>) {
        *self.lock() = Some(place);
    }

    /// Also what ends with code 0 may turn out to have failed.
    pub fn want_all(&self) {
        self.all.store(true, Ordering::Relaxed);
    }

    pub(super) fn wants_all(&self) -> bool {
        self.all.load(Ordering::Relaxed)
    }

    /// Where the step is, or what it left.
    pub fn place(&self) -> Option<Arc<dyn Place>> {
        self.lock().clone()
    }

    /// Nothing is left.
    pub(super) fn clear(&self) {
        *self.lock() = None;
    }

    /// Removes what is left.
    pub async fn discard(&self) {
        let place = self.lock().take();
        if let Some(place) = place {
            place.discard().await;
        }
    }
}
