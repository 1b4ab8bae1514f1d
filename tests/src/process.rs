//! The shipped program as processes: servers and agents that can be killed, paused and started again.

use crate::Client;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a process may take to say that it is ready, or to end.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// The agents' token of every test server.
const AGENT_TOKEN: &str = "test-agent-token";

/// The program under test; built once if it is not there.
pub fn pocketci() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let test = std::env::current_exe().expect("own path");
        let profile = test
            .parent()
            .and_then(Path::parent)
            .expect("target/<profile>/deps");
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--locked", "-p", "pocketci"])
            .args(if profile.ends_with("release") {
                &["--release"][..]
            } else {
                &[]
            })
            .status()
            .expect("cargo runs");
        assert!(built.success(), "pocketci does not build");
        profile.join("pocketci")
    })
}

/// Runs a command of the program to its end.
pub fn run(args: &[&str]) -> Output {
    Command::new(pocketci())
        .args(args)
        .env_remove("CI_AUTH_TOKEN")
        .env_remove("CI_SERVER_URL")
        .output()
        .expect("pocketci runs")
}

/// Runs a command with something on its stdin.
pub fn run_with_input(args: &[&str], input: &str) -> Output {
    use std::io::Write;
    let mut child = Command::new(pocketci())
        .args(args)
        .env_remove("CI_AUTH_TOKEN")
        .env_remove("CI_SERVER_URL")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("pocketci runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

/// A process of the program that ends with this.
pub struct Process {
    child: Child,
    log: PathBuf,
    name: String,
}

impl Process {
    fn start(name: &str, args: &[String], log: PathBuf) -> Self {
        let out = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("a log file");
        let child = Command::new(pocketci())
            .args(args)
            .env("POCKETCI_LOG", "info")
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("the log again"))
            .stderr(out)
            .spawn()
            .expect("pocketci starts");
        Self {
            child,
            log,
            name: name.to_owned(),
        }
    }

    /// Everything it printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a process id"));
        kill(pid, signal).expect("the process can be signalled");
    }

    /// kill -9, and gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end; the exit code.
    pub fn wait(&mut self) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self
                .child
                .try_wait()
                .expect("the process can be waited for")
            {
                return status.code();
            }
            assert!(
                started.elapsed() < READY_WITHIN,
                "{} does not end:\n{}",
                self.name,
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The rest of the last line that begins with `prefix`, once there are more than `after` bytes of log.
    fn line(&mut self, prefix: &str, after: usize) -> String {
        let started = Instant::now();
        loop {
            let log = self.log();
            let fresh = log.get(after..).unwrap_or_default();
            let complete = &fresh[..fresh.rfind('\n').map_or(0, |at| at + 1)];
            if let Some(rest) = complete.lines().find_map(|line| line.strip_prefix(prefix)) {
                return rest.to_owned();
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("{} ended with {status}:\n{log}", self.name);
            }
            assert!(
                started.elapsed() < READY_WITHIN,
                "{} is not ready:\n{log}",
                self.name
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}", self.name, self.log());
        }
    }
}

/// A command that goes on, for tests that signal it.
pub fn start(args: &[&str], home: &Path) -> Process {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    Process::start("pocketci", &args, home.join("command.log"))
}

/// How to start a server.
pub struct ServerOptions {
    /// `--storage`; a file of its own if absent.
    pub storage: Option<String>,
    /// Whether jobs run in the same process.
    pub local_agent: bool,
    /// More flags.
    pub flags: Vec<&'static str>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            storage: None,
            local_agent: true,
            flags: Vec::new(),
        }
    }
}

/// A server process.
pub struct Server {
    /// The process.
    pub process: Process,
    /// Where HTTP is answered.
    pub url: String,
    /// Where agents connect.
    pub grpc: String,
    args: Vec<String>,
    home: TempDir,
}

