//! Publishing through the engine, which pushes an image by the name that it has there.
//!
//! The engine is everybody's: a name is one push's at a time, and has what it had afterwards. That is a task of its own, as
//! it has to be done also if nobody waits for the push any more.

use super::{Source, load, needs_engine, wrong};
use crate::container::docker::DockerDriver;
use crate::container::{Driver, DriverError, Volume};
use crate::resource::built_in::Call;
use crate::resource::{StepIo, Stop};
use std::sync::Arc;

/// Where images are between archive and registry; with a host, so that no engine adds its own.
const LOADED: &str = "localhost/pocketci/loaded";

struct Push {
    driver: Arc<dyn Driver>,
    source: Source,
    tags: Vec<String>,
    /// The archive.
    volume: Volume,
    path: String,
    /// Stops with the put, and when nobody waits for it.
    io: StepIo,
}

/// Pushes the archive in a file of a volume under these tags; answers the digests in the registry in their order.
pub(super) async fn push(
    call: &Call<'_>,
    source: &Source,
    tags: &[String],
    (volume, path): (&Volume, String),
) -> Result<Vec<String>, Stop> {
    let stop = call.io.stop.child_token();
    let waiting = stop.clone().drop_guard();
    let push = Push {
        driver: call.driver.clone(),
        source: source.clone(),
        tags: tags.to_vec(),
        volume: volume.clone(),
        path,
        io: StepIo {
            looked_at: None,
            output: call.io.output.clone(),
            stop,
        },
    };
    let pushed = tokio::spawn(push.run()).await;
    drop(waiting);
    pushed.map_err(|error| wrong("push", error))?
}

impl Push {
    async fn run(self) -> Result<Vec<String>, Stop> {
        let engine = self.driver.engine().ok_or_else(needs_engine)?;
        let loaded = format!("{LOADED}:{:016x}", rand::random::<u64>());
        let pushed = self.load_and_push(engine, &loaded).await;
        engine.remove_image(&loaded).await;
        pushed
    }

    async fn load_and_push(
        &self,
        engine: &DockerDriver,
        loaded: &str,
    ) -> Result<Vec<String>, Stop> {
        let archive = (&self.volume, self.path.as_str());
        load::load(&*self.driver, engine, archive, loaded, &self.io.stop).await?;
        let mut digests = Vec::new();
        for tag in &self.tags {
            digests.push(self.push_tag(engine, loaded, tag).await?);
        }
        Ok(digests)
    }

    async fn push_tag(
        &self,
        engine: &DockerDriver,
        loaded: &str,
        tag: &str,
    ) -> Result<String, Stop> {
        let stopped = |error: DriverError| Stop::errored(&error);
        let repository = &self.source.repository;
        let named = format!("{repository}:{tag}");
        let waiting = async {
            let alone = engine.hold_name(&named).await;
            self.io.say(&format!("pushing {named}\n")).await;
            let before = engine.local_image(&named).await.map_err(stopped)?;
            Ok((alone, before.and_then(|image| image.id)))
        };
        let (_alone, before) = self.io.unless_stopped(waiting).await?;
        // Not stopped on its way: the engine could name the image after it was looked at.
        let tagged = engine.tag_image(loaded, repository, tag).await;
        let pushed = match tagged {
            Ok(()) => {
                let login = self.source.login();
                let pushing = engine.push_image(repository, tag, login.as_ref());
                let pushing = async { pushing.await.map_err(stopped) };
                self.io.unless_stopped(pushing).await
            }
            Err(error) => Err(stopped(error)),
        };
        self.put_back(engine, loaded, tag, before).await;
        pushed
    }

    /// Gives the name to what had it before.
    async fn put_back(
        &self,
        engine: &DockerDriver,
        loaded: &str,
        tag: &str,
        before: Option<String>,
    ) {
        let repository = &self.source.repository;
        let named = format!("{repository}:{tag}");
        let id = async |name: &str| {
            let found = engine.local_image(name).await;
            found.ok().flatten().and_then(|image| image.id)
        };
        // A pull, for example, gave it to another image meanwhile: that one keeps it.
        if id(&named).await != id(loaded).await {
            return;
        }
        let Some(before) = before else {
            engine.remove_image(&named).await;
            return;
        };
        if let Err(error) = engine.tag_image(&before, repository, tag).await {
            tracing::warn!(error = %error.with_causes(), image = named, "after a push the engine does not give the name back to the image that had it");
        }
    }
}
