//! The Docker driver against a real engine; `make test` starts one.
#![allow(clippy::unwrap_used, missing_docs)] // a test fails by panicking

mod steps;

use bollard::Docker;
use bollard::query_parameters::ListContainersOptions;
use pocketci_agent::container::docker::DockerDriver;
use pocketci_agent::container::{DriverError, StepExit, StepSpec};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use steps::Run;

fn host() -> String {
    std::env::var("POCKETCI_TEST_DOCKER_HOST")
        .expect("run `make test`, or set POCKETCI_TEST_DOCKER_HOST to a Docker engine")
}

fn driver() -> DockerDriver {
    DockerDriver::with_grace(Some(host()), Duration::from_millis(500))
}

fn shell(script: &str) -> StepSpec {
    StepSpec {
        image: std::env::var("POCKETCI_TEST_IMAGE")
            .unwrap_or_else(|_| "pocketci-test/busybox:1".into()),
        ..steps::shell(script)
    }
}

/// Containers with a label of the test's own.
async fn containers(label: &str) -> usize {
    let socket = host();
    let docker = Docker::connect_with_unix(
        socket.strip_prefix("unix://").unwrap(),
        30,
        bollard::API_DEFAULT_VERSION,
    )
    .unwrap();
    let options = ListContainersOptions {
        all: true,
        filters: Some(HashMap::from([(
            "label".to_owned(),
            vec![label.to_owned()],
        )])),
        ..ListContainersOptions::default()
    };
    docker.list_containers(Some(options)).await.unwrap().len()
}

async fn until_containers(label: &str, count: usize) {
    for _ in 0..600 {
        if containers(label).await == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not {count} containers with {label}");
}

#[tokio::test]
async fn exit_codes_outputs_environment_user_and_input_come_through() {
    let mut spec = shell("cat; echo out $A; id -u >&2; pwd; exit 7");
    spec.stdin = Some("in\n".into());
    spec.env.insert("A".into(), "b c".into());
    spec.user = "65534".into();
    spec.work_dir = "/tmp".into();
    let run = Run::of(&driver(), spec).await;
    assert_eq!(
        run.exit.unwrap(),
        StepExit::Exited {
            code: 7,
            oom: false
        }
    );
    assert_eq!(
        String::from_utf8(run.stdout).unwrap(),
        "in\nout b c\n/tmp\n"
    );
    assert_eq!(run.stderr, b"65534\n");
}

#[tokio::test]
async fn large_binary_output_is_whole_under_a_slow_reader() {
    let data: Vec<u8> = (0..3_000_000u32).map(|n| (n * 7 % 251) as u8).collect();
    let mut spec = shell("cat");
    spec.stdin = Some(data.clone().into());
    let run = Run::slowly(&driver(), spec).await;
    assert!(run.stdout == data, "{} bytes", run.stdout.len());
}

#[tokio::test]
async fn nothing_is_left_of_a_step_however_it_ends() {
    let label = |value: &str| ("pocketci.test".to_owned(), value.to_owned());
    let with = |value: &str, script: &str| {
        let mut spec = shell(script);
        spec.labels.extend([label(value)]);
        spec
    };
    Run::of(&driver(), with("ends", "true")).await.exit.unwrap();
    until_containers("pocketci.test=ends", 0).await;
    let polite = with(
        "polite",
        "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done",
    );
    let polite = Run::stopped(&driver(), polite).await;
    assert_eq!(
        (polite.exit.unwrap(), polite.stdout.as_slice()),
        (StepExit::Stopped, &b"ready\nbye\n"[..])
    );
    let deaf = Run::stopped(
        &driver(),
        with(
            "deaf",
            "trap '' TERM; echo ready; while :; do sleep 0.05; done",
        ),
    )
    .await;
    assert_eq!(deaf.exit.unwrap(), StepExit::Stopped);
    Run::dropped(&driver(), with("dropped", "echo ready; sleep 300")).await;
    for value in ["polite", "deaf", "dropped"] {
        until_containers(&format!("pocketci.test={value}"), 0).await;
    }
}

#[tokio::test]
async fn mistakes_are_told_with_their_names() {
    let mut missing = shell("");
    missing.path = "no-such-program".into();
    let error = Run::of(&driver(), missing).await.exit.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot start \"no-such-program\": no such program in image"),
        "{error}"
    );
    let mut none = shell("true");
    none.image = String::new();
    assert!(matches!(
        Run::of(&driver(), none).await.exit,
        Err(DriverError::Invalid(_))
    ));
    let mut unknown = shell("true");
    unknown.image = "127.0.0.1:1/none:1".into();
    assert!(matches!(
        Run::of(&driver(), unknown).await.exit,
        Err(DriverError::ImagePull { .. })
    ));
    let nowhere = DockerDriver::new(Some("unix:///nowhere.sock".into()));
    let error = Run::of(&nowhere, shell("true")).await.exit.unwrap_err();
    assert!(
        matches!(error, DriverError::EngineUnreachable { .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains("unix:///nowhere.sock"),
        "{error}"
    );
}

#[tokio::test]
async fn a_process_beyond_its_memory_is_told_as_such() {
    let mut spec = shell("x=a; while :; do x=$x$x; done");
    spec.memory_bytes = 16 * 1024 * 1024;
    let exit = Run::of(&driver(), spec).await.exit.unwrap();
    assert!(
        matches!(exit, StepExit::Exited { code, .. } if code != 0),
        "{exit:?}"
    );
}

#[tokio::test]
async fn leftovers_are_removed_and_nothing_else() {
    let with = |agent: &str| {
        let mut spec = shell("echo ready; sleep 300");
        spec.labels.insert("pocketci.agent".into(), agent.into());
        spec
    };
    let (mine, other) = (driver(), driver());
    let (first, second) = (tokio::sync::mpsc::channel(4), tokio::sync::mpsc::channel(4));
    let stop = tokio_util::sync::CancellationToken::new();
    use pocketci_agent::container::Driver;
    let running = async {
        tokio::join!(
            mine.run(with("gone"), first.0, stop.clone()),
            other.run(with("alive"), second.0, stop.clone())
        )
    };
    let cleaning = async {
        until_containers("pocketci.agent=gone", 1).await;
        until_containers("pocketci.agent=alive", 1).await;
        let is_left = |labels: &BTreeMap<String, String>| labels["pocketci.agent"] == "gone";
        let removed = driver().sweep(&is_left).await;
        assert_eq!(removed, Some(1));
        assert_eq!(containers("pocketci.agent=alive").await, 1);
        stop.cancel();
    };
    let (_, ()) = tokio::join!(running, cleaning);
    until_containers("pocketci.agent=alive", 0).await;
}

#[tokio::test]
async fn a_step_with_input_is_not_gone_on_with_and_removed() {
    use pocketci_agent::container::Driver;
    let label = "fed";
    let mut spec = shell("cat; echo ready; sleep 300");
    spec.labels.insert("pocketci.agent".into(), label.into());
    spec.stdin = Some("a part".into());
    let stop = tokio_util::sync::CancellationToken::new();
    let (output, mut pieces) = tokio::sync::mpsc::channel(4);
    let first = driver();
    let running = first.run(spec.clone(), output, stop.clone());
    let going_on = async {
        // It runs.
        pieces.recv().await.unwrap();
        let (output, _unread) = tokio::sync::mpsc::channel(4);
        let found = driver().reattach(&spec, output, &stop).await;
        assert_eq!(found.unwrap(), None);
        until_containers(&format!("pocketci.agent={label}"), 0).await;
    };
    // How the first process sees it end does not matter.
    let (_, ()) = tokio::join!(running, going_on);
}
