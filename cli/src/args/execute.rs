//! `pocketci execute`: one task with files of this machine.

use super::{Connection, DriverArg, JobPath, VarArgs, key_value};
use clap::Args as ClapArgs;
use std::path::PathBuf;
use std::time::Duration;

#[derive(ClapArgs)]
pub struct ExecuteArgs {
    /// The task's configuration, a YAML file; - reads stdin. Its params are taken from the environment where it has them
    #[arg(long = "config", short = 'c', value_name = "FILE")]
    pub config: PathBuf,
    #[command(flatten)]
    pub connection: Connection,
    /// A folder to send as an input; may be repeated [default: this folder, for the task's only input or the one of its name]
    #[arg(long = "input", short = 'i', value_parser = key_value, value_name = "NAME=FOLDER")]
    pub inputs: Vec<(String, String)>,
    /// A folder for an output, also of a task that failed; may be repeated
    #[arg(long = "output", short = 'o', value_parser = key_value, value_name = "NAME=FOLDER")]
    pub outputs: Vec<(String, String)>,
    /// Take the other inputs from this job, in the newest versions that it would use
    #[arg(long = "inputs-from", short = 'j', value_name = "PIPELINE/JOB")]
    pub inputs_from: Option<JobPath>,
    /// Send files that .gitignore names, and .git
    #[arg(long)]
    pub include_ignored: bool,
    #[command(flatten)]
    pub vars: VarArgs,
    /// Where it runs, as a step's tags: os=linux, or gpu for gpu=true; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Run it in a privileged container, which the agent must allow
    #[arg(long, short = 'p')]
    pub privileged: bool,
    /// Where its containers are [default: the agent's first driver]
    #[arg(long)]
    pub driver: Option<DriverArg>,
    /// Longest time of one attempt
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub timeout: Option<Duration>,
    /// Print every event as a line of JSON
    #[arg(long)]
    pub json: bool,
    /// More arguments for the task's program
    #[arg(last = true)]
    pub args: Vec<String>,
}
