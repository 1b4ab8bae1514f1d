//! Running `git`: nothing of the agent's own configuration, no questions, no secrets on a command line, and no process
//! that outlives its call.

use super::uri::{self, Login, Uri};
use super::{Source, wrong};
use crate::container::leftovers::directory_prefix;
use crate::resource::built_in::Call;
use crate::resource::{StepIo, Stop};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use pocketci_proto::api::Driver as DriverName;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::Command;

/// Most that is read of what git answers: a list of a hundred thousand commits fits.
const MAX_ANSWER_BYTES: u64 = 8 << 20;
/// Longest line of git's that is passed on whole.
const MAX_LINE_BYTES: u64 = 16 << 10;
/// What a token's user is called if nobody names one.
const DEFAULT_USER: &str = "git";
/// Settings of the agent that say how to reach the network; everything else of its environment stays away.
const INHERITED: [&str; 11] = [
    "PATH",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];
/// Answers git's questions for the one site that the login is for; submodules may lie anywhere.
const ASKPASS: &str = r#"#!/bin/sh
case "$1" in
"Username for '$POCKETCI_GIT_SITE': ") printf '%s\n' "$POCKETCI_GIT_USERNAME" ;;
"Password for '"*"@$POCKETCI_GIT_HOST': ") printf '%s\n' "$POCKETCI_GIT_PASSWORD" ;;
*) exit 1 ;;
esac
"#;

/// The private key's file in the directory.
const KEY: &str = "key";
/// ssh with what the source says and nothing else. It takes the home directory from the system's list of users, not from
/// `HOME`: the keys and the configuration of whoever runs the agent have to be switched off one by one. A host's key is
/// not known beforehand, as with Concourse's git resource.
const SSH: &str = "ssh -F /dev/null -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes \
                   -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR";

/// What git has a shell run.
fn ssh_command(has_key: bool, user: Option<&str>) -> String {
    let mut command = SSH.to_owned();
    // Without a key there is none at all, rather than those of that home directory.
    command.push_str(&match has_key {
        true => format!(" -i \"$HOME/{KEY}\""),
        false => " -o IdentityFile=none".to_owned(),
    });
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if let Some(user) = user.filter(|user| user.chars().all(plain)) {
        command.push_str(&format!(" -o User={user}"));
    }
    command
}

/// See the module. A directory of its own that goes with it.
pub(super) struct Program<'a> {
    io: &'a StepIo,
    home: TempDir,
    pub(super) uri: Uri,
    env: Vec<(&'static str, String)>,
}

impl<'a> Program<'a> {
    pub(super) async fn new(call: &Call<'a>, source: &Source) -> Result<Self, Stop> {
        let local = call.driver.name() == DriverName::Native || call.allow_privileged;
        let (uri, in_uri) = uri::parse(&source.uri, local)?;
        let home = tempfile::Builder::new()
            // With what is left of it, a key perhaps, by the next start if this process is killed.
            .prefix(&directory_prefix("git"))
            .tempdir()
            .map_err(|error| wrong("a directory for it", error))?;
        let mut program = Self {
            io: call.io,
            home,
            uri,
            env: Vec::new(),
        };
        program
            .prepare(source, in_uri)
            .map_err(|error| wrong("a directory for it", error))?;
        Ok(program)
    }

