//! The system under measurement: one server and one remote agent, separate processes on PostgreSQL.

use anyhow::{Context, bail};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What agents say to be let in.
pub const TOKEN: &str = "bench-agent-token";
const MAX_QUEUE: &str = "--max-queue-size";
const SECRET: &str = "bench-secret";

/// A server and an agent that end with this.
pub struct Stack {
    server: Child,
    agent: Option<Child>,
    /// `host:port` of HTTP.
    pub address: String,
    grpc: String,
    home: tempfile::TempDir,
}

fn program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.parent().context("own folder")?.join("pocketci"))
}

impl Stack {
    /// Starts both on the database at `storage` and waits until they are connected.
    pub async fn start(storage: &str) -> anyhow::Result<Self> {
        Self::start_with(storage, &[]).await
    }

    /// The same with more flags for the server.
    pub async fn start_with(storage: &str, flags: &[&str]) -> anyhow::Result<Self> {
        let mut stack = Self::without_agent(storage, flags).await?;
        let agent = Command::new(program()?)
            .args(["agent", "--server", &stack.grpc, "--token", TOKEN])
            .args(["--name", "bench", "--slots", "256", "--driver", "native"])
            .env("POCKETCI_LOG", "warn")
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(stack.home.path().join("agent.log"))?)
            .spawn()
            .context("start the agent")?;
        stack.agent = Some(agent);
        let started = Instant::now();
        while !stack
            .get("/api/agents")
            .await?
            .to_string()
            .contains("\"connected\"")
        {
            if started.elapsed() > Duration::from_secs(60) {
                bail!(
                    "the agent did not connect: {}",
                    std::fs::read_to_string(stack.home.path().join("agent.log"))?
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(stack)
    }

    /// A server alone.
    pub async fn without_agent(storage: &str, flags: &[&str]) -> anyhow::Result<Self> {
        let home = tempfile::tempdir()?;
        let log = home.path().join("server.log");
        let server = Command::new(program()?)
            .args([
                "server",
                "--port",
                "0",
                "--grpc-port",
                "0",
                "--no-local-agent",
                "--storage",
                storage,
            ])
            .args(match flags.contains(&MAX_QUEUE) {
                true => &[][..],
                false => &[MAX_QUEUE, "20000"],
            })
            .args(flags)
            .args(["--agent-token", TOKEN, "--secret-key", &"07".repeat(32)])
            .env("POCKETCI_LOG", "warn")
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .context("start the server")?;
        let line = |prefix: &str| {
            let log = std::fs::read_to_string(&log).ok()?;
            log.lines()
                .find_map(|line| line.strip_prefix(prefix))
                .map(str::to_owned)
        };
        let started = Instant::now();
        let (http, grpc) = loop {
            if let (Some(http), Some(grpc)) =
                (line("listening on http://"), line("agents connect to "))
            {
                break (http, grpc);
            }
            if started.elapsed() > Duration::from_secs(30) {
                bail!(
                    "the server did not start: {}",
                    std::fs::read_to_string(&log)?
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        Ok(Self {
            server,
            agent: None,
            address: http,
            grpc,
            home,
        })
    }

    async fn call(&self, method: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
        let output = tokio::process::Command::new("curl")
            .args([
                "-sS",
                "-X",
                method,
                "-H",
                "content-type: application/json",
                "-d",
                &body.to_string(),
            ])
            .arg(format!("http://{}{path}", self.address))
            .output()
            .await?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A POST to the API.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.call("POST", path, body).await
    }

    /// A PUT to the API.
    pub async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.call("PUT", path, body).await
    }

    /// A GET of the API.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.call("GET", path, &json!({})).await
    }

    /// The agent's memory in MiB while so many jobs of a pipeline wait; they are stopped afterwards.
    pub async fn agent_memory_with(
        &self,
        name: &str,
        content: &str,
        jobs: usize,
    ) -> anyhow::Result<f64> {
        let name = name.replace(' ', "-");
        let id = self.set(&name, content, &json!({})).await?;
        let mut runs = Vec::new();
        for _ in 0..jobs {
            let path = format!("/api/pipelines/{id}/trigger");
            let started = self.call("POST", &path, &json!({})).await?;
            let run = started["run_id"]
                .as_str()
                .with_context(|| started.to_string())?;
            runs.push(run.to_owned());
        }
        let running = format!("/api/runs?pipeline={id}&status=running&limit=200");
        while self.get(&running).await?["items"]
            .as_array()
            .map_or(0, Vec::len)
            < jobs
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // The last ones are accepted; their contexts come up within moments.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (_, agent) = self.memory_mib()?;
        for run in runs {
            let path = format!("/api/runs/{run}/stop");
            let stop = tokio::process::Command::new("curl")
                .args(["-sS", "-o", "/dev/null", "-X", "POST"])
                .arg(format!("http://{}{path}", self.address))
                .status();
            stop.await?;
        }
        while !self.get(&running).await?["items"]
            .as_array()
            .is_none_or(Vec::is_empty)
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(agent)
    }

    /// Sets a pipeline; a signed webhook for it.
    pub async fn pipeline(
        &self,
        name: &str,
        content: &str,
        status: u16,
    ) -> anyhow::Result<crate::load::Shot> {
        self.pipeline_with(name, content, status, &json!({})).await
    }

    /// Sets a pipeline with more fields; its id.
    pub async fn set(&self, name: &str, content: &str, more: &Value) -> anyhow::Result<String> {
        let mut body = json!({ "content": content });
        for (field, value) in more.as_object().into_iter().flatten() {
            body[field] = value.clone();
        }
        let set = self
            .call("PUT", &format!("/api/pipelines/{name}"), &body)
            .await?;
        let id = set["pipeline"]["id"].as_str();
        Ok(id.with_context(|| set.to_string())?.to_owned())
    }

    /// A signed webhook for a pipeline with more fields.
    pub async fn pipeline_with(
        &self,
        name: &str,
        content: &str,
        status: u16,
        more: &Value,
    ) -> anyhow::Result<crate::load::Shot> {
        let mut body = json!({ "content": content, "webhook_secret": SECRET, "driver": "native" });
        for (field, value) in more.as_object().into_iter().flatten() {
            body[field] = value.clone();
        }
        let id = self.set(name, content, &body).await?;
        Ok(crate::baseline::signed_shot(
            &self.address,
            &format!("/api/webhooks/{id}"),
            SECRET,
            status,
        ))
    }

    /// Where agents connect.
    pub fn grpc(&self) -> &str {
        &self.grpc
    }

    /// CPU time of the server so far.
    pub fn server_cpu(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.server.id()))?;
        let (_, after_name) = stat.rsplit_once(')').context("stat")?;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let ticks =
            |at: usize| -> anyhow::Result<f64> { Ok(fields.get(at).context("stat")?.parse()?) };
        // utime and stime, in USER_HZ, which is 100 on every Linux.
        Ok(Duration::from_secs_f64((ticks(11)? + ticks(12)?) / 100.0))
    }

    /// Resident memory of server and agent, in MiB.
    pub fn memory_mib(&self) -> anyhow::Result<(f64, f64)> {
        Ok((
            resident_mib(self.server.id())?,
            self.agent
                .as_ref()
                .map_or(Ok(0.0), |agent| resident_mib(agent.id()))?,
        ))
    }
}

fn resident_mib(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}

impl Drop for Stack {
    fn drop(&mut self) {
        for child in self.agent.iter_mut().chain([&mut self.server]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
