//! Scripts in containers, well-behaved and hostile.

use super::support::*;
use pocketci_agent::resource::Stop;
use serde_json::json;
use std::time::{Duration, Instant};

/// A job with a type `t` of these scripts.
async fn with(test: &str, scripts: &[(&str, &str)]) -> Job {
    with_user(test, scripts, "").await
}

async fn with_user(test: &str, scripts: &[(&str, &str)], user: &str) -> Job {
    let maker = Job::new(docker(), test, Vec::new());
    let image = maker.image(scripts, user).await;
    Job::new(docker(), test, vec![image_type("t", &image)])
}

#[tokio::test]
async fn check_is_given_the_source_and_the_version_only_if_there_is_one() {
    let script = r#"cat >&2; echo " args $#" >&2; echo '[{"ref":"1"},{"ref":"2"}]'"#;
    let job = with("check", &[("check", script)]).await;
    let resource = resource("t", json!({"a": [1, null]}));
    let found = job.check(&resource, None).await.unwrap();
    assert_eq!(found, [version(&[("ref", "1")]), version(&[("ref", "2")])]);
    job.check(&resource, Some(&found[1])).await.unwrap();
    let log = job.log().await;
    assert!(
        log.contains("{\"source\":{\"a\":[1,null]}}\n args 0\n"),
        "{log}"
    );
    assert!(
        log.contains("{\"source\":{\"a\":[1,null]},\"version\":{\"ref\":\"2\"}}\n args 0\n"),
        "{log}"
    );
    assert!(!log.contains("\"1\"},{"), "stdout was shown: {log}");
    sweep("check").await;
}

#[tokio::test]
async fn in_writes_its_directory_and_out_sees_artifacts_that_it_cannot_change() {
    let input = r#"cat >&2; echo " env $BUILD_ID $IMAGE" >&2; echo hi >"$1/file"; mkdir "$1/d"; echo x >"$1/d/x"
echo '{"version":{"ref":"2"},"metadata":[{"name":"n","value":"v"}]}'"#;
    let output = r#"cat >&2; cd "$1"; echo " at $PWD: $(ls)" >&2; cat a/file >&2; echo changed >a/file; rm -r a/d; echo new >b/new
echo '{"version":{"ref":"3"}}'"#;
    let job = with("inout", &[("in", input), ("out", output)]).await;
    let resource = resource("t", json!({}));
    let wanted = version(&[("ref", "2")]);
    let (fetched, artifact) = job.get(&resource, &wanted, json!({"p": 1})).await.unwrap();
    assert_eq!(fetched.version, wanted);
    assert_eq!(fetched.metadata, [("n".to_owned(), "v".to_owned())]);
    assert_eq!(job.read(&artifact, "d/x").await, "x\n");
    let other = job.artifact(&[("old", "old")]).await;
    let put = job
        .put(&resource, json!({}), &[("a", &artifact), ("b", &other)])
        .await
        .unwrap();
    assert_eq!(put.version, version(&[("ref", "3")]));
    assert_eq!(job.read(&artifact, "file").await, "hi\n");
    assert_eq!(job.read(&artifact, "d/x").await, "x\n");
    let listed = job.shell(&busybox(), "ls v", &other.volume).await;
    assert_eq!(listed, "old\n");
    let log = job.log().await;
    assert!(
        log.contains(
            "{\"source\":{},\"version\":{\"ref\":\"2\"},\"params\":{\"p\":1}}\n env 7 yes"
        ),
        "{log}"
    );
    assert!(
        log.contains("{\"source\":{}}\n at /tmp/build/put: a\nb\nhi\n"),
        "{log}"
    );
    job.resources.release().await;
    sweep("inout").await;
}

#[tokio::test]
async fn scripts_of_another_user_may_write_where_they_must() {
    let input = r#"cat >/dev/null; id -u >"$1/id"; echo '{"version":{"a":"b"}}'"#;
    let output =
        r#"cat >/dev/null; cd "$1"; echo mine >a/id; touch here; echo '{"version":{"a":"c"}}'"#;
    let job = with_user("user", &[("in", input), ("out", output)], "nobody").await;
    let resource = resource("t", json!({}));
    let (_, artifact) = job
        .get(&resource, &version(&[("a", "b")]), json!({}))
        .await
        .unwrap();
    assert_eq!(job.read(&artifact, "id").await, "65534\n");
    let other = job.artifact(&[("id", "root's")]).await;
    job.put(&resource, json!({}), &[("a", &other)])
        .await
        .unwrap();
    assert_eq!(job.read(&other, "id").await, "root's");
    job.resources.release().await;
    sweep("user").await;
}