    fn prepare(&mut self, source: &Source, in_uri: Login) -> std::io::Result<()> {
        let config = format!(
            "[safe]\n\tdirectory = *\n[core]\n\thooksPath = /dev/null\n\tfsmonitor = false\n[gc]\n\tauto = 0\n\
             [advice]\n\tdetachedHead = false\n[init]\n\tdefaultBranch = main\n[http]\n\tsslVerify = {}\n\
             [user]\n\tname = PocketCI\n\temail = pocketci@localhost\n",
            !source.skip_ssl_verification
        );
        let config = self.write("gitconfig", &config, 0o600)?;
        let home = self.home.path().to_string_lossy().into_owned();
        self.env = vec![
            ("HOME", home),
            ("LC_ALL", "C".to_owned()),
            ("GIT_CONFIG_NOSYSTEM", "1".to_owned()),
            ("GIT_CONFIG_GLOBAL", config),
            ("GIT_ATTR_NOSYSTEM", "1".to_owned()),
            ("GIT_TERMINAL_PROMPT", "0".to_owned()),
            ("GIT_LFS_SKIP_SMUDGE", "1".to_owned()),
            ("GIT_ALLOW_PROTOCOL", self.uri.protocols.to_owned()),
        ];
        let username = source.username.clone().or(in_uri.username);
        let password = source.password.clone().or(in_uri.password);
        if let (Some(site), Some(host)) = (self.uri.site.clone(), self.uri.host.clone())
            && (username.is_some() || password.is_some())
        {
            let askpass = self.write("askpass", ASKPASS, 0o700)?;
            self.env.extend([
                ("GIT_ASKPASS", askpass),
                ("POCKETCI_GIT_SITE", site),
                ("POCKETCI_GIT_HOST", host),
                (
                    "POCKETCI_GIT_USERNAME",
                    username.unwrap_or_else(|| DEFAULT_USER.to_owned()),
                ),
                ("POCKETCI_GIT_PASSWORD", password.unwrap_or_default()),
            ]);
        }
        if let Some(key) = &source.private_key {
            self.write(KEY, &format!("{}\n", key.trim_end()), 0o600)?;
        }
        let has_key = source.private_key.is_some();
        let ssh = ssh_command(has_key, source.private_key_user.as_deref());
        self.env.push(("GIT_SSH_COMMAND", ssh));
        Ok(())
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> std::io::Result<String> {
        let path = self.home.path().join(name);
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode))?;
        Ok(path.to_string_lossy().into_owned())
    }

    /// A place in its directory.
    pub(super) fn place(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(super) async fn say(&self, text: &str) {
        self.io.say(text).await;
    }

    /// Runs git in a directory; its stdout. Any end but a good one is the step's failure, with git's words in the log.
    pub(super) async fn run(&self, dir: &Path, args: &[&str]) -> Result<String, Stop> {
        match self.attempt(dir, args, true).await? {
            Ok(answer) => Ok(answer),
            Err(exit_code) => Err(Stop::Failed { exit_code }),
        }
    }

    /// As `run`, without a word; the exit code if it is not 0.
    pub(super) async fn ask(&self, dir: &Path, args: &[&str]) -> Result<Option<String>, Stop> {
        Ok(self.attempt(dir, args, false).await?.ok())
    }

    async fn attempt(
        &self,
        dir: &Path,
        args: &[&str],
        is_loud: bool,
    ) -> Result<Result<String, i32>, Stop> {
        let mut command = Command::new("git");
        command.args(args).current_dir(dir).env_clear();
        for name in INHERITED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| {
            Stop::Errored(format!(
                "the git program of the agent cannot be run: {error}; install git where the agent runs, or declare resource type git with an image"
            ))
        })?;
        let _group = Group(child.id());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let io = is_loud.then_some(self.io);
        let (answer, (), ended) = tokio::join!(answer(stdout), pass_on(stderr, io), child.wait());
        let status = ended.map_err(|error| wrong("wait for git", error))?;
        let answer = answer.map_err(|error| wrong("read what git says", error))?;
        match status.code() {
            Some(0) => Ok(Ok(answer)),
            code => Ok(Err(code.unwrap_or(128))),
        }
    }
}

async fn answer<R: AsyncRead + Unpin>(from: Option<R>) -> std::io::Result<String> {
    let mut answer = Vec::new();
    if let Some(from) = from {
        let mut from = from.take(MAX_ANSWER_BYTES + 1);
        from.read_to_end(&mut answer).await?;
    }
    if answer.len() as u64 > MAX_ANSWER_BYTES {
        return Err(std::io::Error::other("it is too long"));
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

async fn pass_on<R: AsyncRead + Unpin>(from: Option<R>, io: Option<&StepIo>) {
    let Some(from) = from else { return };
    let mut from = BufReader::new(from);
    loop {
        let mut line = Vec::new();
        match (&mut from)
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut line)
            .await
        {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                // Then the whole history is fetched, which is as good.
                let is_noise = line.starts_with(b"warning: filtering not recognized");
                if let Some(io) = io.filter(|_| !is_noise) {
                    io.say(&String::from_utf8_lossy(&line)).await;
                }
            }
        }
    }
}

/// git and its helpers, which do not outlive this.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0.and_then(|id| i32::try_from(id).ok()) {
            // None is left: all have ended.
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ssh_command;
    use std::path::Path;
    use std::process::Command;

    /// What ssh itself makes of the command.
    fn understood(command: &str, home: &Path) -> Vec<String> {
        let asked = Command::new("sh")
            .args(["-c", &format!("{command} -G example.com")])
            .env("HOME", home)
            .env("SSH_AUTH_SOCK", "/operators/agent")
            .output()
            .unwrap();
        assert!(asked.status.success(), "{asked:?}");
        let said = String::from_utf8(asked.stdout).unwrap();
        said.lines().map(str::to_owned).collect()
    }

    fn of<'a>(said: &'a [String], name: &str) -> Vec<&'a str> {
        let values = said.iter().filter_map(|line| line.split_once(' '));
        let values = values.filter(|(key, _)| *key == name);
        values.map(|(_, value)| value).collect()
    }

    #[test]
    fn ssh_uses_no_key_but_the_sources() {
        let home = tempfile::Builder::new().prefix("own home").tempdir();
        let home = home.unwrap();
        let key = home.path().join("key");
        std::fs::write(&key, "").unwrap();
        let without = understood(&ssh_command(false, None), home.path());
        assert_eq!(of(&without, "identityfile"), ["none"]);
        let with = understood(&ssh_command(true, Some("deploy")), home.path());
        assert_eq!(of(&with, "identityfile"), [key.to_str().unwrap()]);
        assert_eq!(of(&with, "user"), ["deploy"]);
        for said in [&without, &with] {
            assert_eq!(of(said, "identityagent"), ["none"]);
            assert_eq!(of(said, "identitiesonly"), ["yes"]);
        }
    }

    #[test]
    fn ssh_reads_no_configuration_and_a_user_is_no_option() {
        for has_key in [false, true] {
            let command = ssh_command(has_key, Some("a -o ProxyCommand=id"));
            assert!(command.starts_with("ssh -F /dev/null "), "{command}");
            assert!(!command.contains("ProxyCommand"), "{command}");
        }
    }
}
