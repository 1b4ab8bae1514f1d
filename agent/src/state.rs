//! What an agent keeps on its disk: one small file for each attempt it holds, so that its next process goes on with it.
//!
//! A file is written when the attempt's first step begins or its first journal entry is stored; jobs without either never
//! touch the disk. It is a hint: what counts is the server's word. Nothing is synced: after a crash of the machine the
//! steps are gone as well. Of a job that is not durable only the process groups are kept, while there are any: the next
//! process kills them and does not hold the job.

mod groups;

use crate::container::Groups;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pocketci_proto::agent as pb;
use prost::Message;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Name of the file that is locked while an agent uses the directory.
const LOCK: &str = "lock";
/// What names of attempts' files end with.
const ATTEMPT: &str = "attempt";
/// Largest file that is read: an Assign with an inline body, and some steps.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another agent has it.
    #[error(
        "{0} is in use by another agent; stop that one, or give this one another --name or --state-dir"
    )]
    InUse(PathBuf),
    /// It cannot be made or written.
    #[error("cannot use {path} as the state directory: {source}; name another with --state-dir")]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A directory that is this agent's alone.
pub(crate) struct StateDir {
    path: PathBuf,
    /// Which start of the machine this is.
    boot: String,
    _lock: File,
}

/// A step that was begun and whose end is not in the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BegunStep {
    /// Its number.
    pub step: u32,
    /// Runs of the call before this one.
    pub tries: u32,
    /// Number of the report that it started.
    pub report_seq: u32,
    /// Number of the report of its end, if it has ended.
    #[serde(default)]
    pub ended: Option<u32>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Content {
    /// Which start of the machine it was written in.
    boot: String,
    /// The encoded Assign, as Base64; empty if the attempt is not held by the next process.
    assign: String,
    /// Highest number that a step was given.
    last_step: u32,
    /// It cannot go on in another process.
    interrupted: bool,
    /// By call of the program.
    steps: BTreeMap<u32, BegunStep>,
    /// Process groups of native steps, with the start of their first process (clock ticks since boot).
    groups: BTreeMap<i32, u64>,
}

/// The file of one attempt.
pub(crate) struct AttemptFile {
    path: PathBuf,
    /// The next process goes on with the attempt; else it kills what is left of it.
    durable: bool,
    state: Mutex<(Content, State)>,
}

#[derive(PartialEq)]
enum State {
    Unwritten,
    Written,
    Removed,
}

/// What an earlier process left of an attempt.
pub(crate) struct Saved {
    pub assign: pb::Assign,
    pub steps: BTreeMap<u32, BegunStep>,
    /// Highest number that a step was given.
    pub last_step: u32,
    /// It cannot go on: a native step or a command of a native sandbox died with the earlier process, or it had no journal
    /// any more.
    pub interrupted: bool,
    pub file: Arc<AttemptFile>,
}

impl StateDir {
    /// Takes the directory, making it if it is missing.
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        let failed = |source| StateError::Io {
            path: path.to_owned(),
            source,
        };
        // What a webhook brought is in the files.
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(path).map_err(failed)?;
        let lock = private().create(true).open(path.join(LOCK));
        let lock = lock.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                boot: groups::boot(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(StateError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// The attempts that an earlier process held. Its native steps, which have lost their reader, are killed.
    pub(crate) fn saved(&self) -> Vec<Saved> {
        let Ok(entries) = std::fs::read_dir(&self.path) else {
            return Vec::new();
        };
        let mut saved = Vec::new();
        for entry in entries.flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|ending| ending != ATTEMPT) {
                continue;
            }
            match read(&path, &self.boot) {
                Some(Found::Held(found)) => saved.push(*found),
                Some(Found::Killed) => {
                    // It stays, then; its groups are dead.
                    let _ = std::fs::remove_file(&path);
                }
                None => {
                    tracing::warn!(file = %path.display(), "a file of an earlier start is not readable and is removed");
                    // It stays, then, and is met again at the next start.
                    let _ = std::fs::remove_file(&path);
                }
            }
        }
        saved
    }

