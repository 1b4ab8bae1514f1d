//! A step of a plan in its attempt's reports and log.

use super::Attempt;
use super::capture::Capture;
use super::output::collect;
use crate::container::Output;
use crate::log::Source;
use bytes::Bytes;
use pb::log_chunk::Stream;
use pb::report::Kind;
use pocketci_proto::agent as pb;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// Pieces of output between a step and the log; a full channel holds the step back.
const OUTPUT_PIECES: usize = 16;

/// What a step that begins is called.
pub(crate) struct Began<'a> {
    /// The author's name.
    pub(crate) name: &'a str,
    /// `task`, `get`, …
    pub(crate) kind: &'a str,
    /// Of its container, or empty.
    pub(crate) image: &'a str,
    /// Where in the plan.
    pub(crate) path: &'a str,
}

/// How a step ended.
pub(crate) struct StepEnd<'a> {
    /// `complete`, `abort` or `error`.
    pub(crate) status: &'a str,
    pub(crate) exit_code: i32,
    pub(crate) message: &'a str,
    /// How long what it left is kept.
    pub(crate) kept: Duration,
}

/// A step that was told to begin. One that is dropped has no end: its attempt is lost.
pub(crate) struct Logged {
    attempt: Arc<Attempt>,
    step: u32,
    collecting: Option<AbortOnDropHandle<(Capture, Capture)>>,
    printed: (String, String),
}

impl Logged {
    /// Numbers the step and tells that it begins; its log keeps `limit` bytes of each of its streams. Where its output
    /// goes.
    pub(crate) async fn begin(
        attempt: &Arc<Attempt>,
        began: Began<'_>,
        limit: u64,
    ) -> (Self, mpsc::Sender<Output>) {
        let step = attempt.next_step();
        // What was printed before it is seen before it.
        attempt.log.flush().await;
        attempt.reports.add(Kind::StepStarted(pb::StepStarted {
            step,
            name: attempt.redactor.text(began.name),
            kind: began.kind.to_owned(),
            image: began.image.to_owned(),
            path: attempt.redactor.text(began.path),
        }));
        let (output, pieces) = mpsc::channel(OUTPUT_PIECES);
        let of = attempt.clone();
        let collecting = tokio::spawn(async move { collect(&of, step, pieces, None, limit).await });
        let logged = Self {
            attempt: attempt.clone(),
            step,
            collecting: Some(AbortOnDropHandle::new(collecting)),
            printed: Default::default(),
        };
        (logged, output)
    }

    /// Its number.
    pub(crate) fn step(&self) -> u32 {
        self.step
    }

    /// PocketCI's own words about it, a line.
    pub(crate) async fn say(&self, said: &str) {
        let text = self.attempt.redactor.text(said);
        let source = Source {
            step: self.step,
            stream: Stream::System,
        };
        let line = Bytes::from(format!("{}\n", text.trim_end()));
        self.attempt.log.append(source, line).await;
    }

    /// Its stdout and stderr without secrets, long ones cut in the middle. All senders of its output must be gone.
    pub(crate) async fn printed(&mut self) -> (String, String) {
        if let Some(collecting) = self.collecting.take() {
            let (stdout, stderr) = collecting.await.unwrap_or_default();
            self.printed = (stdout.into_text(), stderr.into_text());
        }
        self.printed.clone()
    }

    /// Tells its end once all of its output is in the log. All senders of its output must
    /// be gone.
    pub(crate) async fn end(mut self, ended: StepEnd<'_>) {
        if let Some(collecting) = self.collecting.take() {
            // It is nobody's to abort but ours.
            let _ = collecting.await;
        }
        self.attempt.log.flush().await;
        self.attempt
            .reports
            .add(Kind::StepFinished(pb::StepFinished {
                step: self.step,
                status: ended.status.to_owned(),
                exit_code: ended.exit_code,
                message: self.attempt.redactor.text(ended.message),
                kept_ms: u64::try_from(ended.kept.as_millis()).unwrap_or(u64::MAX),
            }));
    }
}
