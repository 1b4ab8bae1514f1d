//! `pocketci agent`: executes jobs on this machine for a server.

use crate::args::{AgentArgs, DriverArg, LimitArgs, WorkArgs};
use crate::output::exit;
use pocketci_agent::container::Driver;
use pocketci_agent::container::docker::DockerDriver;
use pocketci_agent::container::leftovers;
use pocketci_agent::container::native::NativeDriver;
use pocketci_agent::{AgentConfig, Shutdown, Token};
use sha2::{Digest, Sha256};
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
        if !docker.answers().await {
            tell_leftovers(None);
        }
    }
    leftovers::remove_directories();
    let state_dir = args
        .state_dir
        .or_else(|| usable(default_state_dir(&name, &args.server)));
    let drivers = drivers(&args.work);
    let mut config = agent_config(
        args.server,
        Token::new(args.token),
        name,
        args.labels.into_iter().collect(),
        args.tls_ca,
        &args.work,
    );
    config.state_dir = state_dir;
    let shutdown = Shutdown::default();
    let signals = tokio::spawn(signals(shutdown.clone()));
    let ended = pocketci_agent::run(config, drivers, shutdown).await;
    signals.abort();
    ended?;
    Ok(exit::OK)
}

/// A folder of this agent's own: the same name at another server is another agent.
fn default_state_dir(name: &str, server: &str) -> Option<PathBuf> {
    let folder = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|folder| folder.is_absolute())
    };
    let base = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")))?;
    let safe = |text: &str| -> String {
        let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        text.chars().map(safe).collect()
    };
    // What is lost in the readable part tells names apart here.
    let hash = Sha256::digest(format!("{name}\n{server}").as_bytes());
    let folder = format!("agent-{:.40}-{}", safe(name), hex::encode(&hash[..8]));
    Some(base.join("pocketci").join(folder))
}

/// The folder if it can be made; an agent also works without one.
fn usable(folder: Option<PathBuf>) -> Option<PathBuf> {
    let made = match &folder {
        Some(folder) => std::fs::create_dir_all(folder).map_err(|error| error.to_string()),
        None => Err("neither XDG_STATE_HOME nor HOME is set".to_owned()),
    };
    match made {
        Ok(()) => folder,
        Err(why) => {
            eprintln!(
                "note: there is no state folder ({why}); without --state-dir this agent forgets its jobs when it is restarted"
            );
            None
        }
    }
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
        keep_failed: work.keep_failed,
        state_dir: None,
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
