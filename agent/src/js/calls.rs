//! Host calls under way: promises on one side, tokio tasks on the other, one channel between.

use super::host::{Answer, Answered, Failure, OutputSink, Printed, Seen};
use futures_util::FutureExt;
use rquickjs::{Function, Object};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Pieces of output that may wait for a busy pipeline before its steps are held back.
const OUTPUT_PIECES_WAITING: usize = 64;
/// How long dropped futures may take to clean up behind them.
const ABORT_WAIT: Duration = Duration::from_secs(5);

/// What tokio tells the job's thread.
pub(super) enum Event {
    /// A piece of output for `onOutput`.
    Output {
        call: u64,
        printed: Printed,
        /// Held until the piece has been looked at.
        permit: OwnedSemaphorePermit,
    },
    /// A call has ended; nothing about it follows.
    Done {
        call: u64,
        result: Result<Answer, Failure>,
    },
}

/// The tokio side of a job's calls: outlives its thread where that must be left behind.
#[derive(Clone, Default)]
pub(super) struct Steps {
    /// Knows the tasks that still run.
    pub tracker: TaskTracker,
    /// Cancelled, it drops their futures.
    pub drop: CancellationToken,
}

/// What becomes of a call's future.
pub(super) enum Start {
    /// It is spawned.
    Now(Answered),
    /// It waits for the journal to be played; without one, its end is in the journal.
    Held(Option<Answered>),
}

/// One call's JavaScript side.
pub(super) struct Pending<'js> {
    pub resolve: Function<'js>,
    pub reject: Function<'js>,
    /// Made when the call was, so that its stack names the author's line.
    pub error: Object<'js>,
    pub on_output: Option<Function<'js>>,
    pub decoders: [Utf8Decoder; 2],
    /// Rejects when the step did not end well.
    pub fail_on_error: bool,
}

/// All calls of a job.
pub(super) struct Calls<'js> {
    pub pending: BTreeMap<u64, Pending<'js>>,
    tasks: BTreeMap<u64, JoinHandle<()>>,
    /// Calls that are not carried out (yet): those with a future will be when the journal is played.
    held: BTreeMap<u64, Option<Answered>>,
    /// Of calls with an `onOutput`.
    seen: BTreeMap<u64, Seen>,
    events: mpsc::UnboundedSender<Event>,
    room: Arc<Semaphore>,
    steps: Steps,
}

impl<'js> Calls<'js> {
    pub fn new(events: mpsc::UnboundedSender<Event>, steps: Steps) -> Self {
        let room = Arc::new(Semaphore::new(OUTPUT_PIECES_WAITING));
        Self {
            pending: BTreeMap::new(),
            tasks: BTreeMap::new(),
            held: BTreeMap::new(),
            seen: BTreeMap::new(),
            events,
            room,
            steps,
        }
    }

    /// The sink for a call.
    pub fn sink(&mut self, call: u64) -> OutputSink {
        let seen = Seen::default();
        self.seen.insert(call, seen.clone());
        OutputSink {
            call,
            events: self.events.clone(),
            room: Arc::clone(&self.room),
            step: 0,
            seen,
            resumes: false,
        }
    }

    /// The program has seen this of a call as it is in the journal.
    pub fn saw(&self, call: u64, printed: &Printed) {
        if let Some(seen) = self.seen.get(&call) {
            seen.add(printed);
        }
    }

    /// Spawns the call, or holds it; its promise waits in either case.
    pub fn start(&mut self, runtime: &Handle, call: u64, start: Start, pending: Pending<'js>) {
        self.pending.insert(call, pending);
        match start {
            Start::Now(future) => self.spawn(runtime, call, future),
            Start::Held(future) => {
                self.held.insert(call, future);
            }
        }
    }

    /// Whether calls wait for the journal to be played.
    pub fn has_later(&self) -> bool {
        self.held.values().any(Option::is_some)
    }

    /// The journal is played: what it does not know is carried out.
    pub fn release(&mut self, runtime: &Handle) {
        for (call, future) in std::mem::take(&mut self.held) {
            if let Some(future) = future {
                self.spawn(runtime, call, future);
            }
        }
    }

