//! A server or an agent that is always started again, on the same address with the same flags.

use crate::pocketci;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a process that ended by itself stays away, as under any supervisor.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Lines shown of a process when a test fails.
const TAIL_LINES: usize = 60;

/// See the module. It starts stopped.
pub struct Member {
    /// `server-0`, `agent-2`.
    pub name: String,
    args: Vec<String>,
    log: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    child: Option<Child>,
    /// Whether it should run.
    wanted: bool,
    ended: Option<Instant>,
    /// Times it ended though nobody had killed it.
    own_ends: usize,
}

impl Member {
    /// With these arguments of `pocketci`; output is appended to `log`.
    pub fn new(name: &str, args: Vec<String>, log: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            args,
            log,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts it, and from now on again whenever it ends; see [`Member::look_after`].
    pub fn start(&self) {
        let mut state = self.state();
        state.wanted = true;
        if state.child.is_none() {
            state.child = Some(self.spawn());
        }
    }

    fn spawn(&self) -> Child {
        let out = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .expect("a log file");
        Command::new(pocketci())
            .args(&self.args)
            .env("POCKETCI_LOG", "info")
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("the log again"))
            .stderr(out)
            .spawn()
            .expect("pocketci starts")
    }

    /// kill -9, and gone; it stays away until [`Member::start`].
    pub fn kill(&self) {
        let mut state = self.state();
        state.wanted = false;
        if let Some(mut child) = state.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends a signal, if it runs.
    pub fn signal(&self, signal: Signal) {
        if let Some(child) = &self.state().child {
            let pid = Pid::from_raw(child.id().try_into().expect("a process id"));
            kill(pid, signal).expect("the process can be signalled");
        }
    }

    /// Sends SIGTERM and does not start it again; the exit status comes from [`Member::ended`].
    pub fn terminate(&self) {
        self.state().wanted = false;
        self.signal(Signal::SIGTERM);
    }

    /// How it ended, once it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        let mut state = self.state();
        let status = state.child.as_mut()?.try_wait().ok()??;
        state.child = None;
        Some(status)
    }

    /// Starts it again if it has ended by itself a moment ago.
    pub fn look_after(&self) {
        let mut state = self.state();
        if let Some(child) = &mut state.child
            && let Ok(Some(_)) = child.try_wait()
            && state.wanted
        {
            state.child = None;
            state.own_ends += 1;
            state.ended = Some(Instant::now());
        }
        let rested = state
            .ended
            .is_none_or(|ended| ended.elapsed() >= AGAIN_AFTER);
        if state.wanted && state.child.is_none() && rested {
            state.child = Some(self.spawn());
        }
    }

    /// Times it ended though nobody had killed it: a server without a database cannot start.
    pub fn own_ends(&self) -> usize {
        self.state().own_ends
    }

    /// The last lines of its log.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// Everything it printed, all its lives.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}
