//! Terminals that are being opened: who waits, paired with the agent's stream that answers.
//!
//! Everything is in memory: a terminal lives between one request and one session of the same server, and ends with either.

use super::dispatch::SessionEntry;
use crate::model::SessionId;
use pb::terminal_down::Kind as Down;
use pb::terminal_up::Kind as Up;
use pocketci_proto::agent as pb;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// How long an agent may take to answer; it has nothing to start for that.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A terminal's stream, as the user's side has it. Dropped, it ends the process.
pub struct Terminal {
    /// From the agent; bounded by the window of the protocol. Ends without Exit or Failed if the agent has gone.
    pub up: mpsc::UnboundedReceiver<Up>,
    /// To the agent; whoever sends keeps to the window.
    pub down: mpsc::UnboundedSender<Down>,
}

/// Why there is no terminal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoTerminal {
    /// The agent's words.
    #[error("{0}")]
    Refused(String),
    /// It said nothing.
    #[error(
        "the agent did not answer in time; it may be older than this server, or its connection broke: try again"
    )]
    Silent,
}

/// See the module.
#[derive(Default)]
pub struct Terminals {
    waiting: Mutex<HashMap<Uuid, Waiting>>,
}

struct Waiting {
    session: SessionId,
    answer: oneshot::Sender<Result<Terminal, NoTerminal>>,
}

/// Somebody waits for the terminal; nobody else can answer any more.
pub struct Claimed(oneshot::Sender<Result<Terminal, NoTerminal>>);

impl Claimed {
    /// Answers with the stream; `false` if nobody waits any more.
    pub fn open(self, terminal: Terminal) -> bool {
        self.0.send(Ok(terminal)).is_ok()
    }

    /// Answers that there is none.
    pub fn refuse(self, message: String) {
        // Nobody waits any more: nobody to be told.
        let _ = self.0.send(Err(NoTerminal::Refused(message)));
    }
}

/// Forgets who waited, however that ended.
struct Wait<'a> {
    terminals: &'a Terminals,
    id: Uuid,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.terminals.waiting().remove(&self.id);
    }
}

impl Terminals {
    fn waiting(&self) -> MutexGuard<'_, HashMap<Uuid, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the session's agent for a terminal, and waits for its stream.
    ///
    /// # Errors
    /// The agent refuses, or says nothing in time.
    pub async fn open(
        &self,
        session: &Arc<SessionEntry>,
        mut asked: pb::OpenTerminal,
    ) -> Result<Terminal, NoTerminal> {
        let id = Uuid::new_v4();
        asked.terminal_id = id.as_bytes().to_vec().into();
        let (answer, answered) = oneshot::channel();
        let session_id = session.session_id;
        self.waiting().insert(
            id,
            Waiting {
                session: session_id,
                answer,
            },
        );
        let _wait = Wait {
            terminals: self,
            id,
        };
        if !session.tell(pb::server_message::Kind::OpenTerminal(asked)) {
            return Err(NoTerminal::Silent);
        }
        match tokio::time::timeout(ANSWER_WITHIN, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(NoTerminal::Silent),
        }
    }

    /// The one who waits for this terminal of this session, once.
    pub fn claim(&self, id: &[u8], session: SessionId) -> Option<Claimed> {
        let id = Uuid::from_slice(id).ok()?;
        let mut waiting = self.waiting();
        if waiting.get(&id)?.session != session {
            return None;
        }
        waiting.remove(&id).map(|waiting| Claimed(waiting.answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::agent::Registration;
    use crate::model::{AgentId, BootId, TokenId};

    fn session() -> Arc<SessionEntry> {
        let registration = Registration {
            name: "a".into(),
            boot_id: BootId::new(),
            succeeds: false,
            session_id: SessionId::new(),
            token_id: TokenId::new(),
            slots: 1,
            labels: Default::default(),
            drivers: Vec::new(),
            version: String::new(),
        };
        SessionEntry::new(&registration, AgentId::new()).0
    }

    fn asked(session: &SessionEntry) -> pb::OpenTerminal {
        match session.take_told().pop() {
            Some(pb::server_message::Kind::OpenTerminal(asked)) => asked,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_session_that_was_asked_answers_and_only_once() {
        let terminals = Terminals::default();
        let (session, other) = (session(), session());
        let answering = async {
            tokio::task::yield_now().await;
            let id = asked(&session).terminal_id;
            assert!(terminals.claim(&id, other.session_id).is_none());
            let claimed = terminals.claim(&id, session.session_id).unwrap();
            assert!(terminals.claim(&id, session.session_id).is_none());
            claimed.refuse("no".into());
        };
        let opening = terminals.open(&session, pb::OpenTerminal::default());
        let (opened, ()) = tokio::join!(opening, answering);
        assert_eq!(opened.err(), Some(NoTerminal::Refused("no".into())));
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_says_nothing_is_not_waited_for_for_ever() {
        let terminals = Terminals::default();
        let session = session();
        let opened = terminals.open(&session, pb::OpenTerminal::default()).await;
        assert_eq!(opened.err(), Some(NoTerminal::Silent));
        assert!(terminals.waiting().is_empty());
    }
}
