//! Terminals in steps, as the API speaks of them.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

/// A step that can be looked into: it runs, or what it left is kept.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TerminalStep {
    /// Job it belongs to.
    pub job: String,
    /// Attempt in which it ran.
    pub attempt: i32,
    /// Number in its attempt, from 1.
    pub step: i32,
    /// The author's name for it.
    pub name: String,
    /// `task`, `get`, …
    pub kind: String,
    /// Which agent has it.
    pub agent: String,
    /// `running`, `complete`, `abort` or `error`.
    pub status: String,
    /// Of the process, once it ended by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Until when what it left is kept, at most.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub kept_until: Option<OffsetDateTime>,
}

/// A terminal's size, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TerminalSize {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// A text frame of a terminal's WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TerminalMessage {
    /// Up: the terminal's size is another one now.
    Resize(TerminalSize),
    /// Up: `true` ends the input.
    End(bool),
    /// Down, last: the process's exit code.
    Exit(i32),
    /// Down, last: why there is none; a sentence for people.
    Error(String),
}
