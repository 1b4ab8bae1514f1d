//! What a message is about: its event, its delivery and what its sender wants answered at once.

use super::{Binding, IncomingRequest, ProviderKind, slack};

/// What a verified message says of itself. Senders sign no headers: what was read there is as good as the connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// `http.request().eventType`; empty if there is none.
    pub event_type: String,
    /// What the event is more exactly (GitHub's `action`, the type of Slack's inner event).
    pub detail: Option<String>,
    /// The same for every try of one delivery.
    pub delivery_id: Option<String>,
    /// Number of this try, from 1.
    pub attempt: Option<u32>,
}

/// An answer that needs no run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// HTTP status.
    pub status: u16,
    /// Header lines.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The body.
    pub body: String,
}

/// The facts of a message, which the caller has verified. The body is parsed only for senders that say them there.
pub fn facts(_binding: &Binding, kind: ProviderKind, request: &IncomingRequest) -> Facts {
    let event_type = match kind {
        ProviderKind::GitHub => request
            .headers
            .get("x-github-event")
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .unwrap_or_default(),
        ProviderKind::Slack => slack::event_type(request),
        _ => String::new(),
    };
    Facts {
        event_type,
        ..Facts::default()
    }
}

/// What the sender wants answered at once, if the message is of that kind; the caller has verified it.
pub fn handshake(_kind: ProviderKind, _request: &IncomingRequest) -> Option<Handshake> {
    None
}
