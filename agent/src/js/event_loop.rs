//! Jobs, timers and host calls, one after the other on the job's thread.
//!
//! Cancellation and limits end the loop between any two of them; inside one it is the interrupt that does.

use super::answer;
use super::calls::Event;
use super::host::{Answer, Failure, Printed};
use super::journal::record::unix_ms;
use super::limits::{Trip, Watch};
use super::shared::Shared;
use super::timers::Due;
use super::value::caught;
use crate::container::OutputStream;
use rquickjs::promise::PromiseState;
use rquickjs::{Ctx, Function, Promise, Result, Value};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Jobs run between two looks at the token and the clock; promise chains may never reach the interpreter's own count.
const JOBS_PER_CHECK: u32 = 256;

/// Most events taken down together.
const MAX_RECORDED: usize = 1_000;

/// When to come back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// The promise is settled.
    Settled,
    /// The promise is settled and nothing is under way; or it is not and nothing can change that.
    Idle,
}

/// One job's loop.
pub(super) struct EventLoop<'js> {
    ctx: Ctx<'js>,
    pub(super) shared: Rc<Shared<'js>>,
    events: UnboundedReceiver<Event>,
    /// Recorded, not seen by the program yet.
    recorded: VecDeque<Event>,
    /// Ends of calls that are carried out again, before their turn.
    pub(super) ended_early: BTreeMap<u64, std::result::Result<Answer, Failure>>,
    cancel: CancellationToken,
    uncaught: Option<Value<'js>>,
    /// The journal is played; the program's present is the clock's.
    pub(super) live: bool,
}

impl<'js> EventLoop<'js> {
    pub fn new(
        ctx: Ctx<'js>,
        shared: Rc<Shared<'js>>,
        events: UnboundedReceiver<Event>,
        cancel: CancellationToken,
    ) -> Self {
        let began = shared.record.borrow().began_ms();
        let event_loop = Self {
            ctx,
            shared,
            events,
            recorded: VecDeque::new(),
            ended_early: BTreeMap::new(),
            cancel,
            uncaught: None,
            live: false,
        };
        if let Some(at_ms) = began {
            event_loop.set_present(at_ms);
        }
        event_loop
    }

    /// Turns until `until` holds for `goal`, or the watch trips.
    pub fn run(&mut self, goal: &Promise<'js>, until: Until) {
        loop {
            if self.run_jobs().is_some() {
                return;
            }
            let settled = goal.state() != PromiseState::Pending;
            if settled && until == Until::Settled {
                return;
            }
            if goal.state() == PromiseState::Rejected || self.uncaught.is_some() {
                // The job has failed: what is under way may end, but nothing new is begun by a clock.
                self.shared.timers.borrow_mut().clear();
            }
            if let Some(event) = self.recorded.pop_front() {
                self.handle(event);
                continue;
            }
            if !self.live {
                self.replay();
                continue;
            }
            // One of each in turn: timers that are always due must not starve what steps have to say.
            let timer = self.run_due_timer();
            let event = self.events.try_recv().ok();
            if timer || event.is_some() {
                self.record(event);
                continue;
            }
            if self.shared.calls.borrow().is_empty() && !self.shared.timers.borrow().hold(settled) {
                return;
            }
            let event = self.wait();
            self.record(event);
        }
    }

    /// Takes down an event and all that have come meanwhile, in the order in which the program will see them.
    fn record(&mut self, first: Option<Event>) {
        if let Some(first) = first {
            self.record_all(VecDeque::from([first]));
        }
    }

    /// The same of several.
    pub(super) fn record_all(&mut self, mut events: VecDeque<Event>) {
        while events.len() < MAX_RECORDED
            && let Ok(event) = self.events.try_recv()
        {
            events.push_back(event);
        }
        // What ended because the run is stopped is no result.
        if self.watch().check().is_some() {
            return;
        }
        let mut ended = false;
        {
            let mut record = self.shared.record.borrow_mut();
            for event in &events {
                match event {
                    Event::Done { call, result } => {
                        ended = true;
                        record.ended(number(*call), result);
                    }
                    Event::Output { call, printed, .. } => record.output(number(*call), printed),
                }
            }
            ended |= record.is_full();
        }
        if !ended || self.shared.flush() {
            self.recorded = events;
        }
    }

    /// The watch has ended the job.
    pub fn is_tripped(&self) -> bool {
        self.watch().tripped().is_some()
    }

