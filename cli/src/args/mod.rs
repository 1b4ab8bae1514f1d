//! The command line: one struct per concern, every flag with its environment variable.

mod decide;
mod execute;
mod host;
mod jobs;
mod local;
mod outbound;
mod receipts;
mod settings;
mod subscriptions;
mod webhook;

pub use decide::{
    GateDecideArgs, GatesCommand, GatesLsArgs, SecretArg, SecretsCommand, SecretsLsArgs,
    SetSecretArgs,
};
pub use execute::ExecuteArgs;
pub use host::{AgentArgs, DriverArg, LimitArgs, ServerArgs, SpoolArgs, WorkArgs};
pub use jobs::{
    AbortArgs, BuildsArgs, CheckResourceArgs, InterceptArgs, JobsArgs, Path as JobPath, RerunArgs,
    ResourceArg, ResourceVersionsArgs, ResourcesArgs, RunOrJob, TriggerJobArgs, VersionArgs,
    WatchArgs,
};
pub use local::{FormatArgs, InitArgs, RunFileArgs, ValidateArgs, VarArgs};
pub use receipts::{FilterArgs, ReceiptArgs, ReceiptsArgs, ReplayArgs};
pub use settings::SettingsArgs;
pub use subscriptions::{
    DeliveriesArgs, DeliveryArg, PingArgs, PutSubscriptionArgs, ResendArgs, RotateArgs, Schedule,
    SubscriptionArg, SubscriptionCommand, SubscriptionsLsArgs, WhichArg,
};
pub use webhook::{PutWebhookArgs, RotateUuidArgs, RotateWebhookArgs, WebhookArg, WebhookCommand};

use clap::{Args as ClapArgs, Parser, Subcommand};
use pocketci_proto::ids::RunId;
use std::path::PathBuf;

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
    /// Run a pipeline's file here and now, without a server
    Run(Box<RunFileArgs>),
    /// Write a first pipeline, with types for the editor
    Init(InitArgs),
    /// Create or update a pipeline from a file
    SetPipeline(SetPipelineArgs),
    /// Print a stored pipeline
    GetPipeline(GetPipelineArgs),
    /// Check a pipeline file without a server
    ValidatePipeline(ValidateArgs),
    /// Write a YAML pipeline in its canonical form
    FormatPipeline(FormatArgs),
    /// List, show, pause, trigger and remove pipelines
    #[command(subcommand)]
    Pipeline(PipelineCommand),
    /// List and show runs
    #[command(subcommand)]
    Runs(RunsCommand),
    /// Print a run's output
    Logs(LogsArgs),
    /// Execute one task with files of this machine, and fetch what it makes
    #[command(visible_alias = "e")]
    Execute(Box<ExecuteArgs>),
    /// Start a run of one job, and of those that follow when it passes versions on
    TriggerJob(TriggerJobArgs),
    /// Print the output of a run or build until it ends; exit with its outcome
    Watch(WatchArgs),
    /// Stop a run
    Abort(AbortArgs),
    /// Open a shell, or run a command, in a step that runs or in what a failed one left
    #[command(alias = "hijack")]
    Intercept(InterceptArgs),
    /// List a pipeline's jobs
    Jobs(JobsArgs),
    /// List builds, newest first, or show one
    Builds(BuildsArgs),
    /// List a pipeline's resources
    Resources(ResourcesArgs),
    /// Look for new versions of a resource
    CheckResource(CheckResourceArgs),
    /// List the known versions of a resource, newest first
    ResourceVersions(ResourceVersionsArgs),
    /// Give jobs only this version of a resource
    PinResource(VersionArgs),
    /// Give jobs any version of a resource again
    UnpinResource(ResourceArg),
    /// Let jobs have a version of a resource again
    EnableResourceVersion(VersionArgs),
    /// Give a version of a resource to no job
    DisableResourceVersion(VersionArgs),
    /// Forget all versions of a resource
    ClearVersions(ResourceArg),
    /// Show what waits for an agent, and why
    Queue(ListArgs),
    /// Run again with the same input
    Rerun(RerunArgs),
    /// List requests that came to webhooks, newest first
    Receipts(ReceiptsArgs),
    /// Show one request: what came, what was decided and why, what was answered
    Receipt(ReceiptArgs),
    /// Do stored requests again: the same bytes, new runs
    Replay(ReplayArgs),
    /// Set, list and remove secrets; encrypt them with a new key
    #[command(subcommand)]
    Secrets(SecretsCommand),
    /// Create, list, rotate and remove webhook endpoints
    #[command(subcommand)]
    Webhook(WebhookCommand),
    /// List gates, approve and reject
    #[command(subcommand)]
    Gates(GatesCommand),
    /// Tell others what happens: set, list, remove, enable, disable, rotate, ping
    #[command(subcommand)]
    Subscription(SubscriptionCommand),
    /// List what was sent to others, newest first
    Deliveries(DeliveriesArgs),
    /// Show a delivery with its tries
    Delivery(DeliveryArg),
    /// Send a delivery again, or all of a time
    Resend(ResendArgs),
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
pub struct SetPipelineArgs {
    /// The pipeline's file; - reads stdin
    #[arg(required_unless_present = "config")]
    pub file: Option<PathBuf>,
    /// The pipeline's file, as fly wants it
    #[arg(long, short = 'c', value_name = "FILE", conflicts_with = "file")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub connection: Connection,
    /// Name of the pipeline [default: the file's name without its ending]; -n without a name is --non-interactive
    #[arg(long, short = 'n', value_name = "NAME", num_args = 0..=1)]
    pub name: Option<Option<String>>,
    /// Name of the pipeline, as fly wants it
    #[arg(long = "pipeline", short = 'p', value_name = "NAME")]
    pub pipeline: Option<String>,
    /// Apply the changes of a YAML pipeline without asking
    #[arg(long)]
    pub non_interactive: bool,
    #[command(flatten)]
    pub vars: VarArgs,
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
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct GetPipelineArgs {
    /// Name or id
    #[arg(required_unless_present = "named")]
    pub pipeline: Option<String>,
    /// Name or id, as fly wants it
    #[arg(
        long = "pipeline",
        short = 'p',
        id = "named",
        value_name = "NAME",
        conflicts_with = "pipeline"
    )]
    pub named: Option<String>,
    #[command(flatten)]
    pub connection: Connection,
    /// Print the configuration of a YAML pipeline as JSON
    #[arg(long, short = 'j')]
    pub json: bool,
}

#[derive(Subcommand)]
pub enum PipelineCommand {
    /// Same as set-pipeline
    Set(Box<SetPipelineArgs>),
    /// List pipelines
    Ls(ListArgs),
    /// Show a pipeline
    Get(PipelineArg),
    /// Remove a pipeline with all its runs
    Rm(PipelineArg),
    /// Refuse triggers, and hold queued jobs and what webhooks start until unpaused
    Pause(PauseArgs),
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
pub struct PauseArgs {
    /// Name or id
    pub pipeline: String,
    #[command(flatten)]
    pub connection: Connection,
    /// Who pauses it [default: the user of this machine]
    #[arg(long)]
    pub by: Option<String>,
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
    /// Runs that looked for new versions of resources as well
    #[arg(long)]
    pub checks: bool,
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
