//! Names of images in the engine, which jobs share: pushes leave none behind, and nothing is pulled unasked.

use super::fake_registry::start;
use super::registry::image;
use super::support::*;
use pocketci_agent::resource::{Artifact, ResourceSpec, Stop};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Longest that an engine may take to do without names.
const SOON: Duration = Duration::from_secs(30);

/// An image with this script: its name in the engine, and its archive.
async fn archive(job: &Job, script: &str) -> (String, Artifact) {
    let made = job.image(&[("hello", script)], "").await;
    let local = image(&made);
    let found = job.check(&local, None).await.unwrap();
    let saved = job.get(&local, &found[0], json!({"format": "oci"})).await;
    (made, saved.unwrap().1)
}

fn remote(port: u16) -> ResourceSpec {
    let repository = format!("127.0.0.1:{port}/team/app");
    let source = json!({"repository": repository, "tag": "1", "username": "me", "password": "p"});
    resource("registry-image", source)
}

fn params() -> Value {
    json!({"image": "img/image.tar"})
}

/// All names of an image.
async fn names(image: &str) -> Vec<String> {
    let path = host().strip_prefix("unix://").unwrap().to_owned();
    let docker = bollard::Docker::connect_with_unix(&path, 60, bollard::API_DEFAULT_VERSION);
    let found = docker.unwrap().inspect_image(image).await.unwrap();
    found.repo_tags.unwrap_or_default()
}

async fn has_only_its_name(image: &str) {
    let waiting = async {
        while names(image).await != [image] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(SOON, waiting).await;
    assert!(waited.is_ok(), "{:?}", names(image).await);
}

#[tokio::test]
async fn a_push_that_is_aborted_or_dropped_leaves_no_name_behind() {
    let test = "pushaborted";
    let (port, registry, serving) = start().await;
    let held = Arc::new(Notify::new());
    registry.lock().unwrap().held = Some(held.clone());
    let job = Job::new(docker(), test, Vec::new());
    let (made, saved) = archive(&job, "true").await;
    let remote = remote(port);
    // Whoever waits for it goes away.
    let artifacts = [("img", &saved)];
    let pushing = job.put(&remote, params(), &artifacts);
    tokio::select! {
        put = pushing => panic!("{put:?}"),
        () = held.notified() => {}
    }
    has_only_its_name(&made).await;
    // It is stopped.
    let held = Arc::new(Notify::new());
    registry.lock().unwrap().held = Some(held.clone());
    let stopping = async {
        held.notified().await;
        assert_eq!(
            names(&made).await.len(),
            3,
            "the name pushed and the one loaded"
        );
        job.io.stop.cancel();
    };
    let (put, ()) = tokio::join!(job.put(&remote, params(), &artifacts), stopping);
    assert_eq!(put, Err(Stop::Stopped));
    has_only_its_name(&made).await;
    serving.abort();
    job.resources.release().await;
    sweep(test).await;
}

#[tokio::test]
async fn of_two_pushes_of_one_name_each_pushes_its_own_image() {
    let test = "pushtwice";
    let (port, registry, serving) = start().await;
    let job = Job::new(docker(), test, Vec::new());
    let (one, first) = archive(&job, "echo one").await;
    let (two, second) = archive(&job, "echo two").await;
    let remote = remote(port);
    let (first, second) = ([("img", &first)], [("img", &second)]);
    let alone = job.put(&remote, params(), &first).await.unwrap().version;
    let other = job.put(&remote, params(), &second).await.unwrap().version;
    assert_ne!(alone, other);
    for _ in 0..3 {
        let (a, b) = tokio::join!(
            job.put(&remote, params(), &first),
            job.put(&remote, params(), &second)
        );
        assert_eq!(a.unwrap().version, alone);
        assert_eq!(b.unwrap().version, other);
    }
    assert_eq!(names(&one).await, [one.as_str()]);
    assert_eq!(names(&two).await, [two.as_str()]);
    assert_eq!(registry.lock().unwrap().manifests.len(), 3);
    serving.abort();
    job.resources.release().await;
    sweep(test).await;
}

#[tokio::test]
async fn an_image_that_is_not_downloaded_is_pulled_once_a_task_wants_it() {
    let test = "skipped";
    let (port, _, serving) = start().await;
    let job = Job::new(docker(), test, Vec::new());
    let (_, saved) = archive(&job, "echo skipped").await;
    let remote = remote(port);
    let put = job.put(&remote, params(), &[("img", &saved)]).await;
    let version = put.unwrap().version;
    let skip = json!({"skip_download": true});
    let (_, artifact) = job.get(&remote, &version, skip).await.unwrap();
    assert_eq!(artifact.image, None);
    assert_eq!(job.read(&artifact, "digest").await, version["digest"]);
    assert!(!job.log().await.contains("pulling"));
    let pulled = job.resources.image_of(&artifact, &job.io).await.unwrap();
    assert!(pulled.ends_with(&version["digest"]), "{pulled}");
    assert!(job.log().await.contains("pulling"));
    let said = job
        .shell(&pulled, "cat /opt/resource/hello", &artifact.volume)
        .await;
    assert!(said.contains("echo skipped"), "{said}");
    job.driver.engine().unwrap().remove_image(&pulled).await;
    serving.abort();
    job.resources.release().await;
    sweep(test).await;
}
