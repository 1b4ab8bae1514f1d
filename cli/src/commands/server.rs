//! `pocketci server`: a server, with an agent in the same process unless told otherwise.

use super::agent::{agent_config, drivers, signals, tell_leftovers};
use crate::args::{DriverArg, ServerArgs, WorkArgs};
use crate::output::exit;
use anyhow::Context;
use pocketci_agent::container::docker::DockerDriver;
use pocketci_agent::container::leftovers;
use pocketci_agent::{Shutdown, Token};
use pocketci_server::app::{self, Config, LocalAgent, SecretKey, StorageUrl, TlsFiles};
use pocketci_server::runs::RunSettings;
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Shortest lease: an agent needs time to renew.
const MIN_LEASE: Duration = Duration::from_secs(1);
/// Bytes of webhook bodies in memory at once.
const MAX_BODY_BYTES_IN_FLIGHT: usize = 256 * 1024 * 1024;
/// Bytes of webhook bodies in temporary files at once.
const MAX_SPILLED_BYTES: u64 = 2 << 30;
/// Where the secret key is kept for PostgreSQL unless said otherwise.
const DEFAULT_KEY_FILE: &str = "pocketci.key";
/// The in-process agent's name, followed by machine and process, so that several servers may share a database.
const LOCAL_NAME: &str = "local";

pub async fn run(args: ServerArgs) -> anyhow::Result<u8> {
    let work = args.work.clone();
    let with_agent = !args.no_local_agent;
    let open_to_all = args.auth_token.is_none() && !args.host.is_loopback();
    let scheme = if args.tls_cert.is_some() {
        "https"
    } else {
        "http"
    };
    let server = app::start(config(args)?).await?;
    eprintln!("listening on {scheme}://{}", server.http);
    eprintln!("agents connect to {scheme}://{}", server.grpc);
    if open_to_all {
        eprintln!(
            "warning: without --auth-token anyone who reaches this address may run programs here"
        );
    }
    let shutdown = Shutdown::default();
    let agent = match (&server.local_agent, with_agent) {
        (Some(local), true) => {
            clean_up(&work).await;
            Some(start_local(local, &work, shutdown.clone())?)
        }
        _ => None,
    };
    let ended = match agent {
        None => {
            signals(shutdown.clone()).await;
            Ok(())
        }
        Some(agent) => tokio::select! {
            ended = agent => ended.context("the in-process agent panicked")?,
            () = drained(&shutdown) => Ok(()),
        },
    };
    server.stop().await;
    ended?;
    Ok(exit::OK)
}

/// Passes signals on; returns only at the second one, as the agent's own end is what is waited for.
async fn drained(shutdown: &Shutdown) {
    signals(shutdown.clone()).await;
    shutdown.now.cancelled().await;
    // Time for the agent's last reports.
    tokio::time::sleep(Duration::from_secs(15)).await;
}

/// What earlier servers on this machine left behind when they were killed.
async fn clean_up(work: &WorkArgs) {
    leftovers::remove_directories();
    if work.drivers.contains(&DriverArg::Docker) {
        let docker = DockerDriver::new(work.limits.docker_host.clone());
        if let Some(count) = leftovers::remove_of_dead_processes(&docker, LOCAL_NAME).await {
            tell_leftovers(Some(count));
        }
    }
}

fn start_local(
    local: &LocalAgent,
    work: &WorkArgs,
    shutdown: Shutdown,
) -> anyhow::Result<JoinHandle<Result<(), pocketci_agent::AgentError>>> {
    let config = agent_config(
        format!("http://{}", local.address),
        Token::new(local.token.clone()),
        leftovers::process_name(LOCAL_NAME),
        BTreeMap::new(),
        None,
        work,
    );
    let drivers = drivers(work);
    Ok(tokio::spawn(pocketci_agent::run(config, drivers, shutdown)))
}

