//! A job's resources on a driver, with its log; images of resource scripts.

use pocketci_agent::container::docker::DockerDriver;
use pocketci_agent::container::native::NativeDriver;
use pocketci_agent::container::{Driver, Mount, Output, StepExit, StepSpec, Volume, tar_stream};
use pocketci_agent::resource::{
    Artifact, CacheLimits, Fetched, GetCache, ResourceSpec, Resources, Setup, StepIo, Stop,
    TypeSpec, Version,
};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub fn host() -> String {
    std::env::var("POCKETCI_TEST_DOCKER_HOST")
        .expect("run `make test`, or set POCKETCI_TEST_DOCKER_HOST to a Docker engine")
}

pub fn busybox() -> String {
    std::env::var("POCKETCI_TEST_IMAGE").unwrap_or_else(|_| "pocketci-test/busybox:1".into())
}

pub fn docker() -> Arc<dyn Driver> {
    Arc::new(DockerDriver::with_grace(
        Some(host()),
        Duration::from_millis(300),
    ))
}

pub fn native() -> Arc<dyn Driver> {
    Arc::new(NativeDriver::default())
}

pub fn labels(test: &str) -> BTreeMap<String, String> {
    let pairs = [
        ("pocketci.run", "00000000-0000-7000-8000-00000000000a"),
        ("pocketci.job", test),
        ("pocketci.agent", test),
        ("pocketci.test", test),
    ];
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// The labels of a test's agent, without a job.
pub fn agent_labels(test: &str) -> BTreeMap<String, String> {
    let mut labels = labels(test);
    labels.remove("pocketci.run");
    labels.remove("pocketci.job");
    labels
}

pub fn map(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

pub fn version(pairs: &[(&str, &str)]) -> Version {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

pub fn resource(type_name: &str, source: Value) -> ResourceSpec {
    ResourceSpec {
        name: "r".into(),
        type_name: type_name.into(),
        source: map(source),
    }
}

pub fn errored<T: std::fmt::Debug>(result: Result<T, Stop>) -> String {
    match result {
        Err(Stop::Errored(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// One job.
pub struct Job {
    pub driver: Arc<dyn Driver>,
    pub resources: Arc<Resources>,
    pub io: StepIo,
    log: Arc<Mutex<Vec<u8>>>,
    test: String,
}

pub fn cache(driver: &Arc<dyn Driver>, test: &str, entries: usize) -> Arc<GetCache> {
    let limits = CacheLimits {
        entries,
        ..CacheLimits::default()
    };
    Arc::new(GetCache::new(driver.clone(), agent_labels(test), limits))
}

impl Job {
    pub fn new(driver: Arc<dyn Driver>, test: &str, types: Vec<TypeSpec>) -> Self {
        let cache = cache(&driver, test, 8);
        Self::with(driver, cache, test, types, true)
    }

    pub fn with(
        driver: Arc<dyn Driver>,
        cache: Arc<GetCache>,
        test: &str,
        types: Vec<TypeSpec>,
        allow_privileged: bool,
    ) -> Self {
        let setup = Setup {
            driver: driver.clone(),
            cache,
            labels: labels(test),
            types,
            allow_privileged,
        };
        let (output, pieces) = mpsc::channel::<Output>(4);
        let log = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(gather(pieces, log.clone()));
        let io = StepIo {
            output,
            stop: CancellationToken::new(),
        };
        Self {
            driver,
            resources: Arc::new(Resources::new(setup)),
            io,
            log,
            test: test.into(),
        }
    }

    /// What was logged so far; what is under way may be missing.
    pub async fn log(&self) -> String {
        // Whatever was sent is taken once the channel has room for all of it again.
        while self.io.output.capacity() < self.io.output.max_capacity() {
            tokio::task::yield_now().await;
        }
        tokio::task::yield_now().await;
        String::from_utf8(self.log.lock().unwrap().clone()).unwrap()
    }

    pub async fn check(
        &self,
        resource: &ResourceSpec,
        from: Option<&Version>,
    ) -> Result<Vec<Version>, Stop> {
        self.resources.check(resource, from, &self.io).await
    }

    pub async fn get(
        &self,
        resource: &ResourceSpec,
        version: &Version,
        params: Value,
    ) -> Result<(Fetched, Artifact), Stop> {
        let env = BTreeMap::from([("BUILD_ID".to_owned(), "7".to_owned())]);
        self.resources
            .get(resource, version, &params, &env, &self.io)
            .await
    }

    pub async fn put(
        &self,
        resource: &ResourceSpec,
        params: Value,
        artifacts: &[(&str, &Artifact)],
    ) -> Result<Fetched, Stop> {
        let env = BTreeMap::from([("BUILD_ID".to_owned(), "7".to_owned())]);
        let artifacts: Vec<(String, Artifact)> = artifacts
            .iter()
            .map(|(name, artifact)| ((*name).to_owned(), (*artifact).clone()))
            .collect();
        self.resources
            .put(resource, &params, &artifacts, &env, &self.io)
            .await
    }

    pub async fn artifact(&self, files: &[(&str, &str)]) -> Artifact {
        let made = self.driver.create_volume("a", labels(&self.test)).await;
        let volume = made.unwrap();
        let files = files.iter();
        let files = files.map(|(path, text)| (*path, text.as_bytes(), 0o755));
        let archive = tar_stream::of_bytes(tar_stream::of_files(files).unwrap());
        self.driver.write_tar(&volume, "", archive).await.unwrap();
        Artifact {
            volume,
            image: None,
        }
    }

    pub async fn read(&self, artifact: &Artifact, path: &str) -> String {
        let read = self
            .driver
            .read_files(&artifact.volume, &[path.to_owned()])
            .await;
        let bytes = read.unwrap().into_values().next().unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// What a shell says that has a volume at `v`.
    pub async fn shell(&self, image: &str, script: &str, volume: &Volume) -> String {
        let spec = StepSpec {
            image: image.into(),
            path: "sh".into(),
            args: vec!["-ec".into(), script.into()],
            labels: labels(&self.test),
            no_network: true,
            mounts: vec![Mount {
                path: "v".into(),
                volume: volume.id.clone(),
            }],
            ..StepSpec::default()
        };
        let (sender, pieces) = mpsc::channel(8);
        let said = Arc::new(Mutex::new(Vec::new()));
        let running = self.driver.run(spec, sender, CancellationToken::new());
        let (exit, ()) = tokio::join!(running, gather(pieces, said.clone()));
        let said = String::from_utf8(said.lock().unwrap().clone()).unwrap();
        assert!(
            matches!(exit, Ok(StepExit::Exited { code: 0, .. })),
            "{exit:?}: {said}"
        );
        said
    }

    /// Files of an image with these scripts below `/opt/resource`.
    pub async fn rootfs(&self, scripts: &[(&str, &str)], user: &str) -> Artifact {
        let metadata = format!(r#"{{"env":["PATH=/bin","IMAGE=yes"],"user":"{user}"}}"#);
        let paths: Vec<(String, String)> = scripts
            .iter()
            .map(|(name, text)| {
                (
                    format!("rootfs/opt/resource/{name}"),
                    format!("#!/bin/sh\n{text}\n"),
                )
            })
            .collect();
        let mut files: Vec<(&str, &str)> = paths
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
            .collect();
        files.push(("metadata.json", &metadata));
        let artifact = self.artifact(&files).await;
        let copy = "mkdir -p v/rootfs/tmp; chmod 1777 v/rootfs/tmp; cp -a /bin /etc v/rootfs/";
        self.shell(&busybox(), copy, &artifact.volume).await;
        artifact
    }

    /// A type whose image has these scripts, under the engine's name for it.
    pub async fn image(&self, scripts: &[(&str, &str)], user: &str) -> String {
        let artifact = self.rootfs(scripts, user).await;
        self.resources.image_of(&artifact, &self.io).await.unwrap()
    }
}

async fn gather(mut pieces: mpsc::Receiver<Output>, into: Arc<Mutex<Vec<u8>>>) {
    while let Some((_, bytes)) = pieces.recv().await {
        into.lock().unwrap().extend_from_slice(&bytes);
    }
}

/// A resource type that is an image of the engine.
pub fn image_type(name: &str, image: &str) -> TypeSpec {
    let (repository, tag) = image.rsplit_once(':').unwrap();
    TypeSpec {
        name: name.into(),
        type_name: "registry-image".into(),
        source: map(serde_json::json!({ "repository": repository, "tag": tag })),
        ..TypeSpec::default()
    }
}

/// Removes everything of a test, and tells whether there was anything that its jobs should have removed.
pub async fn sweep(test: &str) -> usize {
    let driver = docker();
    let is_ours = |labels: &BTreeMap<String, String>| {
        labels.get("pocketci.test").map(String::as_str) == Some(test)
    };
    driver.sweep(&is_ours).await.unwrap()
}
