//! A message of an event and its listeners: each gets a run of its own, with an outcome of its own.

use super::{PipelineId, ReceiptId, RunId, derived};
use std::collections::HashMap;
use std::time::Duration;
use time::OffsetDateTime;

/// How long a listener is tried that is paused or finds the queue full.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(7 * 86_400);

/// A pipeline that listens to an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Which.
    pub pipeline_id: PipelineId,
    /// Expressions, one of which must be true; `None` among them takes every message.
    pub filters: Vec<Option<String>>,
}

/// What became of a message for one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetState {
    /// Its run is to be started; the reason says what kept it from that so far.
    Pending,
    /// Its run is stored.
    Started,
    /// Its filter said no.
    Filtered,
    /// It cannot be started: the reason says why.
    Dropped,
}

impl TargetState {
    /// The word in the database and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Started => "started",
            Self::Filtered => "filtered",
            Self::Dropped => "dropped",
        }
    }

    /// Reads what [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Started, Self::Filtered, Self::Dropped]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// A message for one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageTarget {
    /// The message.
    pub receipt_id: ReceiptId,
    /// The listener.
    pub pipeline_id: PipelineId,
    /// Its run, whether or not it is stored yet: see [`run_of`].
    pub run_id: RunId,
    /// What became of it.
    pub state: TargetState,
    /// For the operator.
    pub reason: String,
    /// How often it was tried in vain.
    pub tries: i32,
}

impl MessageTarget {
    /// Of the targets of a message that came before, those to be started again: for whom the earlier one does not
    /// stand any more. Whoever listens only since then is not told of what was.
    pub fn once_more(targets: Vec<Self>, earlier_stands: &HashMap<PipelineId, bool>) -> Vec<Self> {
        let failed = |target: &Self| earlier_stands.get(&target.pipeline_id) == Some(&false);
        targets.into_iter().filter(failed).collect()
    }
}

/// The one run that a message starts for a listener: whoever starts it names the same.
pub fn run_of(
    received_at: OffsetDateTime,
    receipt_id: ReceiptId,
    pipeline_id: PipelineId,
) -> RunId {
    let parts: [&[u8]; 3] = [b"event", receipt_id.0.as_bytes(), pipeline_id.0.as_bytes()];
    derived::run_id(received_at, &parts)
}

/// Shortest and longest time until a listener is tried again.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How long to wait after so many tries in vain.
pub fn backoff(tries: i32) -> Duration {
    let doubled = BACKOFF.0.saturating_mul(1 << tries.clamp(0, 10));
    doubled.min(BACKOFF.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_one_run_for_each_listener() {
        let (at, receipt) = (OffsetDateTime::now_utc(), ReceiptId::new());
        let (one, two) = (PipelineId::new(), PipelineId::new());
        assert_eq!(run_of(at, receipt, one), run_of(at, receipt, one));
        assert_ne!(run_of(at, receipt, one), run_of(at, receipt, two));
        assert_ne!(run_of(at, receipt, one), run_of(at, ReceiptId::new(), one));
    }

    #[test]
    fn waiting_grows_to_a_minute() {
        assert_eq!(backoff(0), Duration::from_secs(1));
        assert_eq!(backoff(3), Duration::from_secs(8));
        assert_eq!(backoff(1000), Duration::from_secs(60));
    }
}
