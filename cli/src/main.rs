//! `pocketci`: server, agent and the user's commands, in one binary.

mod archive;
mod args;
mod client;
mod commands;
mod output;
mod telemetry;
mod terminal;

use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::process::ExitCode;

/// Open files of a server at most: its steps inherit the limit, and some programs close every file that they might have.
const MAX_OPEN_FILES: u64 = 65_536;

/// Each connection is an open file, and the usual soft limit is 1024: less than the agents of one server.
fn allow_many_connections() -> nix::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = hard.min(MAX_OPEN_FILES);
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let args = args::Args::parse();
    telemetry::start(args.command.log_default());
    // The one TLS provider of this program; a second call would only say that it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if matches!(args.command, args::Command::Server(_))
        && let Err(error) = allow_many_connections()
    {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(2048)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return output::exit::SYSTEM.into();
        }
    };
    let result = runtime.block_on(commands::run(args.command));
    // What still blocks (a job's thread after a forced stop) must not keep the process.
    runtime.shutdown_background();
    match result {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            output::exit::of(&error).into()
        }
    }
}
