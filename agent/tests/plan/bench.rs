//! A workshop without a server: runs jobs of YAML pipelines and collects what they tell.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use pb::report::Kind;
use pocketci_agent::attempt::{
    Archive, Backend, GateState, NewPipeline, Pieces, PipelineSet, Workshop,
};
use pocketci_agent::container::Driver;
use pocketci_agent::container::docker::DockerDriver;
use pocketci_agent::container::native::NativeDriver;
use pocketci_agent::js::request::Storage;
use pocketci_agent::js::{Limits, Program};
use pocketci_agent::local::{self, Happening, LocalJob};
use pocketci_agent::outside::guard::fetch_guard;
use pocketci_agent::{AgentConfig, Token};
use pocketci_proto::agent as pb;
use pocketci_proto::api::Driver as DriverName;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What the server is asked to do, and what it answers.
#[derive(Default)]
pub struct Server {
    pub secrets: BTreeMap<String, String>,
    /// Decides about gates.
    pub rejects: bool,
    /// What is wrong with pipelines that are set.
    pub invalid: String,
    pub uploads: BTreeMap<String, Bytes>,
    /// They end too early.
    pub breaks_off: bool,
    pub saved: Mutex<Vec<String>>,
    pub pipelines: Mutex<Vec<NewPipeline>>,
    pub outputs: Mutex<BTreeMap<String, Bytes>>,
}

#[async_trait]
impl Backend for Server {
    async fn secrets(&self, names: Vec<String>) -> Result<BTreeMap<String, String>, String> {
        let known = names.into_iter();
        Ok(known
            .filter_map(|name| Some((name.clone(), self.secrets.get(&name)?.clone())))
            .collect())
    }

    async fn storage(&self, _: Storage) -> Result<serde_json::Value, String> {
        Err("no storage here".to_owned())
    }

    async fn dedup(&self, _: u32, _: [u8; 32]) -> Result<bool, String> {
        Ok(false)
    }

    async fn open_gate(
        &self,
        _: u32,
        name: &str,
        message: &str,
        _: Duration,
    ) -> Result<GateState, String> {
        self.note(format!("gate {name}: {message}"));
        Ok(GateState {
            status: "pending".to_owned(),
            ..GateState::default()
        })
    }

    async fn await_gate(&self, _: &Bytes) -> Result<GateState, String> {
        Ok(GateState {
            status: if self.rejects { "rejected" } else { "approved" }.to_owned(),
            by: "ann".to_owned(),
            ..GateState::default()
        })
    }

    async fn trigger(
        &self,
        _: u32,
        _: &str,
        _: Vec<String>,
        _: Vec<String>,
    ) -> Result<String, String> {
        Err("no other pipelines here".to_owned())
    }

    async fn save_output(
        &self,
        _: u32,
        resource: &str,
        version: String,
        metadata: String,
    ) -> Result<(), String> {
        self.note(format!("put {resource} {version} {metadata}"));
        Ok(())
    }

    async fn save_input_metadata(&self, name: &str, metadata: String) -> Result<(), String> {
        self.note(format!("get {name} {metadata}"));
        Ok(())
    }

    async fn save_versions(
        &self,
        resource: &str,
        is_type: bool,
        versions: String,
    ) -> Result<(), String> {
        self.note(format!("check {resource} {is_type} {versions}"));
        Ok(())
    }

    async fn set_pipeline(&self, _: u32, pipeline: NewPipeline) -> Result<PipelineSet, String> {
        self.pipelines.lock().unwrap().push(pipeline);
        Ok(PipelineSet {
            changed: true,
            diff: "job build has been added".to_owned(),
            warnings: vec!["odd".to_owned()],
            error: self.invalid.clone(),
        })
    }

    async fn fetch_input(&self, name: &str) -> Result<Pieces, String> {
        let found = self.uploads.get(name).cloned();
        let tar = found.ok_or_else(|| "not uploaded".to_owned())?;
        let mut pieces: Vec<_> = tar
            .chunks(700)
            .map(|p| Ok(Bytes::copy_from_slice(p)))
            .collect();
        if self.breaks_off {
            pieces.truncate(1);
            pieces.push(Err("the line is cut".to_owned()));
        }
        Ok(stream::iter(pieces).boxed())
    }

