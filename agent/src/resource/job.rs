//! The resources of one job.

use super::built_in::{BuiltIn, Call};
use super::key::Key;
use super::kind::{Kind, Known, TypeImage};
use super::script::{self, Action, Script};
use super::{Artifact, Fetched, GetCache, ResourceSpec, StepIo, Stop, TypeSpec, Version, registry};
use crate::container::{Driver, Mount, NewVolume, Owner, Volume};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::OnceCell;

/// What the resources of a job need.
#[derive(Clone)]
pub struct Setup {
    /// Runs their scripts and keeps their files.
    pub driver: Arc<dyn Driver>,
    /// The agent's for this driver, shared by its jobs.
    pub cache: Arc<GetCache>,
    /// Marks everything that is created, but for what the cache keeps.
    pub labels: BTreeMap<String, String>,
    /// As the pipeline declares them.
    pub types: Vec<TypeSpec>,
    /// Whether types may be privileged.
    pub allow_privileged: bool,
}

/// See the module. What it creates carries the job's labels; [`Resources::release`] removes it.
pub struct Resources {
    setup: Setup,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    volumes: Vec<Volume>,
    /// Made of the artifacts in these volumes.
    images: HashMap<String, Arc<OnceCell<String>>>,
    /// What the volumes of images that were got without being pulled are versions of.
    unpulled: HashMap<String, (Known, Version)>,
    /// See [`super::kind`].
    types: HashMap<String, Arc<OnceCell<TypeImage>>>,
}

impl Resources {
    /// Nothing is done before the first call.
    pub fn new(setup: Setup) -> Self {
        Self {
            setup,
            held: Mutex::default(),
        }
    }

