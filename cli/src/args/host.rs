//! `server` and `agent`: what a machine is told that serves or works.

use super::key_value;
use clap::{Args as ClapArgs, ValueEnum};
use pocketci_agent::js::Limits;
use pocketci_agent::log::{SpoolConfig, default_dir};
use pocketci_agent::outside::OutsideConfig;
use pocketci_agent::outside::guard::{Allowed, Guard};
use pocketci_server::app::StorageUrl;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// Longest time for which what steps left is kept.
const MAX_KEEP_FAILED: Duration = Duration::from_secs(30 * 24 * 3600);
/// Longest grace of a step that is stopped.
const MAX_STOP_GRACE: Duration = Duration::from_secs(60);

#[derive(ClapArgs)]
pub struct ServerArgs {
    /// Address to listen on; without --auth-token keep it on loopback, as anyone who reaches it may set pipelines
    #[arg(long, env = "CI_HOST", default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// Port for HTTP; 0 picks a free one
    #[arg(long, env = "CI_PORT", default_value_t = 8080)]
    pub port: u16,
    /// Port for agents (gRPC); 0 picks a free one
    #[arg(long, env = "CI_GRPC_PORT", default_value_t = 9090)]
    pub grpc_port: u16,
    /// sqlite://FILE, or postgres://USER@HOST/DATABASE for any number of servers
    #[arg(
        long,
        env = "CI_STORAGE",
        default_value = "sqlite://pocketci.db",
        value_name = "URL"
    )]
    pub storage: StorageUrl,
    /// How long a webhook's caller waits for http.respond()
    #[arg(long, env = "CI_WEBHOOK_TIMEOUT", default_value = "5s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub webhook_timeout: Duration,
    /// Clients of the API must present this token; webhooks need none
    #[arg(
        long,
        env = "CI_AUTH_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub auth_token: Option<String>,
    /// A token that agents may use, besides those made with `agents token create`; may be repeated
    #[arg(
        long = "agent-token",
        env = "CI_AGENT_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub agent_tokens: Vec<String>,
    /// Encrypts secrets at rest: 32 random bytes as 64 hexadecimal digits or Base64
    #[arg(
        long,
        env = "CI_SECRET_KEY",
        hide_env_values = true,
        value_name = "KEY",
        conflicts_with = "secret_key_file"
    )]
    pub secret_key: Option<String>,
    /// File with the secret key; made with a new one if it is missing [default: FILE.key for sqlite://FILE, else pocketci.key]
    #[arg(long, env = "CI_SECRET_KEY_FILE", value_name = "FILE")]
    pub secret_key_file: Option<PathBuf>,
    /// File with an earlier secret key, for `secrets rotate`; may be repeated
    #[arg(
        long = "old-secret-key-file",
        env = "CI_OLD_SECRET_KEY_FILE",
        value_delimiter = ',',
        value_name = "FILE"
    )]
    pub old_secret_key_files: Vec<PathBuf>,
    /// Do not run jobs in this process
    #[arg(long, env = "CI_NO_LOCAL_AGENT")]
    pub no_local_agent: bool,
    /// PEM certificate chain; with --tls-key both listeners speak TLS
    #[arg(long, env = "CI_TLS_CERT", requires = "tls_key", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// PEM private key
    #[arg(long, env = "CI_TLS_KEY", requires = "tls_cert", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// How long an agent holds a job without renewing; at least 1s
    #[arg(long, env = "CI_LEASE", default_value = "30s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub lease: Duration,
    /// How long an agent may take to accept a job before it goes to another
    #[arg(long, env = "CI_ACCEPT_TIMEOUT", default_value = "5s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub accept_timeout: Duration,
    /// Most queued jobs; further triggers get 429
    #[arg(
        long,
        env = "CI_MAX_QUEUE_SIZE",
        default_value_t = 10_000,
        value_name = "JOBS"
    )]
    pub max_queue_size: u32,
    /// Most jobs in agents' hands at once, over all servers of the database [default: no limit but the agents' slots]
    #[arg(long, env = "CI_MAX_RUNNING", value_name = "JOBS")]
    pub max_running: Option<NonZeroU32>,
    /// How long a job may wait for an agent if its pipeline says nothing [default: for ever]
    #[arg(long, env = "CI_QUEUE_TIMEOUT", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub queue_timeout: Option<Duration>,
    /// Where users reach this server: told to YAML builds (ATC_EXTERNAL_URL, BUILD_URL)
    #[arg(long, env = "CI_EXTERNAL_URL", value_name = "URL")]
    pub external_url: Option<String>,
    /// Most webhook requests at once; more get 503
    #[arg(
        long,
        env = "CI_MAX_WEBHOOKS",
        default_value_t = 2048,
        value_name = "REQUESTS"
    )]
    pub max_webhooks: usize,
    /// Largest webhook body in bytes; larger get 413
    #[arg(long, env = "CI_MAX_BODY_BYTES", default_value_t = 25 * 1024 * 1024, value_name = "BYTES")]
    pub max_body_bytes: usize,
    /// How long webhooks' receipts are kept (those of runs that go on longer); 0s keeps them for ever
    #[arg(long, env = "CI_RECEIPTS_KEEP", default_value = "30d", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub receipts_keep: Duration,
    /// Most bytes of webhooks' bodies that are kept; beyond, the oldest are forgotten, their receipts stay; 0 is no limit
    #[arg(long, env = "CI_RECEIPTS_MAX_BYTES", default_value_t = 10 * 1024 * 1024 * 1024, value_name = "BYTES")]
    pub receipts_max_bytes: u64,
    /// A proxy (address or network) that is believed about who called (X-Forwarded-For); may be repeated
    #[arg(
        long = "trusted-proxy",
        env = "CI_TRUSTED_PROXY",
        value_delimiter = ',',
        value_name = "CIDR"
    )]
    pub trusted_proxies: Vec<pocketci_server::app::Cidr>,
    /// Let nobody open terminals in steps
    #[arg(long, env = "CI_NO_INTERCEPT")]
    pub no_intercept: bool,
    #[command(flatten)]
    pub work: WorkArgs,
}

