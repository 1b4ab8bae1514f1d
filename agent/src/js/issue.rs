//! Calls on their way to the host, and what is read on the spot: all of it through the journal (`journal::record`).

use super::calls::{Pending, Start};
use super::host::{Answer, Answered, Failure, Request, RunRequest};
use super::journal::Kept;
use super::journal::entry::{content_hash, run_hash};
use super::journal::record::{Made, Needs, Plan, TICKS_PER_MS};
use super::shared::Shared;

/// Longest label of a call, in bytes.
const MAX_LABEL_BYTES: usize = 200;

/// A call of the prelude's, by its operation and JSON text.
pub(super) fn made(op: &str, label: &str, json: &str, body: &[u8], request: &Request) -> Made {
    let needs = match request {
        Request::CreateVolume { .. } => Needs::Volume,
        Request::ReadFiles { volume, .. } => Needs::Volumes(vec![volume.clone()]),
        Request::CloseSandbox { .. } => Needs::Sandbox,
        _ => Needs::Nothing,
    };
    Made {
        label: label.to_owned(),
        hash: content_hash(op, json.as_bytes(), body),
        needs,
    }
}

/// A step, or a sandbox.
pub(super) fn made_run(kind: &str, sandbox: &str, run: &RunRequest) -> Made {
    let mut label = format!("{kind} '{}'", run.name);
    label.truncate(label.floor_char_boundary(MAX_LABEL_BYTES));
    let needs = match kind {
        "runtime.run" => Needs::Volumes(run.mounts.values().cloned().collect()),
        _ => Needs::Sandbox,
    };
    Made {
        label,
        hash: run_hash(kind, sandbox, run),
        needs,
    }
}

impl<'js> Shared<'js> {
    /// The number of the call made next.
    pub fn number(&self) -> u32 {
        self.record.borrow_mut().number()
    }

    /// Starts a call, unless the journal has its end; in any case its promise waits from now on.
    pub fn begin(&self, call: u32, made: Made, future: Answered, pending: Pending<'js>) {
        let label = made.label.clone();
        let plan = match self.watch.tripped() {
            // Whoever is told to stop begins nothing.
            Some(_) => Plan::Taken,
            None => self.record.borrow_mut().plan(call, made),
        };
        let start = match plan {
            Plan::Live => {
                self.flush();
                Start::Now(future)
            }
            Plan::Taken => Start::Held(None),
            Plan::Revive(volume) => match self.revive(call, volume) {
                true => Start::Held(None),
                false => Start::Now(future),
            },
            Plan::Again(why) => {
                self.note(&format!("{label} is done again: {why}"));
                self.flush();
                Start::Now(future)
            }
            Plan::Later => Start::Held(Some(future)),
            Plan::Diverged(why) => {
                self.watch.diverge(why);
                Start::Held(None)
            }
        };
        let mut calls = self.calls.borrow_mut();
        calls.start(&self.runtime, u64::from(call), start, pending);
    }

    /// Whether a recorded volume is still there; if not, it and what uses it is done again.
    fn revive(&self, call: u32, volume: serde_json::Value) -> bool {
        let name = volume["name"].as_str().unwrap_or_default().to_owned();
        let Some(reviving) = self.ask(|host| host.revive(volume)) else {
            return false;
        };
        let cancel = self.watch.cancelled();
        let alive = self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = cancel.cancelled() => false,
                alive = reviving => alive,
            }
        });
        if !alive {
            self.note(&format!(
                "volume '{name}' is gone; it is made again, and the steps that mount it are run again"
            ));
            self.record.borrow_mut().bury(call, &name);
        }
        alive
    }

    /// Makes a call and waits for its answer on the job's own thread.
    pub fn answer_now(&self, made: Made, future: Answered) -> Result<Answer, Failure> {
        let call = self.number();
        let stopped = || Failure::from("the run was stopped");
        if self.watch.tripped().is_some() {
            return Err(stopped());
        }
        let plan = self.record.borrow_mut().plan(call, made);
        match plan {
            Plan::Diverged(why) => {
                self.watch.diverge(why);
                return Err(stopped());
            }
            Plan::Taken => {
                let record = self.record.borrow();
                return record
                    .known(call)
                    .map_or_else(|| Err(stopped()), |known| known.ended.clone());
            }
            Plan::Live | Plan::Later | Plan::Again(_) | Plan::Revive(_) => {}
        }
        self.flush();
        let cancel = self.watch.cancelled();
        let answered = self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = cancel.cancelled() => None,
                answered = future => Some(answered),
            }
        });
        let answered = answered.ok_or_else(stopped)?;
        self.record.borrow_mut().answered(call, &answered);
        match self.flush() {
            true => answered,
            false => Err(stopped()),
        }
    }

    /// Stores what waits to be stored; `false` if the run was stopped meanwhile.
    pub fn flush(&self) -> bool {
        let taken = self.record.borrow_mut().take();
        let Some((entries, sink)) = taken else {
            return true;
        };
        let cancel = self.watch.cancelled();
        let kept = self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = cancel.cancelled() => None,
                kept = sink.append(entries) => Some(kept),
            }
        });
        match kept {
            Some(Kept::Stored) => true,
            Some(Kept::Ended) => {
                self.record.borrow_mut().stop();
                true
            }
            None => false,
        }
    }

    /// Milliseconds since 1970, exact to a tenth.
    pub fn clock_ms(&self) -> f64 {
        let mut record = self.record.borrow_mut();
        let ticks = record.clock();
        let too_much = record.reads_too_much();
        drop(record);
        if too_much {
            self.flush();
        }
        ticks as f64 / TICKS_PER_MS as f64
    }

    /// When the job began, as [`Shared::clock_ms`].
    pub fn started_ms(&self) -> f64 {
        self.record.borrow_mut().origin() as f64 / TICKS_PER_MS as f64
    }

    /// Random bytes; `None` if the system has none to give.
    pub fn random(&self, bytes: &mut [u8]) -> Option<()> {
        self.record.borrow_mut().random(bytes)
    }
}
