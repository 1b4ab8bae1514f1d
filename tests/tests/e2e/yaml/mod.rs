//! YAML pipelines: the examples of examples/yaml as users run them, on a real Docker engine and remote agents.

mod flow;
mod hooks;
mod resources;
mod steps;
mod webhook;

use pocketci_tests::{Agent, Client, Server, ServerOptions, required, until};
use serde_json::{Value, json};
use std::path::PathBuf;

/// An example as it is in the repository.
fn example(name: &str) -> String {
    let file = examples().join(format!("{name}.yml"));
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn examples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/yaml")
}

/// A server with remote agents that have these labels each.
struct Stack {
    server: Server,
    client: Client,
    agents: Vec<Agent>,
}

impl Stack {
    async fn new(agents: &[&[&str]]) -> Self {
        required("POCKETCI_TEST_DOCKER_HOST");
        let server = Server::start(ServerOptions {
            local_agent: false,
            ..ServerOptions::default()
        })
        .await;
        let mut started = Vec::new();
        for (at, labels) in agents.iter().enumerate() {
            let mut flags = vec!["--driver", "docker", "--slots", "4"];
            for label in *labels {
                flags.extend(["--label", label]);
            }
            started.push(server.agent(&format!("agent-{at}"), &flags));
        }
        server.agents_connected(agents.len()).await;
        Self {
            client: server.client(),
            server,
            agents: started,
        }
    }

    /// One agent without labels.
    async fn plain() -> Self {
        Self::new(&[&[]]).await
    }

    /// Sets an example under its own name; the pipeline's id.
    async fn set(&self, name: &str) -> String {
        self.set_content(name, &example(name)).await
    }

    async fn set_content(&self, name: &str, content: &str) -> String {
        let more = json!({ "content_type": "yaml", "driver": "docker" });
        self.client.set(name, content, more).await
    }

    /// Starts a run of these jobs (of all, if none is named), and waits until it is over.
    async fn run(&self, pipeline: &str, jobs: &[&str]) -> Value {
        let run = self.start(pipeline, jobs).await;
        self.client.finished(&run).await
    }

    async fn start(&self, pipeline: &str, jobs: &[&str]) -> String {
        let path = format!("/api/pipelines/{pipeline}/trigger");
        let (status, answer) = self
            .client
            .post(&path, &json!({ "jobs": jobs }))
            .await
            .unwrap();
        assert_eq!(status, 202, "{answer}");
        answer["run_id"].as_str().unwrap().to_owned()
    }

    /// Waits until a build is over; the build.
    async fn build(&self, pipeline: &str, job: &str, number: &str) -> Value {
        let path = format!("/api/pipelines/{pipeline}/jobs/{job}/builds/{number}");
        until(&format!("{pipeline}/{job} {number} ends"), || async {
            let (status, build) = self.client.get(&path).await.ok()?;
            (status == 200 && build["finished_at"].is_string()).then_some(build)
        })
        .await
    }

    /// The output of a build's run.
    async fn output(&self, build: &Value) -> String {
        self.client.logs(build["run_id"].as_str().unwrap()).await
    }

    async fn status(&self, path: &str) -> Value {
        self.client.get(path).await.unwrap().1
    }
}

/// Output of a run's event stream by job.
fn output_of(events: &[Value], job: &str) -> String {
    events
        .iter()
        .filter(|event| event["event"] == "log" && event["job"] == job)
        .filter_map(|event| event["text"].as_str())
        .collect()
}

/// The status of each job of a run.
fn statuses(run: &Value) -> Vec<(&str, &str)> {
    let jobs = run["jobs"].as_array().unwrap();
    jobs.iter()
        .map(|job| {
            (
                job["name"].as_str().unwrap(),
                job["status"].as_str().unwrap(),
            )
        })
        .collect()
}