    /// Spawns the call; its end is always told, whatever happens to the task.
    fn spawn(&mut self, runtime: &Handle, call: u64, future: Answered) {
        let mut end = TellEnd {
            call,
            events: self.events.clone(),
            told: false,
        };
        let drop = self.steps.drop.clone();
        let task = self.steps.tracker.track_future(async move {
            let result = tokio::select! {
                biased;
                () = drop.cancelled() => return, // `end` tells it
                result = AssertUnwindSafe(future).catch_unwind() => result,
            };
            end.tell(result.unwrap_or_else(|_| {
                Err("the agent failed while carrying this out; this is a defect of PocketCI".into())
            }));
        });
        let task = runtime.spawn(task);
        self.tasks.insert(call, task);
    }

    /// Drops a call's future; its promise is the caller's to settle.
    pub fn abort(&mut self, call: u64) {
        self.pending.remove(&call);
        if let Some(task) = self.tasks.get(&call) {
            task.abort();
        }
        if matches!(self.held.get(&call), Some(Some(_))) {
            self.held.remove(&call);
        }
    }

    /// Whether the call was made and has not ended.
    pub fn is_open(&self, call: u64) -> bool {
        self.tasks.contains_key(&call) || self.held.contains_key(&call)
    }

    /// Forgets a call that has told its end.
    pub fn finish(&mut self, call: u64) -> Option<Pending<'js>> {
        self.tasks.remove(&call);
        self.held.remove(&call);
        self.seen.remove(&call);
        self.pending.remove(&call)
    }

    /// Nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.held.is_empty()
    }

    /// Calls that are not carried out will not be, and have no end to wait for.
    pub fn drop_held(&mut self) {
        self.held.clear();
    }

    /// Drops the futures and gives what they clean up a moment.
    pub fn abort_all(&mut self, runtime: &Handle) {
        self.room.close();
        self.held.clear();
        let tasks: Vec<_> = std::mem::take(&mut self.tasks).into_values().collect();
        for task in &tasks {
            task.abort();
        }
        if tasks.is_empty() {
            return;
        }
        // A timeout leaves the aborted task to the runtime; it runs no more code of the call.
        let ended = runtime.block_on(async {
            tokio::time::timeout(ABORT_WAIT, futures_util::future::join_all(tasks)).await
        });
        if ended.is_err() {
            tracing::warn!("steps of an ended pipeline take long to be dropped");
        }
    }
}

/// Tells a call's end at the latest when it is dropped.
struct TellEnd {
    call: u64,
    events: mpsc::UnboundedSender<Event>,
    told: bool,
}

impl TellEnd {
    fn tell(&mut self, result: Result<Answer, Failure>) {
        self.told = true;
        // A closed channel: the job is over.
        let _ = self.events.send(Event::Done {
            call: self.call,
            result,
        });
    }
}

impl Drop for TellEnd {
    fn drop(&mut self) {
        if !self.told {
            self.tell(Err("the call was dropped: the agent is stopping".into()));
        }
    }
}

/// Turns pieces of bytes into text without tearing characters apart.
#[derive(Default)]
pub(super) struct Utf8Decoder {
    rest: Vec<u8>,
}

impl Utf8Decoder {
    /// Text so far; an unfinished character at the end waits for the next piece, wrong bytes become U+FFFD.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let keep = unfinished_tail(&self.rest);
        let tail = self.rest.split_off(self.rest.len() - keep);
        let text = String::from_utf8_lossy(&self.rest).into_owned();
        self.rest = tail;
        text
    }

    /// What is left when no more comes.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned()
    }
}

/// How many bytes at the end begin a character that needs more.
fn unfinished_tail(bytes: &[u8]) -> usize {
    let last = bytes.len().saturating_sub(3);
    for (index, byte) in bytes.iter().enumerate().skip(last).rev() {
        let length = match byte {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            0x80..=0xBF => continue,
            _ => return 0,
        };
        let have = bytes.len() - index;
        return if have < length { have } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_cut_anywhere_arrive_whole() {
        let text = "aé€😀z";
        for cut in 0..=text.len() {
            let mut decoder = Utf8Decoder::default();
            let (left, right) = text.as_bytes().split_at(cut);
            let mut got = decoder.push(left);
            got += &decoder.push(right);
            got += &decoder.finish();
            assert_eq!(got, text, "cut at {cut}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_do_not_wait_for_ever() {
        let mut decoder = Utf8Decoder::default();
        assert_eq!(decoder.push(b"a\xff\xfe"), "a\u{fffd}\u{fffd}");
        assert_eq!(decoder.push(b"\xe2\x82"), "");
        assert_eq!(decoder.finish(), "\u{fffd}");
    }
}