    /// What a timer's callback threw.
    pub fn uncaught(&self) -> Option<Value<'js>> {
        self.uncaught.clone()
    }

    /// See [`Shared::note`].
    pub fn note(&self, text: &str) {
        self.shared.note(text);
    }

    /// Waits for calls that are told to stop by the cancelled token, then drops what is left.
    pub fn stop_calls(&mut self) {
        self.shared.calls.borrow_mut().drop_held();
        if self.watch().tripped() == Some(Trip::Cancelled) {
            let deadline = Instant::now() + self.shared.calls_grace;
            while !self.shared.calls.borrow().is_empty() {
                let events = &mut self.events;
                let event = self
                    .shared
                    .runtime
                    .block_on(async { tokio::time::timeout_at(deadline, events.recv()).await });
                match event {
                    Ok(Some(Event::Done { call, .. })) => {
                        drop(self.shared.calls.borrow_mut().finish(call))
                    }
                    Ok(Some(Event::Output { .. })) => {}
                    Ok(None) | Err(_) => break,
                }
            }
        }
        self.shared
            .calls
            .borrow_mut()
            .abort_all(&self.shared.runtime);
    }

    /// Timers set from now on count from this moment (milliseconds since 1970).
    pub(super) fn set_present(&self, at_ms: u64) {
        let behind = unix_ms().saturating_sub(at_ms);
        let behind = Duration::from_millis(behind);
        self.shared.timers.borrow_mut().set_behind(behind);
    }

    fn watch(&self) -> &Watch {
        &self.shared.watch
    }

    /// Runs promise jobs until none is left.
    fn run_jobs(&self) -> Option<Trip> {
        let mut ran = 0u32;
        loop {
            if ran.is_multiple_of(JOBS_PER_CHECK) {
                self.watch().check();
            }
            if let Some(trip) = self.watch().tripped() {
                return Some(trip);
            }
            if !self.ctx.execute_pending_job() {
                return None;
            }
            ran = ran.wrapping_add(1);
        }
    }

    fn run_due_timer(&mut self) -> bool {
        let due = self.shared.timers.borrow_mut().take_due(Instant::now());
        let Some(due) = due else { return false };
        self.shared.record.borrow_mut().fired(due.id);
        self.fire(due);
        true
    }

    /// Calls a timer's function.
    pub(super) fn fire(&mut self, due: Due<'js>) {
        let arguments = rquickjs::function::Rest(due.arguments);
        if let Err(error) = due.callback.call::<_, Value>((arguments,))
            && let Ok(thrown) = caught(&self.ctx, error)
        {
            self.uncaught.get_or_insert(thrown);
        }
    }

    /// The next event, however long it takes; `None` if the run is stopped.
    pub(super) fn receive(&mut self) -> Option<Event> {
        let (cancel, events) = (&self.cancel, &mut self.events);
        self.shared.runtime.block_on(async {
            tokio::select! {
                biased;
                () = cancel.cancelled() => None,
                event = events.recv() => event,
            }
        })
    }

    /// Blocks until something happens; `None` when it was a timer or the cancellation.
    fn wait(&mut self) -> Option<Event> {
        let next_timer = self.shared.timers.borrow_mut().next_at();
        let timer = async {
            match next_timer {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let (cancel, events) = (&self.cancel, &mut self.events);
        self.shared.runtime.block_on(async {
            tokio::select! {
                biased;
                () = cancel.cancelled() => None,
                event = events.recv() => event,
                () = timer => None,
            }
        })
    }

    fn handle(&mut self, event: Event) {
        // A failure to settle a promise is an interrupt or a lack of memory: the first the watch remembers, the
        // second leaves the promise pending, which is reported.
        let handled = match event {
            Event::Output {
                call,
                printed,
                permit,
            } => {
                let handled = self.output(call, &printed);
                drop(permit);
                handled
            }
            Event::Done { call, result } => self.done(call, result),
        };
        self.caught(handled);
    }

    /// Remembers what a callback threw.
    pub(super) fn caught(&mut self, handled: Result<()>) {
        if let Err(error) = handled
            && let Ok(thrown) = caught(&self.ctx, error)
        {
            self.uncaught.get_or_insert(thrown);
        }
    }

    pub(super) fn output(&self, call: u64, printed: &Printed) -> Result<()> {
        let stream = printed.stream;
        let (callback, text) = {
            let mut calls = self.shared.calls.borrow_mut();
            let Some(pending) = calls.pending.get_mut(&call) else {
                return Ok(());
            };
            (
                pending.on_output.clone(),
                pending.decoders[stream_index(stream)].push(&printed.bytes),
            )
        };
        self.tell_output(callback, stream, text)
    }

    fn tell_output(
        &self,
        callback: Option<Function<'js>>,
        stream: OutputStream,
        text: String,
    ) -> Result<()> {
        let Some(callback) = callback.filter(|_| !text.is_empty()) else {
            return Ok(());
        };
        let name = match stream {
            OutputStream::Stdout => "stdout",
            OutputStream::Stderr => "stderr",
        };
        if let Err(error) = callback.call::<_, Value>((name, text)) {
            let thrown = caught(&self.ctx, error)?;
            let shown = super::inspect::inspect(&self.ctx, &self.shared.program, &thrown)?;
            self.note(&format!("runtime.run: onOutput threw and goes on: {shown}"));
        }
        Ok(())
    }

    pub(super) fn done(
        &self,
        call: u64,
        result: std::result::Result<Answer, Failure>,
    ) -> Result<()> {
        let finished = self.shared.calls.borrow_mut().finish(call);
        let Some(mut pending) = finished else {
            return Ok(());
        };
        for stream in [OutputStream::Stdout, OutputStream::Stderr] {
            let rest = pending.decoders[stream_index(stream)].finish();
            self.tell_output(pending.on_output.clone(), stream, rest)?;
        }
        match result {
            Ok(Answer::Run(result)) if pending.fail_on_error && !answer::is_well(&result) => {
                let error = answer::step_error(&self.ctx, pending.error, result)?;
                pending.reject.call((error,))
            }
            Ok(answer) => {
                let value = answer::value(&self.ctx, answer)?;
                pending.resolve.call((value,))
            }
            Err(failure) => {
                let error = answer::error(&self.ctx, pending.error, &failure)?;
                pending.reject.call((error,))
            }
        }
    }
}

/// A call's number in the journal; they are the same.
pub(super) fn number(call: u64) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}

fn stream_index(stream: OutputStream) -> usize {
    match stream {
        OutputStream::Stdout => 0,
        OutputStream::Stderr => 1,
    }
}
