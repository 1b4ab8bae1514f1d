//! Runs one job's JavaScript in a fresh QuickJS context.
//!
//! Reading order: `host` (what a job may ask of the world), `limits` (what stops it), `supervisor` (the job's own
//! thread), `engine` (module, export, end), `modules` (what it imports), `event_loop`, `calls` and `timers` (what it waits for), `request` and `answer` (what goes to the host and comes back), `issue` and `journal` (what of it is remembered), `failure` and
//! `position` (how an error is told), `value`, `inspect`, `layout` and `format` (reading and showing JavaScript values), `globals` (one a file).

mod answer;
mod calls;
mod engine;
mod event_loop;
mod failure;
mod format;
mod globals;
pub mod host;
mod inspect;
mod issue;
pub mod journal;
mod layout;
mod limits;
mod modules;
mod position;
mod rejections;
mod replay;
pub mod request;
mod shared;
mod supervisor;
mod timers;
mod value;

pub use limits::Limits;
pub use supervisor::{execute, run};

/// A pipeline's program, ready to run.
#[derive(Clone, Default)]
pub struct Program {
    /// What positions in errors name, for example `main.ts`.
    pub file_name: String,
    /// An ES module.
    pub javascript: String,
    /// Source map (JSON) from `javascript` back to `source`; `None` when they are the same text.
    pub source_map: Option<String>,
    /// The author's own text, for code frames.
    pub source: String,
    /// What it imports, directly or not.
    pub modules: Vec<Module>,
}

/// A file that a program imports.
#[derive(Clone, Default)]
pub struct Module {
    /// Path relative to the program's folder, for example `lib/version.ts`.
    pub name: String,
    /// An ES module.
    pub javascript: String,
    /// See [`Program::source_map`].
    pub source_map: Option<String>,
    /// The author's own text.
    pub source: String,
}

/// How a job's JavaScript ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEnd {
    /// The pipeline's promise resolved, and everything it had started has ended.
    Succeeded,
    /// The author's program failed.
    Failed {
        /// The error with its stack in the author's lines and a code frame.
        message: String,
    },
    /// A limit or PocketCI itself ended it.
    Errored {
        /// `cpu_limit`, `memory_limit` or `internal`.
        reason: &'static str,
        /// What happened, and the way out.
        message: String,
    },
    /// The run was cancelled; nothing of it runs any more.
    Aborted,
    /// The program went another way than its journal says; nothing of this try counts.
    Diverged {
        /// Where.
        message: String,
    },
}
