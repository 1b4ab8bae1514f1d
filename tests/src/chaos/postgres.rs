//! A PostgreSQL of one's own, for tests that pull its plug.

use super::address;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// On an address of its own, so that no outgoing connection takes it while PostgreSQL is down.
const PORT: u16 = 5432;

/// A running cluster; removed when dropped.
pub struct Postgres {
    ip: Ipv4Addr,
    home: TempDir,
    programs: PathBuf,
}

impl Postgres {
    /// Makes and starts one. As root it runs as `postgres`, since it refuses root.
    pub fn start() -> Self {
        let programs = programs();
        let home = tempfile::tempdir().expect("a folder");
        if nix::unistd::geteuid().is_root() {
            let owner = nix::unistd::User::from_name("postgres")
                .expect("users can be asked")
                .expect("a user postgres: run scripts/prerequisites.sh");
            let (uid, gid) = (owner.uid.as_raw(), owner.gid.as_raw());
            std::os::unix::fs::chown(home.path(), Some(uid), Some(gid)).expect("root may");
        }
        let made = Self {
            ip: address::fresh(),
            home,
            programs,
        };
        let data = made.data();
        made.run(
            "initdb",
            &[
                "-D",
                &data,
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
            ],
        );
        made.restart();
        made
    }

    fn data(&self) -> String {
        self.home.path().join("data").display().to_string()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    fn launch(&self) -> Output {
        let home = self.home.path().display();
        let options = format!(
            "-c listen_addresses={} -p {PORT} -k {home} -c max_connections=200",
            self.ip
        );
        let log = format!("{home}/log");
        self.command("pg_ctl")
            .args([
                "-D",
                &self.data(),
                "-l",
                &log,
                "-w",
                "-t",
                "30",
                "-o",
                &options,
                "start",
            ])
            .output()
            .expect("pg_ctl runs")
    }

    fn command(&self, program: &str) -> Command {
        let path = self.programs.join(program);
        let mut command = if nix::unistd::geteuid().is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        command.current_dir(self.home.path());
        command
    }

    fn run(&self, program: &str, args: &[&str]) {
        let output = self.command(program).args(args).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} failed: {said}");
    }

    /// As if its machine lost power: no checkpoint, no goodbye.
    pub fn crash(&self) {
        let data = self.data();
        self.run("pg_ctl", &["-D", &data, "-m", "immediate", "-w", "stop"]);
    }

    /// Starts it; after [`Postgres::crash`] it recovers from its log.
    pub fn restart(&self) {
        assert!(
            self.launch().status.success(),
            "PostgreSQL did not start:\n{}",
            self.log()
        );
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (self.ip, PORT).into()
    }

    /// For `--storage`.
    pub fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.address())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A test that crashed it leaves nothing to stop.
        let _ = self
            .command("pg_ctl")
            .args(["-D", &self.data(), "-m", "immediate", "-w", "stop"])
            .output();
    }
}

/// The newest installed version's programs.
fn programs() -> PathBuf {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is installed: run scripts/prerequisites.sh")
        .flatten()
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                entry.path().join("bin"),
            ))
        })
        .collect();
    found.sort();
    found.pop().expect("a version of PostgreSQL").1
}

/// A connection of the test itself, past all links. It ends with the client.
pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .expect("PostgreSQL answers");
    // Ends when the client is dropped; an error shows in the client's next query.
    tokio::spawn(connection);
    client
}