#[tokio::test]
async fn no_versions_may_be_said_by_saying_nothing() {
    let job = with("nothing", &[("check", "cat >/dev/null")]).await;
    assert_eq!(job.check(&resource("t", json!({})), None).await, Ok(vec![]));
    sweep("nothing").await;
}

#[tokio::test]
async fn an_exit_code_is_a_failure_and_a_broken_answer_an_error() {
    let scripts = [
        (
            "check",
            r#"read -r l; case "$l" in *code*) echo why >&2; exit 7;; *garbage*) echo hunter2;; *number*) echo '[{"ref":1}]';; esac"#,
        ),
        ("in", r#"echo '{"version":null}'"#),
        ("out", r#"echo '{"version":{}}'"#),
    ];
    let job = with("broken", &scripts).await;
    let check = async |what: &str| job.check(&resource("t", json!({what: 1})), None).await;
    assert_eq!(check("code").await, Err(Stop::Failed { exit_code: 7 }));
    assert!(job.log().await.contains("why\n"));
    let said = errored(check("garbage").await);
    assert!(
        said.contains("did not write JSON") && !said.contains("hunter2"),
        "{said}"
    );
    assert!(
        errored(check("number").await)
            .contains("expected an object of at least one key with texts")
    );
    let resource = resource("t", json!({}));
    let said = errored(job.get(&resource, &version(&[("a", "b")]), json!({})).await);
    assert!(said.contains("\"version\" is missing"), "{said}");
    errored(job.put(&resource, json!({}), &[]).await);
    assert!(!job.log().await.contains("hunter2"));
    sweep("broken").await;
}

#[tokio::test]
async fn an_image_without_scripts_says_which_one_is_missing() {
    let job = with("scriptless", &[]).await;
    let said = errored(job.check(&resource("t", json!({})), None).await);
    assert!(said.contains("/opt/resource/check"), "{said}");
    sweep("scriptless").await;
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let job = with("endless", &[("check", "exec cat /dev/zero")]).await;
    let started = Instant::now();
    let said = errored(job.check(&resource("t", json!({})), None).await);
    assert!(said.contains("more than 8 MiB to stdout"), "{said}");
    assert!(started.elapsed() < Duration::from_secs(30));
    sweep("endless").await;
}

#[tokio::test]
async fn a_flood_on_stderr_is_passed_on_and_harms_nothing() {
    let script =
        "cat >/dev/null; dd if=/dev/zero bs=1M count=20 2>/dev/null | tr '\\0' x >&2; echo '[]'";
    let job = with("flood", &[("check", script)]).await;
    assert_eq!(job.check(&resource("t", json!({})), None).await, Ok(vec![]));
    assert!(job.log().await.len() >= 20 << 20);
    sweep("flood").await;
}

#[tokio::test]
async fn a_script_that_hangs_is_stopped() {
    let hang = "trap '' TERM; echo ready >&2; while :; do sleep 1; done";
    let job = with("hang", &[("check", hang), ("in", hang), ("out", hang)]).await;
    let stop = job.io.stop.clone();
    let resources = job.resources.clone();
    let io = job.io.clone();
    let checking =
        tokio::spawn(async move { resources.check(&resource("t", json!({})), None, &io).await });
    while !job.log().await.contains("ready") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.cancel();
    assert_eq!(checking.await.unwrap(), Err(Stop::Stopped));
    // And what comes later does not begin.
    let later = job
        .get(
            &resource("t", json!({})),
            &version(&[("a", "b")]),
            json!({}),
        )
        .await;
    assert!(matches!(later, Err(Stop::Stopped)), "{later:?}");
    sweep("hang").await;
}

#[tokio::test]
async fn a_hostile_name_of_an_artifact_is_refused() {
    let job = with("names", &[("out", "echo '{\"version\":{\"a\":\"b\"}}'")]).await;
    let artifact = job.artifact(&[]).await;
    for name in ["..", "a/../../etc", "", "/etc"] {
        let put = job
            .put(&resource("t", json!({})), json!({}), &[(name, &artifact)])
            .await;
        assert!(errored(put).contains("cannot be a directory"), "{name}");
    }
    sweep("names").await;
}

#[tokio::test]
async fn the_native_driver_says_what_would_run_an_image() {
    let job = Job::new(native(), "nativetype", vec![image_type("t", "x:1")]);
    let said = errored(job.check(&resource("t", json!({})), None).await);
    assert!(
        said.contains("native driver cannot run") && said.contains("--driver docker"),
        "{said}"
    );
}
