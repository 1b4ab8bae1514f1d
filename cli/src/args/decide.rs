//! Secrets and approvals.

use super::{Connection, ListArgs};
use clap::{Args as ClapArgs, Subcommand};
use pocketci_proto::ids::RunId;

#[derive(Subcommand)]
pub enum SecretsCommand {
    /// Set a secret; it can never be read back
    Set(SetSecretArgs),
    /// List names of secrets
    Ls(SecretsLsArgs),
    /// Remove a secret
    Rm(SecretArg),
    /// Encrypt everything with the server's current key; then its --old-secret-key-file can go
    Rotate(ListArgs),
}

#[derive(ClapArgs)]
pub struct SetSecretArgs {
    /// Letters, digits, '_', '-', '.' and '/'
    pub name: String,
    /// Its value [default: read from stdin, so that it is in no history]
    #[arg(long, env = "CI_SECRET_VALUE", hide_env_values = true)]
    pub value: Option<String>,
    /// The pipeline whose secret it is (name or id) [default: all pipelines]
    #[arg(long)]
    pub pipeline: Option<String>,
    #[command(flatten)]
    pub connection: Connection,
}

#[derive(ClapArgs)]
pub struct SecretsLsArgs {
    /// The pipeline whose secrets to list (name or id) [default: those of all pipelines]
    #[arg(long)]
    pub pipeline: Option<String>,
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct SecretArg {
    /// Its name
    pub name: String,
    /// The pipeline whose secret it is (name or id) [default: all pipelines]
    #[arg(long)]
    pub pipeline: Option<String>,
    #[command(flatten)]
    pub connection: Connection,
}

#[derive(Subcommand)]
pub enum GatesCommand {
    /// List gates that wait for a decision
    Ls(GatesLsArgs),
    /// Let a run go on
    Approve(GateDecideArgs),
    /// Do not let a run go on
    Reject(GateDecideArgs),
}

#[derive(ClapArgs)]
pub struct GatesLsArgs {
    /// Only of this run
    #[arg(long)]
    pub run: Option<RunId>,
    /// Decided ones too
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct GateDecideArgs {
    /// The gate's id, from `gates ls` or the run's log
    pub gate: String,
    /// Who decides [default: the user of this machine]
    #[arg(long, env = "CI_USER")]
    pub by: Option<String>,
    /// Why
    #[arg(long, short = 'm')]
    pub comment: Option<String>,
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
