//! What an agent keeps on its disk: one small file for each attempt it holds, so that its next process goes on with it.
//!
//! A file is written when the attempt's first step begins or its first journal entry is stored; jobs without either never
//! touch the disk. It is a hint: what counts is the server's word. Nothing is synced: after a crash of the machine the
//! steps are gone as well.

use crate::container::Groups;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
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
    _lock: File,
}

/// A step that was begun and has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BegunStep {
    /// Its number.
    pub step: u32,
    /// Runs of the call before this one.
    pub tries: u32,
    /// Number of the report that it started.
    pub report_seq: u32,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Content {
    /// The encoded Assign, as Base64.
    assign: String,
    /// By call of the program.
    steps: BTreeMap<u32, BegunStep>,
    /// Process groups of native steps, with the start of their first process (clock ticks since boot).
    groups: BTreeMap<i32, u64>,
}

/// The file of one attempt.
pub(crate) struct AttemptFile {
    path: PathBuf,
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
    /// Something of it had died with the earlier process: a native step, or a command of a native sandbox.
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
            match read(&path) {
                Some(found) => saved.push(found),
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
        let job = assign.r#ref.as_ref().map(|r| hex::encode(&r.job_id));
        let name = format!("{}.{ATTEMPT}", job.unwrap_or_default());
        let content = Content {
            assign: STANDARD.encode(assign.encode_to_vec()),
            ..Content::default()
        };
        AttemptFile {
            path: self.path.join(name),
            state: Mutex::new((content, State::Unwritten)),
        }
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

fn read(path: &Path) -> Option<Saved> {
    if std::fs::metadata(path).ok()?.len() > MAX_FILE_BYTES {
        return None;
    }
    let mut content: Content = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let assign = STANDARD.decode(&content.assign).ok()?;
    let assign = pb::Assign::decode(assign.as_slice()).ok()?;
    assign.r#ref.as_ref()?;
    let groups = std::mem::take(&mut content.groups);
    let interrupted = !groups.is_empty();
    for (group, started) in groups {
        kill_group(group, started);
    }
    Some(Saved {
        assign,
        interrupted,
        steps: std::mem::take(&mut content.steps),
        file: Arc::new(AttemptFile {
            path: path.to_owned(),
            state: Mutex::new((content, State::Written)),
        }),
    })
}

/// Kills what is left of a group, unless its number is another process's by now.
fn kill_group(group: i32, started: u64) {
    // While a group has members, the system gives its number to no other process.
    let is_ours = started_at(group).is_none_or(|now| now == started);
    if group > 1 && is_ours {
        // No such group: everything has ended already.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
}

/// When a process started, in clock ticks since boot (proc(5), stat, field 22).
fn started_at(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may have spaces: field 3 is what follows the last one.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
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
        if state.1 == State::Unwritten {
            self.write(&mut state);
        }
    }

    /// A step begins: before anything of it runs.
    pub(crate) fn begin_step(&self, call: u32, step: BegunStep) {
        let mut state = self.lock();
        state.0.steps.insert(call, step);
        self.write(&mut state);
    }

    /// It has ended, and that was told.
    pub(crate) fn end_step(&self, call: u32) {
        let mut state = self.lock();
        if state.0.steps.remove(&call).is_some() {
            self.write(&mut state);
        }
    }

    /// A native step leads this process group.
    pub(crate) fn begin_group(&self, group: i32) {
        let Some(started) = started_at(group) else {
            return; // it has ended
        };
        let mut state = self.lock();
        state.0.groups.insert(group, started);
        self.write(&mut state);
    }

    /// The group is gone.
    pub(crate) fn end_group(&self, group: i32) {
        let mut state = self.lock();
        if state.0.groups.remove(&group).is_some() {
            self.write(&mut state);
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
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    fn assign(job: &'static [u8]) -> pb::Assign {
        pb::Assign {
            r#ref: Some(pb::AttemptRef {
                run_id: Bytes::from_static(b"run"),
                job_id: Bytes::from_static(job),
                attempt: 3,
            }),
            pipeline_name: "p".into(),
            ..pb::Assign::default()
        }
    }

    #[test]
    fn a_directory_is_one_agents_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er");
        let first = StateDir::open(&path).unwrap();
        assert!(matches!(StateDir::open(&path), Err(StateError::InUse(_))));
        drop(first);
        StateDir::open(&path).unwrap();
    }

    #[test]
    fn the_next_process_finds_what_was_begun_and_not_ended() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let file = state.file(&assign(b"job"));
        assert!(
            state.saved().is_empty(),
            "nothing is written before it is needed"
        );
        let begun = |step| BegunStep {
            step,
            tries: 0,
            report_seq: 2,
        };
        file.begin_step(1, begun(1));
        file.begin_step(4, begun(2));
        file.end_step(1);
        drop(state);
        let state = StateDir::open(folder.path()).unwrap();
        let saved = state.saved();
        assert_eq!(saved.len(), 1);
        assert_eq!(saved[0].assign, assign(b"job"));
        assert_eq!(saved[0].steps, BTreeMap::from([(4, begun(2))]));
        let name = format!("{}.attempt", hex::encode(b"job"));
        let mode = std::fs::metadata(folder.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "nobody else reads it");
        saved[0].file.remove();
        saved[0].file.keep();
        assert!(state.saved().is_empty());
    }

    #[test]
    fn a_broken_file_is_removed_and_others_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        for name in ["a.attempt", "b.txt"] {
            std::fs::write(folder.path().join(name), "{").unwrap();
        }
        assert!(state.saved().is_empty());
        assert!(!folder.path().join("a.attempt").exists());
        assert!(folder.path().join("b.txt").exists());
    }

    #[test]
    fn groups_of_the_earlier_process_are_killed_and_a_reused_number_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let sleeper = || {
            let mut command = Command::new("sleep");
            command.arg("600").process_group(0).spawn().unwrap()
        };
        let (mut ours, mut other) = (sleeper(), sleeper());
        let (group, reused) = (ours.id() as i32, other.id() as i32);
        let file = state.file(&assign(b"job"));
        file.begin_group(group);
        file.begin_group(reused);
        file.lock().0.groups.insert(reused, 1);
        file.end_group(0);
        file.begin_step(
            1,
            BegunStep {
                step: 1,
                tries: 0,
                report_seq: 0,
            },
        );
        assert_eq!(state.saved().len(), 1);
        assert!(!ours.wait().unwrap().success());
        assert!(
            other.try_wait().unwrap().is_none(),
            "another process with that number lives"
        );
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