    async fn upload_output(&self, name: &str, archive: &dyn Archive) -> Result<(), String> {
        // The first time is lost with its connection.
        drop(archive.pieces().await?.next().await);
        let pieces: Vec<Bytes> = archive.pieces().await?.try_collect().await?;
        let tar = pieces.concat().into();
        self.outputs.lock().unwrap().insert(name.to_owned(), tar);
        Ok(())
    }
}

impl Server {
    pub fn with_secrets<const N: usize>(secrets: [(&str, &str); N]) -> Self {
        let secrets = secrets.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            secrets: secrets.into(),
            ..Self::default()
        }
    }

    fn note(&self, said: String) {
        self.saved.lock().unwrap().push(said);
    }

    pub fn saved(&self) -> Vec<String> {
        self.saved.lock().unwrap().clone()
    }
}

/// What a step told.
#[derive(Default, Debug, Clone)]
pub struct Told {
    pub name: String,
    pub kind: String,
    pub path: String,
    pub status: String,
    pub exit_code: i32,
    pub message: String,
    pub stdout: String,
    pub stderr: String,
    pub system: String,
}

/// What became of a job.
#[derive(Default, Debug)]
pub struct Ran {
    pub outcome: String,
    pub reason: String,
    pub message: String,
    pub steps: BTreeMap<u32, Told>,
    /// PocketCI's words about the job.
    pub system: String,
}

impl Ran {
    /// The last step of this name.
    pub fn step(&self, name: &str) -> &Told {
        let mut steps = self.steps.values().rev();
        let found = steps.find(|step| step.name == name);
        found.unwrap_or_else(|| panic!("no step {name}: {self:#?}"))
    }

    pub fn stdout(&self, name: &str) -> &str {
        self.step(name).stdout.trim_end()
    }

    pub fn names(&self) -> Vec<&str> {
        self.steps.values().map(|step| step.name.as_str()).collect()
    }

    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!(self.outcome, "succeeded", "{self:#?}");
        self
    }
}

/// An agent's workshop; what it keeps between jobs lives as long.
pub struct Bench {
    pub workshop: Arc<Workshop>,
    pub driver: DriverName,
}

/// A job to be run.
pub struct Wanted<'a> {
    pub yaml: &'a str,
    pub job: &'a str,
    pub more: pb::YamlJob,
    pub stop: CancellationToken,
}

impl<'a> Wanted<'a> {
    pub fn of(yaml: &'a str) -> Self {
        Self {
            yaml,
            job: "job",
            more: pb::YamlJob::default(),
            stop: CancellationToken::new(),
        }
    }
}

pub fn docker_host() -> String {
    std::env::var("POCKETCI_TEST_DOCKER_HOST")
        .expect("run `make test`, or set POCKETCI_TEST_DOCKER_HOST to a Docker engine")
}

pub fn image() -> String {
    std::env::var("POCKETCI_TEST_IMAGE").unwrap_or_else(|_| "pocketci-test/busybox:1".into())
}

impl Bench {
    /// May reach this machine's own addresses.
    pub fn native_with_loopback() -> Self {
        let driver = NativeDriver::with_grace(Duration::from_millis(300));
        let mut bench = Self::with(Arc::new(driver), false);
        let mut config = bench.workshop.config.clone();
        config.outside.guard = fetch_guard(vec!["127.0.0.1".parse().unwrap()]);
        let drivers = bench.workshop.drivers.clone();
        bench.workshop = Arc::new(Workshop::new(config, drivers));
        bench
    }

    pub fn native() -> Self {
        let driver = NativeDriver::with_grace(Duration::from_millis(300));
        Self::with(Arc::new(driver), false)
    }

    pub fn docker() -> Self {
        Self::docker_of(false)
    }

    pub fn docker_of(allow_privileged: bool) -> Self {
        let grace = Duration::from_millis(300);
        let driver = DockerDriver::with_grace(Some(docker_host()), grace);
        Self::with(Arc::new(driver), allow_privileged)
    }

