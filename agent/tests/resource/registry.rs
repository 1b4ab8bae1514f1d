//! `registry-image` through the engine: what only it has, and a registry of the test's own.

use super::fake_registry::start;
use super::support::*;
use pocketci_agent::container::NewVolume;
use pocketci_agent::resource::{ResourceSpec, Stop};
use serde_json::json;

pub(crate) fn image(name: &str) -> ResourceSpec {
    let (repository, tag) = name.rsplit_once(':').unwrap();
    resource(
        "registry-image",
        json!({"repository": repository, "tag": tag}),
    )
}

#[tokio::test]
async fn what_only_the_engine_has_is_its_id() {
    let test = "localimage";
    let job = Job::new(docker(), test, Vec::new());
    let made = job.image(&[("hello", "true")], "nobody").await;
    let spec = image(&made);
    let found = job.check(&spec, None).await.unwrap();
    assert!(found[0]["digest"].starts_with("sha256:"), "{found:?}");
    assert!(
        job.log()
            .await
            .contains("is not to be had from its registry")
    );
    let (_, artifact) = job.get(&spec, &found[0], json!({})).await.unwrap();
    assert_eq!(artifact.image.as_deref(), Some(found[0]["digest"].as_str()));
    assert_eq!(job.read(&artifact, "digest").await, found[0]["digest"]);
    assert!(
        job.read(&artifact, "metadata.json")
            .await
            .contains("IMAGE=yes")
    );
    // With its files, which make the same image again.
    let (_, files) = job
        .get(&spec, &found[0], json!({"format": "rootfs"}))
        .await
        .unwrap();
    assert!(
        job.read(&files, "rootfs/opt/resource/hello")
            .await
            .contains("true")
    );
    let bare = pocketci_agent::resource::Artifact {
        image: None,
        ..files
    };
    let again = job.resources.image_of(&bare, &job.io).await.unwrap();
    let config = job
        .driver
        .engine()
        .unwrap()
        .image_config(&again, None)
        .await
        .unwrap();
    assert_eq!(config.user, "nobody");
    let said = errored(job.check(&image("pocketci-test/none:1"), None).await);
    assert!(said.contains("pocketci-test/none:1"), "{said}");
    let bad = version(&[("digest", "sha256:../../etc")]);
    assert!(errored(job.get(&spec, &bad, json!({})).await).contains("version.digest"));
    let said = errored(
        job.check(
            &resource("registry-image", json!({"repositori": "x"})),
            None,
        )
        .await,
    );
    assert!(said.contains("`repositori`"), "{said}");
    job.resources.release().await;
    sweep(test).await;
}

#[tokio::test]
async fn images_need_an_engine() {
    let job = Job::new(native(), "noengine", Vec::new());
    let said = errored(job.check(&image("busybox:1"), None).await);
    assert!(said.contains("--driver docker"), "{said}");
}

#[tokio::test]
async fn an_archive_is_pushed_checked_pulled_and_takes_no_name_of_its_own() {
    let test = "pushed";
    let (port, registry, serving) = start().await;
    let job = Job::new(docker(), test, Vec::new());
    let engine = job.driver.engine().unwrap();
    // An archive that says it were busybox.
    let before = job.check(&image(&busybox()), None).await.unwrap();
    let made = job.image(&[("hello", "true")], "").await;
    let local = image(&made);
    let id = job.check(&local, None).await.unwrap();
    let (_, saved) = job
        .get(&local, &id[0], json!({"format": "oci"}))
        .await
        .unwrap();
    let rename = format!(
        "cd v; mkdir x; cd x; tar xf ../image.tar; sed -i 's#\"RepoTags\":[^,]*#\"RepoTags\":[\"{}\"]#' manifest.json; tar cf ../image.tar *; cd ..; rm -r x; echo extra >tags",
        busybox()
    );
    let new = NewVolume {
        name: "a",
        labels: labels(test),
        owner: None,
    };
    let evil = job.driver.derive_volume(&saved.volume, new).await.unwrap();
    job.shell(&busybox(), &rename, &evil).await;
    let archive = pocketci_agent::resource::Artifact {
        volume: evil,
        image: None,
    };
    let remote = resource(
        "registry-image",
        json!({"repository": format!("127.0.0.1:{port}/team/app"), "tag": "1", "username": "me", "password": "hunter2"}),
    );
    let params = json!({"image": "img/image.tar", "additional_tags": "img/tags"});
    let put = job
        .put(&remote, params, &[("img", &archive)])
        .await
        .unwrap();
    assert_eq!(
        job.check(&image(&busybox()), None).await.unwrap(),
        before,
        "busybox is what it was"
    );
    assert_eq!(
        job.check(&remote, None).await.unwrap(),
        std::slice::from_ref(&put.version)
    );
    assert!(registry.lock().unwrap().manifests.contains_key("extra"));
    // Basic me:hunter2
    assert!(
        registry
            .lock()
            .unwrap()
            .logins
            .iter()
            .all(|login| login == "Basic bWU6aHVudGVyMg==")
    );
    let (fetched, artifact) = job.get(&remote, &put.version, json!({})).await.unwrap();
    assert_eq!(fetched.version, put.version);
    let pulled = artifact.image.clone().unwrap();
    assert_eq!(
        pulled,
        format!("127.0.0.1:{port}/team/app@{}", put.version["digest"])
    );
    let said = job
        .shell(
            &pulled,
            "cat /opt/resource/hello; echo $IMAGE",
            &artifact.volume,
        )
        .await;
    assert!(said.ends_with("yes\n"), "{said}");
    assert!(!job.log().await.contains("hunter2"));
    engine.remove_image(&pulled).await;
    serving.abort();
    job.resources.release().await;
    sweep(test).await;
}

#[tokio::test]
async fn an_archive_that_is_none_is_refused() {
    let test = "noarchive";
    let job = Job::new(docker(), test, Vec::new());
    let artifact = job.artifact(&[("image.tar", "no archive at all")]).await;
    let remote = image("127.0.0.1:1/team/app:1");
    let put = job
        .put(
            &remote,
            json!({"image": "a/image.tar"}),
            &[("a", &artifact)],
        )
        .await;
    assert!(matches!(put, Err(Stop::Errored(_))), "{put:?}");
    let put = job
        .put(&remote, json!({"image": "a/none.tar"}), &[("a", &artifact)])
        .await;
    assert!(errored(put).contains("no such file"));
    sweep(test).await;
}
