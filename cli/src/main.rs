//! `pocketci`: server, agent and the user's commands, in one binary.

mod args;
mod client;
mod commands;
mod output;
mod telemetry;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = args::Args::parse();
    telemetry::start(args.command.log_default());
    // The one TLS provider of this program; a second call would only say that it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
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
