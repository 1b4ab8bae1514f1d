//! Commands about files on this machine: no server is needed.

use super::{DriverArg, LimitArgs, key_value};
use clap::Args as ClapArgs;
use std::path::PathBuf;

#[derive(ClapArgs)]
pub struct ValidateArgs {
    /// The pipeline's file; - reads stdin
    #[arg(long = "config", short = 'c', value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub vars: VarArgs,
    /// Warnings and unknown keys at the top of a YAML file are errors, too
    #[arg(long)]
    pub strict: bool,
    /// Print the YAML pipeline as it would be stored
    #[arg(long, short = 'o')]
    pub output: bool,
}

#[derive(ClapArgs)]
pub struct FormatArgs {
    /// The YAML pipeline's file; - reads stdin
    #[arg(long = "config", short = 'c', value_name = "FILE")]
    pub file: PathBuf,
    /// Write the file instead of printing it; comments are lost
    #[arg(long, short = 'w')]
    pub write: bool,
}

/// Values of the ((vars)) of a YAML pipeline; vars without a value stay as they are and are looked up when a step runs.
#[derive(ClapArgs, Default)]
pub struct VarArgs {
    /// A ((var)) of a YAML pipeline, as text; may be repeated, fields as NAME.FIELD
    #[arg(long = "var", short = 'v', value_parser = key_value, value_name = "NAME=VALUE")]
    pub vars: Vec<(String, String)>,
    /// A ((var)) of a YAML pipeline, as YAML: numbers, lists and maps stay what they are; may be repeated
    #[arg(long = "yaml-var", short = 'y', value_parser = key_value, value_name = "NAME=YAML")]
    pub yaml_vars: Vec<(String, String)>,
    /// A YAML file with ((vars)); may be repeated, later files win, --var and --yaml-var win over all files
    #[arg(long = "load-vars-from", short = 'l', value_name = "FILE")]
    pub var_files: Vec<PathBuf>,
}

#[derive(ClapArgs)]
pub struct RunFileArgs {
    /// The pipeline's file
    pub file: PathBuf,
    /// Arguments for pipelineContext.args
    pub args: Vec<String>,
    /// Of a YAML pipeline: this job alone [default: all, in the order in which versions pass them]
    #[arg(long, short = 'j', value_name = "JOB")]
    pub job: Option<String>,
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
