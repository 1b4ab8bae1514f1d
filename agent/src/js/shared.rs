//! What the globals and the event loop of one job share.
//!
//! It holds JavaScript values and is itself held by JavaScript functions: [`Shared::clear`] cuts that circle, and must be
//! called before the context goes.

use super::Program;
use super::calls::{Calls, Event};
use super::engine::Job;
use super::host::{ConsoleStream, Host, JobContext};
use super::journal::record::{Record, now_ticks};
use super::limits::Watch;
use super::supervisor::calls_grace;
use super::timers::Timers;
use rquickjs::function::Constructor;
use rquickjs::{Ctx, Object, Result};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// One job's state on its thread.
pub(super) struct Shared<'js> {
    host: Arc<dyn Host>,
    pub program: Program,
    pub job: Rc<JobContext>,
    pub runtime: Handle,
    pub watch: Rc<Watch>,
    pub calls: RefCell<Calls<'js>>,
    pub timers: RefCell<Timers<'js>>,
    /// `http.respond` has had its one shot.
    pub responded: Cell<bool>,
    /// How long calls may take to end when the run is cancelled.
    pub calls_grace: Duration,
    /// What is remembered of the job, and what is known of it from earlier.
    pub record: RefCell<Record>,
    /// Outgoing webhooks so far, by content.
    pub deliveries: RefCell<HashMap<String, u64>>,
    error: RefCell<Option<Constructor<'js>>>,
}

impl<'js> Shared<'js> {
    pub fn new(
        ctx: &Ctx<'js>,
        job: &Job,
        watch: Rc<Watch>,
        events: mpsc::UnboundedSender<Event>,
    ) -> Result<Self> {
        Ok(Self {
            host: Arc::clone(&job.host),
            program: job.program.clone(),
            job: Rc::new(job.context.clone()),
            runtime: job.runtime.clone(),
            watch,
            calls: RefCell::new(Calls::new(events, job.steps.clone())),
            timers: RefCell::default(),
            responded: Cell::new(false),
            calls_grace: calls_grace(&job.limits),
            record: RefCell::new(Record::new(job.host.journal(), now_ticks())),
            deliveries: RefCell::default(),
            error: RefCell::new(Some(ctx.globals().get("Error")?)),
        })
    }

    /// Calls the host; `None` when it panicked, which ends the job.
    pub fn ask<T>(&self, call: impl FnOnce(&dyn Host) -> T) -> Option<T> {
        let asked = catch_unwind(AssertUnwindSafe(|| call(&*self.host)));
        if asked.is_err() {
            self.watch.break_off();
        }
        asked.ok()
    }

    /// A line of PocketCI's own in the job's log.
    pub fn note(&self, text: &str) {
        self.ask(|host| {
            host.console(
                ConsoleStream::System,
                &format!(
                    "{text}
"
                ),
            )
        });
    }

    /// A JavaScript `Error` whose stack is the caller's; its message can be set later.
    pub fn new_error(&self, ctx: &Ctx<'js>, message: &str) -> Result<Object<'js>> {
        // Borrowed only for the clone: constructing may run the author's `Error.prepareStackTrace`.
        let constructor = self.error.borrow().clone();
        match constructor {
            Some(constructor) => constructor.construct((message,)),
            None => Ok(rquickjs::Exception::from_message(ctx.clone(), message)?.into_object()),
        }
    }

    /// Lets go of every JavaScript value.
    pub fn clear(&self) {
        let pending = std::mem::take(&mut self.calls.borrow_mut().pending);
        drop(pending);
        self.timers.borrow_mut().clear();
        self.error.borrow_mut().take();
    }
}
