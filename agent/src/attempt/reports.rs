//! What an attempt tells: numbered without holes, sent in order, kept until acknowledged, sent again after a reconnect.

use pb::report::Kind;
use pocketci_proto::INLINE_BODY_BYTES;
use pocketci_proto::agent as pb;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

/// A reply too large for one Session message, to be uploaded; reports after it wait for its acknowledgement.
pub struct ReplyUpload {
    /// Whose.
    pub attempt: pb::AttemptRef,
    /// Its number.
    pub seq: u32,
    /// What.
    pub respond: pb::Respond,
}

/// Where reports go while connected.
#[derive(Clone)]
pub struct Outlet {
    /// The Session stream. Unbounded, as reports are few and small and must never block the job's thread.
    pub session: mpsc::UnboundedSender<pb::AgentMessage>,
    /// Whoever uploads large replies.
    pub uploads: mpsc::UnboundedSender<ReplyUpload>,
}

/// The reports of one attempt.
pub struct Reports {
    attempt: pb::AttemptRef,
    state: Mutex<State>,
    acknowledged: Notify,
}

#[derive(Default)]
struct State {
    next_seq: u32,
    unacked: VecDeque<(u32, Kind)>,
    sent_seq: u32,
    uploading: bool,
    outlet: Option<Outlet>,
    accepted_sent: Option<Instant>,
    closed: bool,
    over: bool,
}

impl Reports {
    /// No report yet.
    pub fn new(attempt: pb::AttemptRef, outlet: Option<Outlet>) -> Self {
        let state = State {
            outlet,
            ..State::default()
        };
        Self {
            attempt,
            state: Mutex::new(state),
            acknowledged: Notify::new(),
        }
    }

    /// Those of an attempt that another process began: everything up to `seq` is stored.
    pub fn resumed(attempt: pb::AttemptRef, outlet: Option<Outlet>, seq: u32) -> Self {
        let reports = Self::new(attempt, outlet);
        {
            let mut state = reports.state();
            state.next_seq = seq;
            state.sent_seq = seq;
        }
        reports
    }