    /// An agent of this name.
    pub fn docker_named(name: String) -> Self {
        let driver = DockerDriver::with_grace(Some(docker_host()), Duration::from_millis(300));
        Self::named(name, Arc::new(driver), false)
    }

    pub fn with(driver: Arc<dyn Driver>, allow_privileged: bool) -> Self {
        let name = format!("test-{:08x}", rand::random::<u32>());
        Self::named(name, driver, allow_privileged)
    }

    fn named(name: String, driver: Arc<dyn Driver>, allow_privileged: bool) -> Self {
        let config = AgentConfig {
            server_url: "http://127.0.0.1:1".into(),
            token: Token::new("t"),
            name,
            labels: BTreeMap::new(),
            slots: 1,
            default_driver: driver.name(),
            tls_ca: None,
            allow_privileged,
            limits: Limits::default(),
            outside: Default::default(),
            drain_timeout: Duration::ZERO,
            spool: Default::default(),
            keep_failed: Duration::ZERO,
            state_dir: None,
        };
        Self {
            driver: driver.name(),
            workshop: Arc::new(Workshop::new(config, vec![driver])),
        }
    }

    /// The only job, called `job`; `IMAGE` is the test's image.
    pub async fn run(&self, yaml: &str) -> Ran {
        self.run_at(&Arc::default(), Wanted::of(yaml)).await
    }

    pub async fn run_at(&self, server: &Arc<Server>, wanted: Wanted<'_>) -> Ran {
        self.watched(server, wanted, |_| {}).await
    }

    /// `watch` sees what the job printed so far, whenever there is more.
    pub async fn watched(
        &self,
        server: &Arc<Server>,
        wanted: Wanted<'_>,
        mut watch: impl FnMut(&Ran),
    ) -> Ran {
        let job = LocalJob {
            program: Arc::new(Program {
                file_name: "pipeline.yml".into(),
                source: wanted.yaml.replace("IMAGE", &image()),
                ..Program::default()
            }),
            assign: pb::Assign {
                r#ref: Some(pb::AttemptRef {
                    run_id: rand::random::<[u8; 16]>().to_vec().into(),
                    job_id: rand::random::<[u8; 16]>().to_vec().into(),
                    attempt: 1,
                }),
                pipeline_id: "pipeline-id".into(),
                pipeline_name: "pipeline".into(),
                job_name: wanted.job.into(),
                driver: self.driver.as_str().into(),
                yaml: Some(wanted.more),
                ..pb::Assign::default()
            },
            body: Bytes::new(),
        };
        let mut ran = Ran::default();
        let backend: Arc<dyn Backend> = server.clone();
        local::run(
            self.workshop.clone(),
            job,
            backend,
            wanted.stop,
            |happening| {
                ran.hear(happening);
                watch(&ran);
            },
        )
        .await;
        ran
    }
}

impl Ran {
    fn hear(&mut self, happening: Happening) {
        match happening {
            Happening::Report(Kind::Finished(end)) => {
                self.outcome = end.outcome;
                self.reason = end.reason;
                self.message = end.message;
            }
            Happening::Report(Kind::StepStarted(step)) => {
                let told = self.steps.entry(step.step).or_default();
                told.name = step.name;
                told.kind = step.kind;
                told.path = step.path;
            }
            Happening::Report(Kind::StepFinished(end)) => {
                let told = self.steps.entry(end.step).or_default();
                told.status = end.status;
                told.exit_code = end.exit_code;
                told.message = end.message;
            }
            Happening::Report(_) => {}
            Happening::Output(chunk) => {
                let text = String::from_utf8_lossy(&chunk.data).into_owned();
                use pb::log_chunk::Stream;
                match (chunk.step, chunk.stream()) {
                    (0, _) => self.system.push_str(&text),
                    (step, stream) => {
                        let told = self.steps.entry(step).or_default();
                        match stream {
                            Stream::Stdout => told.stdout.push_str(&text),
                            Stream::Stderr => told.stderr.push_str(&text),
                            _ => told.system.push_str(&text),
                        }
                    }
                }
            }
        }
    }
}

/// The same test on both drivers.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod native {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name($crate::bench::Bench::native()).await;
            })*
        }
        mod docker {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name($crate::bench::Bench::docker()).await;
            })*
        }
    };
}
