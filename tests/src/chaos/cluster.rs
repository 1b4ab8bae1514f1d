//! Servers and agents of one database, every connection between two of them over a link that can be cut.

use super::address;
use super::link::{Front, Link, Mode};
use super::member::Member;
use super::schedule::Target;
use super::within;
use crate::Client;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinSet;

/// Of every cluster.
const TOKEN: &str = "chaos-agent-token";
/// Where each server listens on its own address.
const HTTP_PORT: u16 = 8080;
/// See [`HTTP_PORT`].
const GRPC_PORT: u16 = 9090;
/// How often ended processes are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a cluster may take to come up on a busy machine.
const UP_WITHIN: Duration = Duration::from_secs(60);

/// What to start.
pub struct ClusterOptions {
    /// `postgres://…` as the test itself reaches it.
    pub storage: String,
    /// How many servers.
    pub servers: usize,
    /// How many agents; agent N goes to server N first, and to the others if that is not there.
    pub agents: usize,
    /// More flags of every server.
    pub server_flags: Vec<&'static str>,
    /// More flags of every agent.
    pub agent_flags: Vec<&'static str>,
}

/// A server and the links to and from it.
pub struct ServerPlace {
    /// The process.
    pub member: Arc<Member>,
    /// From it to PostgreSQL.
    pub database: Front,
    /// From callers to it.
    pub callers: Front,
    /// Where it listens for agents, past all links.
    pub grpc: SocketAddr,
}

/// An agent and its links.
pub struct AgentPlace {
    /// The process.
    pub member: Arc<Member>,
    /// The name it says in Hello.
    pub name: String,
    /// One link to each server.
    pub servers: Front,
}

/// See the module.
pub struct Cluster {
    /// By number.
    pub servers: Vec<ServerPlace>,
    /// By number.
    pub agents: Vec<AgentPlace>,
    /// Past all links.
    pub storage: String,
    _supervisor: JoinSet<()>,
    home: Option<TempDir>,
}

impl Cluster {
    /// Starts all and waits until every agent is connected.
    pub async fn start(options: ClusterOptions) -> Self {
        let cluster = Self::prepare(options).await;
        for server in &cluster.servers {
            server.member.start();
        }
        for at in 0..cluster.servers.len() {
            cluster.server_ready(at).await;
        }
        for agent in &cluster.agents {
            agent.member.start();
        }
        cluster.all_connected().await;
        cluster
    }