/// What an agent, in-process or not, does on its machine.
#[derive(ClapArgs, Clone)]
pub struct WorkArgs {
    /// Jobs at once [default: twice the CPUs, at least 4]
    #[arg(long, env = "CI_SLOTS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub slots: Option<u32>,
    /// Drivers that pipelines may use here; the first is used where a pipeline names none
    #[arg(
        long = "driver",
        env = "CI_DRIVER",
        value_delimiter = ',',
        default_value = "docker,native",
        value_name = "DRIVERS"
    )]
    pub drivers: Vec<DriverArg>,
    #[command(flatten)]
    pub limits: LimitArgs,
    #[command(flatten)]
    pub spool: SpoolArgs,
    /// How long held jobs may go on after the first SIGTERM
    #[arg(long, env = "CI_DRAIN_TIMEOUT", default_value = "30m", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub drain_timeout: Duration,
    /// How long what failed steps of YAML pipelines left is kept for `intercept`, at most 30days; 0s keeps nothing, and lets nobody look into steps
    #[arg(long, env = "CI_KEEP_FAILED", default_value = "15m", value_parser = keep_failed, value_name = "DURATION")]
    pub keep_failed: Duration,
}

/// Where output waits while the server is away or slow.
#[derive(ClapArgs, Clone)]
pub struct SpoolArgs {
    /// Folder for output that waits for the server, on a disk [default: pocketci-spool-UID in TMPDIR, else in /var/tmp]
    #[arg(long, env = "CI_SPOOL_DIR", value_name = "FOLDER")]
    pub spool_dir: Option<PathBuf>,
    /// Most output of all jobs that waits on disk; 0B keeps all of it in memory; for example 1GiB
    #[arg(long, env = "CI_SPOOL_MAX", default_value = "1GiB", value_parser = size, value_name = "SIZE")]
    pub spool_max: u64,
    /// How long a step is held back when there is no room for its output, before output is given up
    #[arg(long, env = "CI_SPOOL_PATIENCE", default_value = "30s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub spool_patience: Duration,
}

impl SpoolArgs {
    /// As the agent takes it.
    pub fn config(&self) -> SpoolConfig {
        SpoolConfig {
            dir: self.spool_dir.clone().unwrap_or_else(default_dir),
            max_bytes: self.spool_max,
            patience: self.spool_patience,
        }
    }
}

/// Bytes, given with their unit.
fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u32); 4] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("B", 0)];
    let wrong =
        || format!("{text:?} is no size; give a number and B, KiB, MiB or GiB, such as 512MiB");
    let (number, shift) = UNITS
        .iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)))
        .ok_or_else(wrong)?;
    let number: u64 = number.trim().parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// What jobs may do on this machine, and how much.