/// All faults of the configuration together.
fn config(args: ServerArgs) -> anyhow::Result<Config> {
    let mut faults = Vec::new();
    if args.lease < MIN_LEASE {
        faults.push("--lease must be at least 1s");
    }
    if args.accept_timeout < Duration::from_millis(100) {
        faults.push("--accept-timeout must be at least 100ms");
    }
    if args.auth_token.as_deref() == Some("") {
        faults.push("--auth-token is empty; leave it out, or give a token");
    }
    if args.agent_tokens.iter().any(String::is_empty) {
        faults.push("--agent-token is empty; leave it out, or give a token");
    }
    if args.max_webhooks == 0 {
        faults.push("--max-webhooks must be at least 1");
    }
    if !faults.is_empty() {
        anyhow::bail!(faults.join("\n       "));
    }
    let secret_key = secret_key(&args)?;
    let old_secret_keys = args
        .old_secret_key_files
        .iter()
        .map(|file| read_key(file))
        .collect::<anyhow::Result<_>>()?;
    Ok(Config {
        secret_key,
        old_secret_keys,
        http: SocketAddr::new(args.host, args.port),
        grpc: SocketAddr::new(args.host, args.grpc_port),
        storage: args.storage,
        webhook_timeout: args.webhook_timeout,
        runs: RunSettings {
            accept_within: args.accept_timeout,
            lease: args.lease,
            max_queue: i64::from(args.max_queue_size),
            max_running: args.max_running.map(|jobs| i64::from(jobs.get())),
            queue_timeout: args.queue_timeout,
            external_url: args.external_url,
            receipts_kept: Some(args.receipts_keep).filter(|kept| !kept.is_zero()),
            receipt_bytes_kept: i64::try_from(args.receipts_max_bytes)
                .ok()
                .filter(|bytes| *bytes > 0),
        },
        auth_token: args.auth_token,
        agent_tokens: args.agent_tokens,
        local_agent: !args.no_local_agent,
        tls: args
            .tls_cert
            .zip(args.tls_key)
            .map(|(certificate, key)| TlsFiles { certificate, key }),
        max_webhooks: args.max_webhooks,
        max_body_bytes_in_flight: MAX_BODY_BYTES_IN_FLIGHT.max(args.max_body_bytes),
        max_body_bytes: args.max_body_bytes,
        trusted_proxies: args.trusted_proxies,
        max_spilled_bytes: MAX_SPILLED_BYTES.max(2 * args.max_body_bytes as u64),
        intercept: !args.no_intercept,
    })
}

/// The key that seals secrets: given, in a file, or made and kept in one.
fn secret_key(args: &ServerArgs) -> anyhow::Result<SecretKey> {
    if let Some(key) = &args.secret_key {
        return key
            .parse()
            .map_err(|wrong: String| anyhow::anyhow!("--secret-key: {wrong}"));
    }
    let file = match (&args.secret_key_file, &args.storage) {
        (Some(file), _) => file.clone(),
        (None, StorageUrl::Sqlite(database)) => {
            let folder = database
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
                anyhow::bail!(
                    "cannot open {}: there is no folder {}; make it first",
                    args.storage,
                    folder.display()
                );
            }
            let mut name = database.clone().into_os_string();
            name.push(".key");
            name.into()
        }
        (None, StorageUrl::Postgres(_)) => PathBuf::from(DEFAULT_KEY_FILE),
    };
    if !file.exists() {
        make_key(&file)?;
    }
    read_key(&file)
}

fn read_key(file: &Path) -> anyhow::Result<SecretKey> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the secret key in {}", file.display()))?;
    text.parse()
        .map_err(|wrong: String| anyhow::anyhow!("{}: {wrong}", file.display()))
}

/// Whole or not at all: two servers that start at once agree on the one that was first.
fn make_key(file: &Path) -> anyhow::Result<()> {
    let failed = || format!("cannot make the secret key in {}", file.display());
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let mut made =
        tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).with_context(failed)?;
    let mut bytes = [0; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| anyhow::anyhow!("the system has no randomness to give"))?;
    writeln!(made, "{}", SecretKey::new(bytes).to_hex()).with_context(failed)?;
    match made.persist_noclobber(file) {
        Ok(_) => {
            eprintln!(
                "note: made a new secret key in {}; keep a copy, secrets cannot be read without it",
                file.display()
            );
            Ok(())
        }
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.error).with_context(failed),
    }
}