impl Server {
    /// Starts one and waits until it answers.
    pub async fn start(options: ServerOptions) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let storage = options
            .storage
            .unwrap_or_else(|| format!("sqlite://{}", home.path().join("test.db").display()));
        let mut args: Vec<String> = [
            "server",
            "--agent-token",
            AGENT_TOKEN,
            "--driver",
            "native,docker",
            "--storage",
        ]
        .map(String::from)
        .to_vec();
        let shared = storage.starts_with("postgres");
        args.push(storage);
        if shared
            && !options
                .flags
                .iter()
                .any(|flag| flag.starts_with("--secret-key"))
        {
            // Servers of one database need one key.
            args.extend(["--secret-key".into(), "07".repeat(32)]);
        }
        if !options.local_agent {
            args.push("--no-local-agent".into());
        }
        args.extend(options.flags.into_iter().map(String::from));
        let mut server = Self {
            process: spawn(&args, 0, 0, &home),
            url: String::new(),
            grpc: String::new(),
            args,
            home,
        };
        server.ready(0).await;
        server
    }

    async fn ready(&mut self, after: usize) {
        self.url = self.process.line("listening on ", after);
        self.grpc = self.process.line("agents connect to ", after);
        let client = self.client();
        crate::until("the server is ready", || async {
            client
                .get("/readyz")
                .await
                .ok()
                .filter(|answer| answer.0 == 200)
        })
        .await;
        if !self.args.contains(&"--no-local-agent".to_owned()) {
            self.agents_connected(1).await;
        }
    }

    /// Waits until so many agents are connected.
    pub async fn agents_connected(&self, count: usize) {
        let client = self.client();
        crate::until("agents are connected", || async {
            let (_, agents) = client.get("/api/agents").await.ok()?;
            let connected = agents
                .as_array()?
                .iter()
                .filter(|agent| agent["status"] == "connected")
                .count();
            (connected >= count).then_some(())
        })
        .await;
    }

    /// Kills it and starts it again on the same ports and storage.
    pub async fn kill_and_restart(&mut self) {
        self.process.kill();
        self.restart().await;
    }

    /// Starts it again on the same ports and storage after it has ended.
    pub async fn restart(&mut self) {
        let port = |url: &str| {
            url.rsplit_once(':')
                .and_then(|(_, port)| port.parse().ok())
                .expect("a port")
        };
        let after = self.process.log().len();
        self.process = spawn(&self.args, port(&self.url), port(&self.grpc), &self.home);
        self.ready(after).await;
    }

    /// Its API.
    pub fn client(&self) -> Client {
        Client::new(&self.url)
    }

    /// Starts it again with other flags, on the same ports and storage.
    pub async fn restart_with(&mut self, more: &[&str]) {
        self.process.kill();
        self.args.extend(more.iter().map(|flag| (*flag).to_owned()));
        self.restart().await;
    }

    /// Where it keeps its files.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// What it says when it cannot start with these flags on the same storage: exit code and words.
    pub fn refuses(&mut self, more: &[&str]) -> (Option<i32>, String) {
        self.process.kill();
        let mut args = self.args.clone();
        args.extend(more.iter().map(|flag| (*flag).to_owned()));
        let after = self.process.log().len();
        self.process = spawn(&args, 0, 0, &self.home);
        let code = self.process.wait();
        (code, self.process.log().split_off(after))
    }

    /// An agent for this server.
    pub fn agent(&self, name: &str, flags: &[&str]) -> Agent {
        Agent::start(&self.grpc, name, flags)
    }
}

fn spawn(args: &[String], port: u16, grpc_port: u16, home: &TempDir) -> Process {
    let mut args = args.to_vec();
    args.extend([
        "--port".into(),
        port.to_string(),
        "--grpc-port".into(),
        grpc_port.to_string(),
    ]);
    Process::start("server", &args, home.path().join("server.log"))
}

/// An agent process.
pub struct Agent {
    /// The process.
    pub process: Process,
    name: String,
    args: Vec<String>,
    home: TempDir,
}

impl Agent {
    /// Starts one; it connects when it can.
    pub fn start(grpc: &str, name: &str, flags: &[&str]) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let mut args: Vec<String> = [
            "agent",
            "--server",
            grpc,
            "--token",
            AGENT_TOKEN,
            "--name",
            name,
        ]
        .map(String::from)
        .to_vec();
        if !flags.contains(&"--driver") {
            args.extend(["--driver".into(), "native,docker".into()]);
        }
        if let Ok(host) = std::env::var("POCKETCI_TEST_DOCKER_HOST") {
            args.extend(["--docker-host".into(), host]);
        }
        if !flags.contains(&"--state-dir") {
            args.extend([
                "--state-dir".into(),
                home.path().join("state").display().to_string(),
            ]);
        }
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        Self {
            process: Process::start(name, &args, home.path().join("agent.log")),
            name: name.to_owned(),
            args,
            home,
        }
    }

    /// Kills it and starts it again with the same name, flags and state.
    pub fn kill_and_restart(&mut self) {
        self.process.kill();
        let log = self.home.path().join("agent.log");
        self.process = Process::start(&self.name, &self.args, log);
    }
}