    pub(super) fn setup(&self) -> &Setup {
        &self.setup
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn type_cell(&self, place: &str) -> Arc<OnceCell<TypeImage>> {
        let mut held = self.held();
        held.types.entry(place.to_owned()).or_default().clone()
    }

    /// Versions from `from` on, oldest first; the current one only if `from` is none. May be empty.
    pub async fn check(
        &self,
        resource: &ResourceSpec,
        from: Option<&Version>,
        io: &StepIo,
    ) -> Result<Vec<Version>, Stop> {
        let known = self.known(resource, &[], io).await?;
        self.check_known(&known, &resource.name, from, io).await
    }

    async fn check_known(
        &self,
        known: &Known,
        name: &str,
        from: Option<&Version>,
        io: &StepIo,
    ) -> Result<Vec<Version>, Stop> {
        match &known.kind {
            Kind::BuiltIn(built_in) => {
                let call = self.call(known, io);
                io.unless_stopped(built_in.check(&call, from)).await
            }
            Kind::Image { image } => {
                let script = self.script(Action::Check, image, known, name);
                let request = script::request(&known.source, from, None);
                let answer = script::run(&*self.setup.driver, script, &request, io).await?;
                script::versions(&answer)
            }
        }
    }

    /// The version that a check without a version ends with.
    pub(super) async fn newest(&self, known: &Known, io: &StepIo) -> Result<Version, Stop> {
        let mut found = self.check_known(known, "check", None, io).await?;
        found.pop().ok_or_else(|| {
            Stop::Errored("there is no version of the image to be found by check".to_owned())
        })
    }

    pub(super) fn call<'a>(&'a self, known: &'a Known, io: &'a StepIo) -> Call<'a> {
        Call {
            driver: &self.setup.driver,
            labels: &self.setup.labels,
            source: &known.source,
            io,
            privileged: known.privileged,
            allow_privileged: self.setup.allow_privileged,
        }
    }

    fn script<'a>(
        &self,
        action: Action,
        image: &'a str,
        known: &Known,
        name: &'a str,
    ) -> Script<'a> {
        Script {
            action,
            image,
            privileged: known.privileged,
            name,
            env: BTreeMap::new(),
            mounts: Vec::new(),
            labels: self.setup.labels.clone(),
        }
    }

    /// Fetches a version. The artifact is the job's own, a copy-on-write one of what the cache keeps.
    pub async fn get(
        &self,
        resource: &ResourceSpec,
        version: &Version,
        params: &Value,
        env: &BTreeMap<String, String>,
        io: &StepIo,
    ) -> Result<(Fetched, Artifact), Stop> {
        let known = self.known(resource, &[], io).await?;
        self.get_known(&known, &resource.name, version, params, env, io)
            .await
    }

    pub(super) async fn get_known(
        &self,
        known: &Known,
        name: &str,
        version: &Version,
        params: &Value,
        env: &BTreeMap<String, String>,
        io: &StepIo,
    ) -> Result<(Fetched, Artifact), Stop> {
        let key = Key::of(known, version, params);
        let fetch = async |into: &Volume| match &known.kind {
            Kind::BuiltIn(built_in) => {
                let call = self.call(known, io);
                io.unless_stopped(built_in.get(&call, version, params, into))
                    .await
            }
            Kind::Image { image } => {
                let mut script = self.script(Action::In, image, known, name);
                script.env = env.clone();
                script.mounts = vec![mount(script::GET_DIR, into)];
                if let Some(owner) = self.owner(image).await? {
                    let owned = self.setup.driver.own_volume(into, owner).await;
                    owned.map_err(|error| Stop::errored(&error))?;
                }
                let request = script::request(&known.source, Some(version), Some(params));
                let answer = script::run(&*self.setup.driver, script, &request, io).await?;
                script::fetched(Action::In, &answer)
            }
        };
        let cache = &self.setup.cache;
        let (fetched, volume) = cache.get(&key, self.new_volume("get"), io, fetch).await?;
        self.held().volumes.push(volume.clone());
        let image = match known.kind {
            // Only if a task wants to run in it.
            Kind::BuiltIn(BuiltIn::RegistryImage) if registry::skips_download(params)? => {
                let unpulled = (known.clone(), version.clone());
                self.held().unpulled.insert(volume.id.clone(), unpulled);
                None
            }
            Kind::BuiltIn(BuiltIn::RegistryImage) => {
                let call = self.call(known, io);
                Some(
                    io.unless_stopped(registry::image(&call, version, params))
                        .await?,
                )
            }
            _ => None,
        };
        Ok((fetched, Artifact { volume, image }))
    }

    /// The user that scripts of this image run as; `None` is root.
    async fn owner(&self, image: &str) -> Result<Option<Owner>, Stop> {
        let Some(engine) = self.setup.driver.engine() else {
            return Ok(None);
        };
        let found = async {
            let config = engine.image_config(image, None).await?;
            engine
                .image_owner(image, &config.user, &self.setup.labels)
                .await
        };
        found.await.map_err(|error| Stop::errored(&error))
    }

    pub(super) fn new_volume<'a>(&self, name: &'a str) -> NewVolume<'a> {
        NewVolume {
            name,
            labels: self.setup.labels.clone(),
            owner: None,
        }
    }

    /// Publishes; each artifact is a directory of its name, written by the script without others seeing it.
    pub async fn put(
        &self,
        resource: &ResourceSpec,
        params: &Value,
        artifacts: &[(String, Artifact)],
        env: &BTreeMap<String, String>,
        io: &StepIo,
    ) -> Result<Fetched, Stop> {
        let known = self.known(resource, &[], io).await?;
        match &known.kind {
            Kind::BuiltIn(built_in) => {
                let call = self.call(&known, io);
                io.unless_stopped(built_in.put(&call, params, artifacts, env))
                    .await
            }
            Kind::Image { image } => {
                let mut script = self.script(Action::Out, image, &known, &resource.name);
                script.env = env.clone();
                let request = script::request(&known.source, None, Some(params));
                let mut made = Vec::new();
                let put = self
                    .put_by_script(script, &request, artifacts, io, &mut made)
                    .await;
                for volume in &made {
                    self.setup.driver.remove_volume(volume).await;
                }
                put
            }
        }
    }

    async fn put_by_script(
        &self,
        mut script: Script<'_>,
        request: &Value,
        artifacts: &[(String, Artifact)],
        io: &StepIo,
        made: &mut Vec<Volume>,
    ) -> Result<Fetched, Stop> {
        let owner = self.owner(script.image).await?;
        script.mounts = self.put_mounts(artifacts, owner, made).await?;
        let answer = script::run(&*self.setup.driver, script, request, io).await?;
        script::fetched(Action::Out, &answer)
    }

    /// The directory itself, which is empty, and below it a volume for each artifact; all of them are added to `made`.
    async fn put_mounts(
        &self,
        artifacts: &[(String, Artifact)],
        owner: Option<Owner>,
        made: &mut Vec<Volume>,
    ) -> Result<Vec<Mount>, Stop> {
        let driver = &self.setup.driver;
        let engine = |error| Stop::errored(&error);
        let root = driver
            .create_volume("put", self.setup.labels.clone())
            .await
            .map_err(engine)?;
        made.push(root.clone());
        if let Some(owner) = owner {
            driver.own_volume(&root, owner).await.map_err(engine)?;
        }
        let mut mounts = vec![mount(script::PUT_DIR, &root)];
        for (name, artifact) in artifacts {
            if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
                return Err(Stop::Errored(format!(
                    "artifact {name:?} cannot be a directory of that name"
                )));
            }
            let new = NewVolume {
                owner,
                ..self.new_volume("put")
            };
            let derived = driver.derive_volume(&artifact.volume, new).await;
            let derived = derived.map_err(engine)?;
            mounts.push(mount(&format!("{}/{name}", script::PUT_DIR), &derived));
            made.push(derived);
        }
        Ok(mounts)
    }

    /// Where the name of the image that was made of a volume is, or will be.
    pub(super) fn image_cell(&self, volume: &Volume) -> Arc<OnceCell<String>> {
        let mut held = self.held();
        held.images.entry(volume.id.clone()).or_default().clone()
    }

    /// What an image's volume is a version of, if the image was not pulled.
    pub(super) fn unpulled(&self, volume: &Volume) -> Option<(Known, Version)> {
        self.held().unpulled.get(&volume.id).cloned()
    }

    /// Removes the volumes and images that were made for the job.
    pub async fn release(&self) {
        let held = std::mem::take(&mut *self.held());
        for volume in &held.volumes {
            self.setup.driver.remove_volume(volume).await;
        }
        let Some(engine) = self.setup.driver.engine() else {
            return;
        };
        for image in held.images.values() {
            if let Some(image) = image.get() {
                engine.release_image(image).await;
            }
        }
    }
}

fn mount(path: &str, volume: &Volume) -> Mount {
    Mount {
        path: path.to_owned(),
        volume: volume.id.clone(),
    }
}
