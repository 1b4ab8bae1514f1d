//! The command line: one struct per concern, every flag with its environment variable.

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use pocketci_proto::ids::RunId;
use pocketci_server::app::StorageUrl;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Webhook-driven CI: pipelines are programs that may answer the caller and keep working.
#[derive(Parser)]
#[command(name = "pocketci", version, max_term_width = 100)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Take webhooks, store runs, hand work to agents
    Server(Box<ServerArgs>),
    /// Execute jobs on this machine for a server
    Agent(AgentArgs),
    /// Create or update a pipeline from a file
    SetPipeline(SetPipelineArgs),
    /// Check a pipeline file without a server
    ValidatePipeline(ValidateArgs),
    /// List, show, pause, trigger and remove pipelines
    #[command(subcommand)]
    Pipeline(PipelineCommand),
    /// List and show runs
    #[command(subcommand)]
    Runs(RunsCommand),
    /// Print a run's output
    Logs(LogsArgs),
    /// Stop a run
    Abort(RunArg),
    /// Run again with the same input
    Rerun(RunArg),
    /// List agents, make and revoke their tokens
    #[command(subcommand)]
    Agents(AgentsCommand),
}

impl Command {
    /// The log filter where the environment says nothing: servers and agents talk, commands do not.
    pub fn log_default(&self) -> &'static str {
        match self {
            Self::Server(_) | Self::Agent(_) => "info",
            _ => "warn",
        }
    }
}

/// How to reach a server.
#[derive(ClapArgs, Clone)]
pub struct Connection {
    /// The server's address
    #[arg(
        long = "server",
        env = "CI_SERVER_URL",
        default_value = "http://127.0.0.1:8080",
        value_name = "URL"
    )]
    pub server_url: String,
    /// The server's --auth-token
    #[arg(
        long,
        env = "CI_AUTH_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub auth_token: Option<String>,
}

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
    /// How long held jobs may go on after the first SIGTERM
    #[arg(long, env = "CI_DRAIN_TIMEOUT", default_value = "30m", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub drain_timeout: Duration,
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
    #[command(flatten)]
    pub work: WorkArgs,
}

#[derive(ClapArgs)]
pub struct SetPipelineArgs {
    /// The pipeline's file; - reads stdin
    pub file: PathBuf,
    #[command(flatten)]
    pub connection: Connection,
    /// Name of the pipeline [default: the file's name without its ending]
    #[arg(long, short = 'n')]
    pub name: Option<String>,
    /// Webhooks must be signed with it; "" removes the stored ones; several are all valid (rotation), newest first
    #[arg(
        long = "webhook-secret",
        env = "CI_WEBHOOK_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    pub webhook_secrets: Vec<String>,
    /// Where its steps run [default: the agent's first driver]
    #[arg(long)]
    pub driver: Option<DriverArg>,
    /// A label that agents must have; may be repeated
    #[arg(long = "label", value_parser = key_value, value_name = "KEY=VALUE")]
    pub labels: Vec<(String, String)>,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct ValidateArgs {
    /// The pipeline's file
    #[arg(long = "config", short = 'c', value_name = "FILE")]
    pub file: PathBuf,
}

#[derive(Subcommand)]
pub enum PipelineCommand {
    /// Same as set-pipeline
    Set(SetPipelineArgs),
    /// List pipelines
    Ls(ListArgs),
    /// Show a pipeline
    Get(PipelineArg),
    /// Remove a pipeline with all its runs
    Rm(PipelineArg),
    /// Refuse triggers until unpaused
    Pause(PipelineArg),
    /// Accept triggers again
    Unpause(PipelineArg),
    /// Start a run and print its id
    Trigger(TriggerArgs),
    /// Start a run, print its output and exit with its outcome
    Run(PipelineRunArgs),
}

#[derive(ClapArgs)]
pub struct ListArgs {
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct PipelineArg {
    /// Name or id
    pub pipeline: String,
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct TriggerArgs {
    /// Name or id
    pub pipeline: String,
    #[command(flatten)]
    pub connection: Connection,
    /// An argument for pipelineContext.args; may be repeated
    #[arg(long = "arg", short = 'a', value_name = "ARG")]
    pub args: Vec<String>,
    /// Pretend that a webhook with this body came
    #[arg(long, value_name = "TEXT")]
    pub webhook_body: Option<String>,
    /// A header of the pretended webhook; may be repeated
    #[arg(long = "webhook-header", value_parser = key_value, value_name = "NAME=VALUE")]
    pub webhook_headers: Vec<(String, String)>,
    /// Method of the pretended webhook
    #[arg(long, value_name = "METHOD")]
    pub webhook_method: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct PipelineRunArgs {
    /// Name or id
    pub pipeline: String,
    /// Arguments for pipelineContext.args
    pub args: Vec<String>,
    #[command(flatten)]
    pub connection: Connection,
}

#[derive(Subcommand)]
pub enum RunsCommand {
    /// List runs, newest first
    Ls(RunsLsArgs),
    /// Show a run
    Show(RunArg),
}

#[derive(ClapArgs)]
pub struct RunsLsArgs {
    #[command(flatten)]
    pub connection: Connection,
    /// Only of this pipeline (name or id)
    #[arg(long)]
    pub pipeline: Option<String>,
    /// Only with this status: queued, running, success, failed, errored, aborted, skipped
    #[arg(long)]
    pub status: Option<String>,
    /// Most runs to list
    #[arg(long, default_value_t = 50)]
    pub limit: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct RunArg {
    /// The run's id
    pub run: RunId,
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct LogsArgs {
    /// The run's id
    pub run: RunId,
    #[command(flatten)]
    pub connection: Connection,
    /// Go on until the run ends; exit with its outcome
    #[arg(long, short = 'f')]
    pub follow: bool,
    /// Print every event as a line of JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Subcommand)]
pub enum AgentsCommand {
    /// List agents
    Ls(ListArgs),
    /// Agents' tokens
    #[command(subcommand)]
    Token(TokenCommand),
}

#[derive(Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it; it is shown this once
    Create(TokenCreateArgs),
    /// List tokens
    Ls(ListArgs),
    /// Revoke a token
    Rm(TokenRmArgs),
}

#[derive(ClapArgs)]
pub struct TokenCreateArgs {
    /// To tell tokens apart
    #[arg(long)]
    pub name: String,
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct TokenRmArgs {
    /// The token's id, from `agents token ls`
    pub id: String,
    #[command(flatten)]
    pub connection: Connection,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("expected KEY=VALUE, got {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_seeds_commands_parse() {
        for line in [
            "pocketci set-pipeline my-pipeline.ts --server http://localhost:8080 --webhook-secret my-secret-key",
            "pocketci server --port 8080 --storage sqlite://pocketci.db --webhook-timeout 5s",
        ] {
            Args::try_parse_from(line.split(' ')).unwrap();
        }
    }
}