    /// Everything but the processes, which are started one by one.
    pub async fn prepare(options: ClusterOptions) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let (_, host, rest) = parts(&options.storage);
        let database: SocketAddr = host.parse().expect("an address and a port");
        let (mut servers, mut grpc) = (Vec::new(), Vec::new());
        for at in 0..options.servers {
            let ip = address::fresh();
            let to_database = Link::new(format!("server-{at} to database"), database);
            let to_database = Front::start(ip, vec![to_database]).await;
            let storage = options
                .storage
                .replace(&host, &to_database.address.to_string());
            assert!(storage.ends_with(&rest), "{storage}");
            grpc.push(SocketAddr::from((ip, GRPC_PORT)));
            servers.push(ServerPlace {
                member: server(at, ip, &storage, &options.server_flags, home.path()),
                database: to_database,
                grpc: (ip, GRPC_PORT).into(),
                callers: Front::start(
                    ip,
                    vec![Link::new(
                        format!("callers to server-{at}"),
                        (ip, HTTP_PORT).into(),
                    )],
                )
                .await,
            });
        }
        let mut agents = Vec::new();
        for at in 0..options.agents {
            // Names are unique on this machine: other tests share the Docker engine.
            let name = format!("chaos-{}-{at}", uuid::Uuid::new_v4().simple());
            let links = (0..grpc.len()).map(|n| (at + n) % grpc.len());
            let links = links.map(|n| Link::new(format!("agent-{at} to server-{n}"), grpc[n]));
            let front = Front::start(address::fresh(), links.collect()).await;
            agents.push(AgentPlace {
                member: agent(at, &name, front.address, &options.agent_flags, home.path()),
                name,
                servers: front,
            });
        }
        Self {
            _supervisor: supervise(&servers, &agents),
            servers,
            agents,
            storage: options.storage,
            home: Some(home),
        }
    }

    /// A server's API over the link of callers.
    pub fn client(&self, server: usize) -> Client {
        Client::new(&format!("http://{}", self.servers[server].callers.address))
    }

    /// Waits until a server answers.
    pub async fn server_ready(&self, server: usize) {
        let client = self.client(server);
        within(UP_WITHIN, &format!("server-{server} is ready"), || async {
            client
                .get("/readyz")
                .await
                .ok()
                .filter(|answer| answer.0 == 200)
        })
        .await;
    }

    /// Waits until all agents are connected.
    pub async fn all_connected(&self) {
        let client = self.client(0);
        within(UP_WITHIN, "all agents are connected", || async {
            let (_, agents) = client.get("/api/agents").await.ok()?;
            let connected = agents
                .as_array()?
                .iter()
                .filter(|agent| agent["status"] == "connected");
            (connected.count() >= self.agents.len()).then_some(())
        })
        .await;
    }

    /// The process of a target.
    pub fn member(&self, target: Target) -> Arc<Member> {
        match target {
            Target::Server(at) => self.servers[at].member.clone(),
            Target::Agent(at) => self.agents[at].member.clone(),
        }
    }

    /// Sets all links of a target.
    pub fn set_links(&self, target: Target, mode: Mode) {
        match target {
            Target::Agent(at) => self.agents[at].servers.set(mode),
            Target::Server(at) => {
                self.servers[at].database.set(mode);
                self.servers[at].callers.set(mode);
                for (number, agent) in self.agents.iter().enumerate() {
                    // Agent N lists the servers from N on.
                    let place = (at + self.servers.len() - number % self.servers.len())
                        % self.servers.len();
                    agent.servers.links[place].set(mode);
                }
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let servers = self.servers.iter().map(|place| &place.member);
        let members = servers.chain(self.agents.iter().map(|place| &place.member));
        for member in members {
            member.kill();
            if std::thread::panicking() {
                eprintln!("--- the end of {} ---\n{}", member.name, member.tail());
            }
        }
        if std::thread::panicking()
            && let Some(home) = self.home.take()
        {
            super::say(&format!("whole logs: {}", home.keep().display()));
        }
    }
}

/// `postgres://user@`, `host:port` and `/database` of a URL.
fn parts(url: &str) -> (String, String, String) {
    let (user, rest) = url.split_once('@').expect("a URL with a user");
    let (host, database) = rest.split_once('/').expect("a URL with a database");
    (user.to_owned(), host.to_owned(), format!("/{database}"))
}

fn strings(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

fn server(at: usize, ip: Ipv4Addr, storage: &str, flags: &[&str], home: &Path) -> Arc<Member> {
    let mut args = strings(&[
        "server",
        "--no-local-agent",
        "--agent-token",
        TOKEN,
        "--driver",
        "native,docker",
        "--host",
        &ip.to_string(),
        "--port",
        &HTTP_PORT.to_string(),
        "--grpc-port",
        &GRPC_PORT.to_string(),
        "--storage",
        storage,
        "--secret-key",
        &"07".repeat(32),
    ]);
    args.extend(strings(flags));
    let name = format!("server-{at}");
    let log = home.join(format!("{name}.log"));
    Arc::new(Member::new(&name, args, log))
}

fn agent(at: usize, name: &str, to: SocketAddr, flags: &[&str], home: &Path) -> Arc<Member> {
    let mut args = strings(&[
        "agent",
        "--server",
        &format!("http://{to}"),
        "--token",
        TOKEN,
        "--name",
        name,
        "--driver",
        "native,docker",
    ]);
    if let Ok(host) = std::env::var("POCKETCI_TEST_DOCKER_HOST") {
        args.extend(["--docker-host".into(), host]);
    }
    args.extend(strings(flags));
    let log = home.join(format!("agent-{at}.log"));
    Arc::new(Member::new(&format!("agent-{at}"), args, log))
}

fn supervise(servers: &[ServerPlace], agents: &[AgentPlace]) -> JoinSet<()> {
    let members: Vec<Arc<Member>> = servers
        .iter()
        .map(|place| place.member.clone())
        .chain(agents.iter().map(|place| place.member.clone()))
        .collect();
    let mut task = JoinSet::new();
    task.spawn(async move {
        loop {
            for member in &members {
                member.look_after();
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
    task
}

/// The agents' token, for scripted peers.
pub fn token() -> &'static str {
    TOKEN
}
