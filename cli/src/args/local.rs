//! Commands about files on this machine: no server is needed.

use super::{DriverArg, LimitArgs, key_value};
use clap::Args as ClapArgs;
use std::path::PathBuf;

#[derive(ClapArgs)]
pub struct ValidateArgs {
    /// The pipeline's file
    #[arg(long = "config", short = 'c', value_name = "FILE")]
    pub file: PathBuf,
}

#[derive(ClapArgs)]
pub struct RunFileArgs {
    /// The pipeline's file
    pub file: PathBuf,
    /// Arguments for pipelineContext.args
    pub args: Vec<String>,
    /// Where its steps run [default: docker if an engine answers, else native]
    #[arg(long)]
    pub driver: Option<DriverArg>,
    /// A secret; may be repeated
    #[arg(long = "secret", value_parser = key_value, value_name = "NAME=VALUE")]
    pub secrets: Vec<(String, String)>,
    /// A file with a secret in each line, NAME=VALUE
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// Pretend that a webhook with this body came; @FILE reads a file
    #[arg(long, value_name = "TEXT")]
    pub webhook_body: Option<String>,
    /// A header of the pretended webhook; may be repeated
    #[arg(long = "webhook-header", value_parser = key_value, value_name = "NAME=VALUE")]
    pub webhook_headers: Vec<(String, String)>,
    /// Method of the pretended webhook
    #[arg(long, value_name = "METHOD")]
    pub webhook_method: Option<String>,
    /// Pretend that the webhook in this JSON file came: {"method", "headers", "query", "body"}
    #[arg(long, value_name = "FILE", conflicts_with_all = ["webhook_body", "webhook_headers", "webhook_method"])]
    pub event: Option<PathBuf>,
    /// Approve every gate instead of asking
    #[arg(long)]
    pub approve: bool,
    /// No colours and no progress line, whatever the terminal
    #[arg(long)]
    pub plain: bool,
    #[command(flatten)]
    pub limits: LimitArgs,
}

#[derive(ClapArgs)]
pub struct InitArgs {
    /// The folder; made if it is missing
    #[arg(default_value = ".")]
    pub folder: PathBuf,
    /// Overwrite files that are there
    #[arg(long)]
    pub force: bool,
}
