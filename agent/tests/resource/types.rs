//! Types that a pipeline declares, one on another.

use super::support::*;
use pocketci_agent::resource::{ResourceSpec, TypeSpec};
use serde_json::json;

fn mock(name: &str, type_name: &str) -> TypeSpec {
    TypeSpec {
        name: name.into(),
        type_name: type_name.into(),
        source: map(json!({"mirror_self": true})),
        ..TypeSpec::default()
    }
}

#[tokio::test]
async fn a_type_may_shadow_a_built_in_one_and_be_made_of_it() {
    let types = vec![mock("mock", "mock"), mock("other", "mock")];
    let job = Job::new(native(), "shadow", types);
    for name in ["mock", "other"] {
        let found = job.check(&resource(name, json!({})), None).await.unwrap();
        assert_eq!(found, [version(&[("version", "mock")])]);
    }
}

#[tokio::test]
async fn a_circle_of_types_is_told() {
    let job = Job::new(
        native(),
        "circle",
        vec![mock("a", "b"), mock("b", "c"), mock("c", "a")],
    );
    let said = errored(job.check(&resource("a", json!({})), None).await);
    assert!(said.contains("a → b → c → a"), "{said}");
    let said = errored(job.check(&resource("none", json!({})), None).await);
    assert!(said.contains("\"none\" is neither declared"), "{said}");
}

#[tokio::test]
async fn defaults_lie_beneath_the_source_of_a_resource() {
    let mut declared = mock("t", "mock");
    declared.defaults = map(json!({"initial_version": "d", "log": "from defaults"}));
    let job = Job::new(native(), "defaults", vec![declared]);
    let found = job.check(&resource("t", json!({})), None).await.unwrap();
    assert_eq!(found, [version(&[("version", "d")])]);
    let found = job
        .check(&resource("t", json!({"initial_version": "r"})), None)
        .await;
    assert_eq!(found.unwrap(), [version(&[("version", "r")])]);
    assert!(job.log().await.contains("from defaults"));
}

#[tokio::test]
async fn a_privileged_type_needs_the_operators_leave() {
    let mut declared = mock("t", "mock");
    declared.privileged = true;
    let driver = native();
    let shared = cache(&driver, "privileged", 8);
    let refused = Job::with(
        driver.clone(),
        shared.clone(),
        "privileged",
        vec![declared.clone()],
        false,
    );
    let said = errored(refused.check(&resource("t", json!({})), None).await);
    assert!(said.contains("--allow-privileged"), "{said}");
    let allowed = Job::with(driver, shared, "privileged", vec![declared], true);
    let found = allowed
        .check(&resource("t", json!({})), None)
        .await
        .unwrap();
    assert_eq!(
        found,
        [version(&[("privileged", "true"), ("version", "mock")])]
    );
}

/// `outer`'s image is fetched by `inner`'s scripts, whose image the engine has.
#[tokio::test]
async fn a_type_may_be_built_on_a_type_that_is_an_image() {
    let test = "onimage";
    let maker = Job::new(docker(), test, Vec::new());
    let made = r#"cat >/dev/null; mkdir -p "$1/rootfs/opt/resource"; cp -a /bin /etc "$1/rootfs/"
printf '#!/bin/sh\necho "outer $WHO" >&2; echo "[{\\"o\\":\\"1\\"}]"\n' >"$1/rootfs/opt/resource/check"
chmod +x "$1/rootfs/opt/resource/check"; echo '{"env":["WHO=me"],"user":"root"}' >"$1/metadata.json"
echo inner >&2; echo '{"version":{"i":"1"}}'"#;
    let scripts = [
        ("check", r#"cat >/dev/null; echo '[{"i":"0"},{"i":"1"}]'"#),
        ("in", made),
    ];
    let image = maker.image(&scripts, "").await;
    let outer = TypeSpec {
        name: "outer".into(),
        type_name: "inner".into(),
        params: map(json!({"p": 1})),
        ..TypeSpec::default()
    };
    let job = Job::new(docker(), test, vec![outer, image_type("inner", &image)]);
    for _ in 0..2 {
        let found = job
            .check(&resource("outer", json!({})), None)
            .await
            .unwrap();
        assert_eq!(found, [version(&[("o", "1")])]);
    }
    let log = job.log().await;
    assert_eq!(log.matches("outer me").count(), 2, "{log}");
    assert_eq!(
        log.matches("inner").count(),
        1,
        "the image was fetched once: {log}"
    );
    // The same as a task's image.
    let spec = ResourceSpec {
        name: String::new(),
        type_name: "inner".into(),
        source: map(json!({})),
    };
    let name = job
        .resources
        .image(&spec, None, &json!({}), &job.io)
        .await
        .unwrap();
    let config = docker()
        .engine()
        .unwrap()
        .image_config(&name, None)
        .await
        .unwrap();
    assert_eq!(config.env, ["WHO=me"]);
    job.resources.release().await;
    maker.resources.release().await;
    sweep(test).await;
}

#[tokio::test]
async fn an_artifact_that_is_no_image_cannot_be_one() {
    let job = Job::new(docker(), "noimage", Vec::new());
    let artifact = job.artifact(&[("file", "x")]).await;
    let said = errored(job.resources.image_of(&artifact, &job.io).await);
    assert!(said.contains("rootfs/ and metadata.json"), "{said}");
    let job = Job::new(native(), "noimage", Vec::new());
    let artifact = job.artifact(&[("file", "x")]).await;
    let said = errored(job.resources.image_of(&artifact, &job.io).await);
    assert!(said.contains("--driver docker"), "{said}");
    sweep("noimage").await;
}

/// A job's steps run in tasks of their own.
#[tokio::test]
async fn every_call_may_be_made_in_another_task() {
    fn is_send<T: Send>(future: T) -> T {
        future
    }
    let job = Job::new(native(), "send", Vec::new());
    let mock = resource("mock", json!({}));
    let found = is_send(job.check(&mock, None)).await.unwrap();
    let (_, artifact) = is_send(job.get(&mock, &found[0], json!({}))).await.unwrap();
    is_send(job.put(&mock, json!({"version": "1"}), &[("a", &artifact)]))
        .await
        .unwrap();
    let image = is_send(job.resources.image(&mock, None, &json!({}), &job.io)).await;
    assert!(image.is_err());
    assert!(
        is_send(job.resources.image_of(&artifact, &job.io))
            .await
            .is_err()
    );
    is_send(job.resources.release()).await;
}