    /// Waits until everything reported so far is acknowledged, or nothing more is told.
    pub async fn settled(&self) {
        let last = self.state().next_seq;
        loop {
            let acknowledged = self.acknowledged.notified();
            let mut acknowledged = std::pin::pin!(acknowledged);
            acknowledged.as_mut().enable();
            {
                let state = self.state();
                let open = state.unacked.front().is_some_and(|(seq, _)| *seq <= last);
                if !open || state.closed {
                    return;
                }
            }
            acknowledged.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports, and answers the report's number; after Finished, or once the attempt is lost, nothing more is told.
    pub fn add(&self, kind: Kind) -> u32 {
        let mut state = self.state();
        if state.closed || state.over {
            return state.next_seq;
        }
        let kind = bounded(kind);
        state.over = matches!(kind, Kind::Finished(_) | Kind::Rejected(_));
        state.next_seq += 1;
        let seq = state.next_seq;
        state.unacked.push_back((seq, kind));
        self.pump(&mut state);
        seq
    }

    /// Sends what is not sent, as far as the order allows.
    fn pump(&self, state: &mut State) {
        let Some(outlet) = state.outlet.clone() else {
            return;
        };
        while !state.uploading {
            let sent = state.sent_seq;
            let Some((seq, kind)) = state.unacked.iter().find(|(seq, _)| *seq > sent).cloned()
            else {
                return;
            };
            state.sent_seq = seq;
            match kind {
                Kind::Respond(respond) if respond.body.len() > INLINE_BODY_BYTES => {
                    state.uploading = true;
                    let upload = ReplyUpload {
                        attempt: self.attempt.clone(),
                        seq,
                        respond,
                    };
                    // A closed channel means that the connection has ended; the next one starts again.
                    let _ = outlet.uploads.send(upload);
                }
                kind => {
                    if matches!(kind, Kind::Accepted(_)) {
                        state.accepted_sent = Some(Instant::now());
                    }
                    let report = pb::Report {
                        r#ref: Some(self.attempt.clone()),
                        seq,
                        kind: Some(kind),
                    };
                    // See above.
                    let _ = outlet.session.send(pb::AgentMessage {
                        kind: Some(pb::agent_message::Kind::Report(report)),
                    });
                }
            }
        }
    }

    /// A new connection: the server has everything up to `seq`; the rest is sent (again).
    pub fn connect(&self, outlet: Outlet, seq: u32) {
        let mut state = self.state();
        state.unacked.retain(|(known, _)| *known > seq);
        state.outlet = Some(outlet);
        state.sent_seq = seq;
        state.uploading = false;
        self.pump(&mut state);
        self.acknowledged.notify_waiters();
    }

    /// The connection has ended; reports are kept.
    pub fn disconnect(&self) {
        self.state().outlet = None;
    }

    /// The server has everything up to `seq`.
    pub fn acknowledge(&self, seq: u32) {
        let mut state = self.state();
        state.unacked.retain(|(known, _)| *known > seq);
        if state.uploading && state.sent_seq <= seq {
            state.uploading = false;
        }
        self.pump(&mut state);
        self.acknowledged.notify_waiters();
    }

    /// When Accepted was sent on this connection.
    pub fn accepted_sent(&self) -> Option<Instant> {
        self.state().accepted_sent
    }

    /// Whether the last report is acknowledged.
    pub fn is_over(&self) -> bool {
        let state = self.state();
        state.over && state.unacked.is_empty()
    }

    /// Nothing more is told.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.unacked.clear();
        self.acknowledged.notify_waiters();
    }
}

/// Longest text in a report, in bytes: a message that the server cannot take would be sent again for ever.
const MAX_TEXT_BYTES: usize = 32 * 1024;

/// The report with its texts cut to what travels in one message.
fn bounded(mut kind: Kind) -> Kind {
    let cut = |text: &mut String| {
        if text.len() > MAX_TEXT_BYTES {
            text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
            text.push('…');
        }
    };
    match &mut kind {
        Kind::StepStarted(step) => {
            cut(&mut step.name);
            cut(&mut step.image);
        }
        Kind::StepFinished(step) => cut(&mut step.message),
        Kind::Rejected(rejected) => cut(&mut rejected.reason),
        Kind::Finished(finished) => cut(&mut finished.message),
        // Bounded where they are read.
        Kind::Accepted(_) | Kind::Respond(_) | Kind::Noted(_) => {}
    }
    kind
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    type Sent = (
        mpsc::UnboundedReceiver<pb::AgentMessage>,
        mpsc::UnboundedReceiver<ReplyUpload>,
    );

    fn outlet() -> (Outlet, Sent) {
        let (session, sent) = mpsc::unbounded_channel();
        let (uploads, uploaded) = mpsc::unbounded_channel();
        (Outlet { session, uploads }, (sent, uploaded))
    }

    fn seqs(sent: &mut Sent) -> Vec<u32> {
        std::iter::from_fn(|| sent.0.try_recv().ok())
            .filter_map(|message| match message.kind {
                Some(pb::agent_message::Kind::Report(report)) => Some(report.seq),
                _ => None,
            })
            .collect()
    }

    fn step() -> Kind {
        Kind::StepStarted(pb::StepStarted::default())
    }

    #[test]
    fn after_a_reconnect_the_unacknowledged_are_sent_again_in_order() {
        let (first, mut sent) = outlet();
        let reports = Reports::new(pb::AttemptRef::default(), Some(first));
        for _ in 0..4 {
            reports.add(step());
        }
        assert_eq!(seqs(&mut sent), [1, 2, 3, 4]);
        reports.acknowledge(1);
        reports.disconnect();
        reports.add(step());
        let (second, mut sent) = outlet();
        reports.connect(second, 2);
        assert_eq!(seqs(&mut sent), [3, 4, 5]);
    }

    #[test]
    fn reports_after_a_large_reply_wait_for_it() {
        let (first, mut sent) = outlet();
        let reports = Reports::new(pb::AttemptRef::default(), Some(first));
        reports.add(step());
        reports.add(Kind::Respond(pb::Respond {
            body: Bytes::from(vec![0; INLINE_BODY_BYTES + 1]),
            ..Default::default()
        }));
        reports.add(step());
        assert_eq!(seqs(&mut sent), [1]);
        assert_eq!(sent.1.try_recv().map(|upload| upload.seq).ok(), Some(2));
        reports.acknowledge(1);
        assert!(seqs(&mut sent).is_empty());
        reports.acknowledge(2);
        assert_eq!(seqs(&mut sent), [3]);
    }

    #[test]
    fn a_huge_text_is_cut_instead_of_sent_again_for_ever() {
        let (first, mut sent) = outlet();
        let reports = Reports::new(pb::AttemptRef::default(), Some(first));
        reports.add(Kind::StepStarted(pb::StepStarted {
            name: "é".repeat(3 << 20),
            ..Default::default()
        }));
        let message = sent.0.try_recv().unwrap();
        assert!(prost::Message::encoded_len(&message) < 64 * 1024);
    }

    #[test]
    fn nothing_is_told_after_the_end() {
        let (first, mut sent) = outlet();
        let reports = Reports::new(pb::AttemptRef::default(), Some(first));
        reports.add(Kind::Finished(pb::Finished::default()));
        reports.add(step());
        assert_eq!(seqs(&mut sent), [1]);
        assert!(!reports.is_over());
        reports.acknowledge(1);
        assert!(reports.is_over());
    }
}