#[derive(ClapArgs, Clone)]
pub struct LimitArgs {
    /// Address of the Docker engine [default: DOCKER_HOST, then the local socket]
    #[arg(long, env = "CI_DOCKER_HOST", value_name = "ADDRESS")]
    pub docker_host: Option<String>,
    /// Let pipelines run privileged containers
    #[arg(long, env = "CI_ALLOW_PRIVILEGED")]
    pub allow_privileged: bool,
    /// Memory of one job's JavaScript, in MiB
    #[arg(
        long,
        env = "CI_JS_MEMORY_MIB",
        default_value_t = 256,
        value_name = "MIB"
    )]
    pub js_memory_mib: usize,
    /// CPU time of one job's JavaScript; waiting does not count
    #[arg(long, env = "CI_JS_CPU_TIME", default_value = "60s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub js_cpu_time: Duration,
    /// From a job's start to its end
    #[arg(long, env = "CI_JOB_TIMEOUT", default_value = "24h", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub job_timeout: Duration,
    /// Steps of one job at once; more wait. As many sandboxes; more are refused
    #[arg(long, env = "CI_MAX_STEPS", default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub max_steps: u32,
    /// Output of one job that its log keeps, in MiB
    #[arg(
        long,
        env = "CI_MAX_OUTPUT_MIB",
        default_value_t = 256,
        value_name = "MIB"
    )]
    pub max_output: u64,
    /// Output of one step, of each of its streams, that the log keeps: the first half and the last; for example 64MiB
    #[arg(long, env = "CI_MAX_STEP_OUTPUT", default_value = "64MiB", value_parser = size, value_name = "SIZE")]
    pub max_step_output: u64,
    /// What a step gets between the polite signal and the kill when it is stopped; at most 60s
    #[arg(long, env = "CI_STOP_GRACE", default_value = "1s", value_parser = stop_grace, value_name = "DURATION")]
    pub stop_grace: Duration,
    /// A private host, HOST:PORT or network that fetch, webhook.send and notify may reach; may be repeated, * is all
    #[arg(
        long = "fetch-allow",
        env = "CI_FETCH_ALLOW",
        value_delimiter = ',',
        value_name = "ADDRESS"
    )]
    pub fetch_allow: Vec<Allowed>,
    /// Longest HTTP exchange of a pipeline
    #[arg(long, env = "CI_FETCH_TIMEOUT", default_value = "30s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub fetch_timeout: Duration,
    /// Largest response to a pipeline's fetch, in MiB
    #[arg(
        long,
        env = "CI_FETCH_MAX_RESPONSE_MIB",
        default_value_t = 10,
        value_name = "MIB"
    )]
    pub fetch_max_response: usize,
}

impl LimitArgs {
    /// Limits of one job.
    pub fn limits(&self) -> Limits {
        Limits {
            memory_bytes: self.js_memory_mib.saturating_mul(1024 * 1024),
            cpu_time: self.js_cpu_time,
            wall_time: self.job_timeout,
            max_steps: self.max_steps as usize,
            max_output_bytes: self.max_output.saturating_mul(1024 * 1024),
            max_step_output_bytes: self.max_step_output,
            stop_grace: self.stop_grace,
            ..Limits::default()
        }
    }

    /// Where pipelines may reach.
    pub fn outside(&self) -> OutsideConfig {
        OutsideConfig {
            guard: Guard::new(self.fetch_allow.clone()),
            timeout: self.fetch_timeout,
            max_response_bytes: self.fetch_max_response.saturating_mul(1024 * 1024),
        }
    }
}

fn keep_failed(text: &str) -> Result<Duration, String> {
    // `0` has no unit to be forgotten.
    let text = if text == "0" { "0s" } else { text };
    let kept = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if kept > MAX_KEEP_FAILED {
        return Err("at most 30days: it takes room on the agent's disk".to_owned());
    }
    Ok(kept)
}

fn stop_grace(text: &str) -> Result<Duration, String> {
    let grace = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if grace > MAX_STOP_GRACE {
        return Err("at most 60s: whoever stops a run expects it to be over".to_owned());
    }
    Ok(grace)
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DriverArg {
    /// Containers
    Docker,
    /// Processes on this very machine, without isolation
    Native,
}

impl From<DriverArg> for pocketci_proto::api::Driver {
    fn from(arg: DriverArg) -> Self {
        match arg {
            DriverArg::Docker => Self::Docker,
            DriverArg::Native => Self::Native,
        }
    }
}

#[derive(ClapArgs)]
pub struct AgentArgs {
    /// The server's address for agents
    #[arg(long, env = "CI_AGENT_SERVER", value_name = "URL")]
    pub server: String,
    /// From `pocketci agents token create`, or the server's --agent-token
    #[arg(
        long,
        env = "CI_AGENT_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub token: String,
    /// Unique among connected agents [default: the host's name]
    #[arg(long, env = "CI_AGENT_NAME")]
    pub name: Option<String>,
    /// A label that pipelines may ask for; may be repeated
    #[arg(long = "label", env = "CI_AGENT_LABELS", value_delimiter = ',', value_parser = key_value, value_name = "KEY=VALUE")]
    pub labels: Vec<(String, String)>,
    /// PEM certificates to trust for https:// [default: the well-known ones]
    #[arg(long, env = "CI_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Folder in which it remembers what it works on, so that it goes on with it after a restart; one for each agent [default: pocketci/agent-NAME-… in the user's state folder]
    #[arg(long, env = "CI_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    #[command(flatten)]
    pub work: WorkArgs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_a_unit_and_fit() {
        assert_eq!(size("1GiB"), Ok(1 << 30));
        assert_eq!(size("64 KiB"), Ok(65_536));
        assert_eq!(size("0B"), Ok(0));
        for wrong in [
            "",
            "5",
            "MiB",
            "1TB",
            "-1MiB",
            "1.5GiB",
            "99999999999999GiB",
        ] {
            assert!(size(wrong).unwrap_err().contains("512MiB"), "{wrong}");
        }
    }
}
