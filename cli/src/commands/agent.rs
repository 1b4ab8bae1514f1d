//! `pocketci agent`: executes jobs on this machine for a server.

use crate::args::{AgentArgs, DriverArg, LimitArgs, WorkArgs};
use crate::output::exit;
use pocketci_agent::container::Driver;
use pocketci_agent::container::docker::DockerDriver;
use pocketci_agent::container::leftovers;
use pocketci_agent::container::native::NativeDriver;
use pocketci_agent::{AgentConfig, Shutdown, Token};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// Fewest slots where the machine is small: jobs mostly wait.
const MIN_DEFAULT_SLOTS: usize = 4;

pub async fn run(args: AgentArgs) -> anyhow::Result<u8> {
    let name = match args.name {
        Some(name) => name,
        None => nix::unistd::gethostname()?.to_string_lossy().into_owned(),
    };
    if args.work.drivers.contains(&DriverArg::Docker) {
        let docker = DockerDriver::new(args.work.limits.docker_host.clone());
        tell_leftovers(leftovers::remove_of_agent(&docker, &name).await);
    }
    leftovers::remove_directories();
    let drivers = drivers(&args.work);
    let config = agent_config(
        args.server,
        Token::new(args.token),
        name,
        args.labels.into_iter().collect(),
        args.tls_ca,
        &args.work,
    );
    let shutdown = Shutdown::default();
    let signals = tokio::spawn(signals(shutdown.clone()));
    let ended = pocketci_agent::run(config, drivers, shutdown).await;
    signals.abort();
    ended?;
    Ok(exit::OK)
}

/// Says what was cleaned up, or that nothing could be.
pub fn tell_leftovers(removed: Option<usize>) {
    match removed {
        Some(0) => {}
        Some(count) => {
            eprintln!("removed {count} containers and volumes that an earlier start left behind");
        }
        None => {
            eprintln!("note: no Docker engine answers; pipelines that need containers will say so");
        }
    }
}

/// The drivers offered, in the order given.
pub fn drivers(work: &WorkArgs) -> Vec<Arc<dyn Driver>> {
    work.drivers
        .iter()
        .map(|name| driver(*name, &work.limits))
        .collect()
}

/// One driver.
pub fn driver(name: DriverArg, limits: &LimitArgs) -> Arc<dyn Driver> {
    let grace = limits.stop_grace;
    match name {
        DriverArg::Docker => Arc::new(DockerDriver::with_grace(limits.docker_host.clone(), grace)),
        DriverArg::Native => Arc::new(NativeDriver::with_grace(grace)),
    }
}

pub fn agent_config(
    server_url: String,
    token: Token,
    name: String,
    labels: BTreeMap<String, String>,
    tls_ca: Option<PathBuf>,
    work: &WorkArgs,
) -> AgentConfig {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let default_slots = u32::try_from((2 * cpus).max(MIN_DEFAULT_SLOTS)).unwrap_or(u32::MAX);
    AgentConfig {
        server_url,
        token,
        name,
        labels,
        slots: work.slots.unwrap_or(default_slots),
        default_driver: work
            .drivers
            .first()
            .copied()
            .unwrap_or(DriverArg::Docker)
            .into(),
        tls_ca,
        allow_privileged: work.limits.allow_privileged,
        limits: work.limits.limits(),
        outside: work.limits.outside(),
        spool: work.spool.config(),
        drain_timeout: work.drain_timeout,
    }
}

/// First SIGTERM or Ctrl-C: drain. Second: now. Returns after the first, keeps listening for the second.
pub async fn signals(shutdown: Shutdown) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        eprintln!("warning: signals cannot be handled here; only a kill ends this process");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    eprintln!("stopping: finishing what is under way; a second signal stops it now");
    shutdown.drain.cancel();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        eprintln!("stopping now");
        shutdown.now.cancel();
    });
}
