//! One file for each noun of the command line.

mod agent;
mod agents;
mod configuration;
mod execute;
mod format_pipeline;
mod gates;
mod get_pipeline;
mod init;
mod intercept;
mod jobs;
mod logs;
mod modules;
mod pipelines;
mod queue;
mod receipts;
mod resources;
mod run_file;
mod runs;
mod secrets;
mod server;
mod set_pipeline;
mod validate;
mod webhook;

pub use validate::NotText;

use crate::args::Command;

/// Carries out a command; the exit code is one of [`crate::output::exit`].
pub async fn run(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Server(args) => server::run(*args).await,
        Command::Agent(args) => agent::run(args).await,
        Command::Run(args) => run_file::run(*args).await,
        Command::Init(args) => init::run(&args),
        Command::Secrets(command) => secrets::run(command).await,
        Command::Gates(command) => gates::run(command).await,
        Command::Webhook(command) => webhook::run(command).await,
        Command::SetPipeline(args) => set_pipeline::run(args).await,
        Command::GetPipeline(args) => get_pipeline::run(args).await,
        Command::ValidatePipeline(args) => validate::run(&args),
        Command::FormatPipeline(args) => format_pipeline::run(&args),
        Command::Pipeline(command) => pipelines::run(command).await,
        Command::Runs(command) => runs::run(command).await,
        Command::Logs(args) => logs::run(args).await,
        Command::TriggerJob(args) => jobs::trigger(args).await,
        Command::Watch(args) => jobs::watch(args).await,
        Command::Abort(args) => jobs::abort(args).await,
        Command::Intercept(args) => intercept::run(args).await,
        Command::Jobs(args) => jobs::jobs(args).await,
        Command::Builds(args) => jobs::builds(args).await,
        Command::Resources(args) => resources::list(args).await,
        Command::CheckResource(args) => resources::check(args).await,
        Command::ResourceVersions(args) => resources::versions(args).await,
        Command::PinResource(args) => resources::act(args, resources::Act::Pin).await,
        Command::UnpinResource(args) => resources::unpin(args).await,
        Command::EnableResourceVersion(args) => resources::act(args, resources::Act::Enable).await,
        Command::DisableResourceVersion(args) => {
            resources::act(args, resources::Act::Disable).await
        }
        Command::ClearVersions(args) => resources::clear(args).await,
        Command::Queue(args) => queue::run(args).await,
        Command::Rerun(args) => jobs::rerun(args).await,
        Command::Receipts(args) => receipts::list(args).await,
        Command::Receipt(args) => receipts::show(args).await,
        Command::Replay(args) => receipts::replay(args).await,
        Command::Execute(args) => execute::run(*args).await,
        Command::Agents(command) => agents::run(command).await,
    }
}