    /// The file of a new attempt; not written yet.
    pub(crate) fn file(&self, assign: &pb::Assign) -> AttemptFile {
        let reference = assign.r#ref.clone().unwrap_or_default();
        // A lost attempt may not have ended when the next one of its job is assigned.
        let job = hex::encode(&reference.job_id);
        let name = format!("{job}-{}.{ATTEMPT}", reference.attempt);
        let content = Content {
            boot: self.boot.clone(),
            assign: match assign.durable {
                true => STANDARD.encode(assign.encode_to_vec()),
                false => String::new(),
            },
            ..Content::default()
        };
        AttemptFile {
            path: self.path.join(name),
            durable: assign.durable,
            state: Mutex::new((content, State::Unwritten)),
        }
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// What a file was.
enum Found {
    Held(Box<Saved>),
    /// Of an attempt that ended with its agent; what was left of it is dead.
    Killed,
}

fn read(path: &Path, boot: &str) -> Option<Found> {
    if std::fs::metadata(path).ok()?.len() > MAX_FILE_BYTES {
        return None;
    }
    let mut content: Content = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    content.interrupted |= !content.groups.is_empty();
    for (group, started) in std::mem::take(&mut content.groups) {
        // Nothing survives a boot; clocks and numbers begin anew.
        if content.boot == boot {
            groups::kill(group, started);
        }
    }
    if content.assign.is_empty() {
        return Some(Found::Killed);
    }
    let assign = STANDARD.decode(&content.assign).ok()?;
    let assign = pb::Assign::decode(assign.as_slice()).ok()?;
    assign.r#ref.as_ref()?;
    // What is written from now on is of this boot.
    boot.clone_into(&mut content.boot);
    Some(Found::Held(Box::new(Saved {
        assign,
        interrupted: content.interrupted,
        steps: content.steps.clone(),
        last_step: content.last_step,
        file: Arc::new(AttemptFile {
            path: path.to_owned(),
            durable: true,
            state: Mutex::new((content, State::Written)),
        }),
    })))
}

impl Groups for AttemptFile {
    fn began(&self, group: i32) {
        self.begin_group(group);
    }

    fn ended(&self, group: i32) {
        self.end_group(group);
    }
}

impl AttemptFile {
    fn lock(&self) -> MutexGuard<'_, (Content, State)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that the file is there.
    pub(crate) fn keep(&self) {
        let mut state = self.lock();
        if self.durable && state.1 == State::Unwritten {
            self.write(&mut state);
        }
    }

    /// A step begins: before anything of it runs.
    pub(crate) fn begin_step(&self, call: u32, step: BegunStep) {
        if !self.durable {
            return;
        }
        let mut state = self.lock();
        state.0.last_step = state.0.last_step.max(step.step);
        state.0.steps.insert(call, step);
        self.write(&mut state);
    }

    /// It has ended, which report `report_seq` tells. It may not be run again, so it is remembered until the journal has
    /// its end.
    pub(crate) fn end_step(&self, step: u32, report_seq: u32) {
        let mut state = self.lock();
        let begun = state.0.steps.values_mut().find(|begun| begun.step == step);
        if let Some(begun) = begun {
            begun.ended = Some(report_seq);
            self.write(&mut state);
        }
    }

    /// The journal has the ends of these calls. Written with the next change: whoever reads the journal does not ask
    /// about them.
    pub(crate) fn settle(&self, calls: impl IntoIterator<Item = u32>) {
        let mut state = self.lock();
        for call in calls {
            state.0.steps.remove(&call);
        }
    }

    /// There is no journal any more, so no other process can go on with the attempt.
    pub(crate) fn interrupt(&self) {
        if self.durable {
            let mut state = self.lock();
            state.0.interrupted = true;
            self.write(&mut state);
        }
    }

    /// A native step leads this process group.
    pub(crate) fn begin_group(&self, group: i32) {
        let Some(started) = groups::started_at(group) else {
            return; // it has ended
        };
        let mut state = self.lock();
        state.0.groups.insert(group, started);
        self.write(&mut state);
    }

    /// The group is gone.
    pub(crate) fn end_group(&self, group: i32) {
        let mut state = self.lock();
        if state.0.groups.remove(&group).is_none() {
            return;
        }
        if self.durable || !state.0.groups.is_empty() {
            self.write(&mut state);
        } else if state.1 == State::Written {
            // What stays names a group that has ended.
            let _ = std::fs::remove_file(&self.path);
            state.1 = State::Unwritten;
        }
    }

    /// The attempt is over.
    pub(crate) fn remove(&self) {
        let mut state = self.lock();
        if state.1 == State::Written {
            // What stays is asked about at the next start, and killed.
            let _ = std::fs::remove_file(&self.path);
        }
        state.1 = State::Removed;
    }

    /// Whole or not at all. Small, and seldom beside what a step costs; so the few callers wait for it.
    fn write(&self, state: &mut (Content, State)) {
        if state.1 == State::Removed {
            return;
        }
        let new = self.path.with_extension("new");
        let written = serde_json::to_vec(&state.0)
            .map_err(std::io::Error::other)
            .and_then(|content| {
                let mut file = private().create(true).truncate(true).open(&new)?;
                file.write_all(&content)?;
                std::fs::rename(&new, &self.path)
            });
        match written {
            Ok(()) => state.1 = State::Written,
            Err(error) => {
                tracing::warn!(%error, "cannot write the state of a job; it will not survive this agent's restart");
            }
        }
    }
}

#[cfg(test)]
mod tests;
