//! Jobs, builds and resources of YAML pipelines.

use super::Connection;
use clap::Args as ClapArgs;
use pocketci_proto::ids::RunId;
use std::str::FromStr;

/// `PIPELINE/JOB` or `PIPELINE/RESOURCE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// Name or id; an instance's name has slashes itself.
    pub pipeline: String,
    /// The job or resource.
    pub name: String,
}

impl FromStr for Path {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.rsplit_once('/') {
            Some((pipeline, name)) if !pipeline.is_empty() && !name.is_empty() => Ok(Self {
                pipeline: pipeline.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err(format!("expected PIPELINE/NAME, got {text:?}")),
        }
    }
}

/// A run by its id, or a job by its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunOrJob {
    /// A run.
    Run(RunId),
    /// A job, with `-b` one of its builds.
    Job(Path),
}

impl FromStr for RunOrJob {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Run(id));
        }
        let path = text.parse().map(Self::Job);
        path.map_err(|_| format!("expected a run's id or PIPELINE/JOB, got {text:?}"))
    }
}

#[derive(ClapArgs)]
pub struct TriggerJobArgs {
    /// The job
    #[arg(value_name = "PIPELINE/JOB")]
    pub job: Path,
    /// Print its output until it ends; exit with its outcome
    #[arg(long, short = 'w')]
    pub watch: bool,
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct WatchArgs {
    /// A run's id or PIPELINE/JOB
    #[arg(value_name = "RUN|PIPELINE/JOB")]
    pub target: RunOrJob,
    /// Of the job: this build [default: the newest]
    #[arg(long, short = 'b', value_name = "NUMBER")]
    pub build: Option<String>,
    #[command(flatten)]
    pub connection: Connection,
    /// Print every event as a line of JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct AbortArgs {
    /// A run's id or PIPELINE/JOB
    #[arg(value_name = "RUN|PIPELINE/JOB")]
    pub target: RunOrJob,
    /// Of the job: this build [default: the newest]
    #[arg(long, short = 'b', value_name = "NUMBER")]
    pub build: Option<String>,
    #[command(flatten)]
    pub connection: Connection,
    /// Who stops it [default: the user of this machine]
    #[arg(long)]
    pub by: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct RerunArgs {
    /// A run's id (again with the same input), or PIPELINE/JOB (a build again with the same versions)
    #[arg(value_name = "RUN|PIPELINE/JOB")]
    pub target: RunOrJob,
    /// Of the job: this build [default: the newest]
    #[arg(long, short = 'b', value_name = "NUMBER")]
    pub build: Option<String>,
    /// Print its output until it ends; exit with its outcome
    #[arg(long, short = 'w')]
    pub watch: bool,
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct InterceptArgs {
    /// A run's id or PIPELINE/JOB
    #[arg(value_name = "RUN|PIPELINE/JOB")]
    pub target: RunOrJob,
    /// Of the job: this build [default: the newest]
    #[arg(long, short = 'b', value_name = "NUMBER")]
    pub build: Option<String>,
    /// The step, by its name or number; asked for if there are several
    #[arg(long, short = 's', value_name = "STEP")]
    pub step: Option<String>,
    /// Of the job: the step of this attempt
    #[arg(long, short = 'a', value_name = "NUMBER")]
    pub attempt: Option<i32>,
    #[command(flatten)]
    pub connection: Connection,
    /// Only print the steps that can be looked into, as JSON
    #[arg(long)]
    pub json: bool,
    /// Program and arguments [default: a shell]
    #[arg(last = true)]
    pub command: Vec<String>,
}

#[derive(ClapArgs)]
pub struct JobsArgs {
    /// Name or id of the pipeline
    pub pipeline: String,
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct BuildsArgs {
    /// A pipeline, or one of its jobs
    #[arg(value_name = "PIPELINE[/JOB]")]
    pub target: String,
    /// Show only this build of the job, with its inputs and outputs and what it waits for
    #[arg(long, short = 'b', value_name = "NUMBER")]
    pub build: Option<String>,
    /// Most builds to list
    #[arg(long, short = 'c', default_value_t = 50)]
    pub count: u32,
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct ResourcesArgs {
    /// Name or id of the pipeline
    pub pipeline: String,
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct CheckResourceArgs {
    /// The resource
    #[arg(value_name = "PIPELINE/RESOURCE")]
    pub resource: Path,
    /// A field of the version to begin with; may be repeated [default: the newest known version]
    #[arg(long = "from", short = 'f', value_parser = field, value_name = "FIELD:VALUE")]
    pub from: Vec<(String, String)>,
    /// Do not wait for its end
    #[arg(long, short = 'a')]
    pub r#async: bool,
    #[command(flatten)]
    pub connection: Connection,
}

#[derive(ClapArgs)]
pub struct ResourceVersionsArgs {
    /// The resource
    #[arg(value_name = "PIPELINE/RESOURCE")]
    pub resource: Path,
    /// Most versions to list
    #[arg(long, short = 'c', default_value_t = 50)]
    pub count: u32,
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct ResourceArg {
    /// The resource
    #[arg(value_name = "PIPELINE/RESOURCE")]
    pub resource: Path,
    #[command(flatten)]
    pub connection: Connection,
}

#[derive(ClapArgs)]
pub struct VersionArgs {
    /// The resource
    #[arg(value_name = "PIPELINE/RESOURCE")]
    pub resource: Path,
    /// A field of the version; may be repeated; the newest version that has them all is meant
    #[arg(long = "version", short = 'v', value_parser = field, value_name = "FIELD:VALUE", required = true)]
    pub version: Vec<(String, String)>,
    /// Of a pin: why
    #[arg(long, short = 'c', default_value = "", hide_default_value = true)]
    pub comment: String,
    /// Who wants it [default: the user of this machine]
    #[arg(long)]
    pub by: Option<String>,
    #[command(flatten)]
    pub connection: Connection,
}

fn field(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((field, value)) if !field.is_empty() => Ok((field.to_owned(), value.to_owned())),
        _ => Err(format!("expected FIELD:VALUE, got {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_pipeline_and_a_name() {
        let path: Path = "app/branch:main/build".parse().unwrap();
        assert_eq!(
            (path.pipeline.as_str(), path.name.as_str()),
            ("app/branch:main", "build")
        );
        for wrong in ["app", "/build", "app/"] {
            assert!(wrong.parse::<Path>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_run_is_known_by_its_id() {
        let id = RunId::new();
        assert_eq!(id.to_string().parse(), Ok(RunOrJob::Run(id)));
        assert!(matches!("app/build".parse(), Ok(RunOrJob::Job(_))));
        assert!("build".parse::<RunOrJob>().is_err());
    }

    #[test]
    fn a_versions_field_may_have_colons_in_its_value() {
        let at = ("digest".to_owned(), "sha256:ab".to_owned());
        assert_eq!(field("digest:sha256:ab"), Ok(at));
        assert!(field("digest").is_err());
    }
}
