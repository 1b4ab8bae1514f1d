//! The native driver: processes, their output, their end.
#![allow(clippy::unwrap_used, missing_docs)] // a test fails by panicking

mod steps;

use pocketci_agent::container::native::NativeDriver;
use pocketci_agent::container::{DriverError, StepExit};
use std::path::Path;
use std::time::Duration;
use steps::{Run, shell};

fn driver() -> NativeDriver {
    NativeDriver::with_grace(Duration::from_millis(500))
}

async fn gone(pid: &str) {
    let proc = format!("/proc/{}", pid.trim());
    steps::until(&format!("process {pid} is gone"), || {
        !Path::new(&proc).exists()
    })
    .await;
}

#[tokio::test]
async fn exit_codes_and_both_outputs_come_through() {
    let run = Run::of(&driver(), shell("echo out; echo err >&2; exit 7")).await;
    assert_eq!(
        run.exit.unwrap(),
        StepExit::Exited {
            code: 7,
            oom: false
        }
    );
    assert_eq!(
        (run.stdout.as_slice(), run.stderr.as_slice()),
        (&b"out\n"[..], &b"err\n"[..])
    );
    let killed = Run::of(&driver(), shell("kill -9 $$")).await;
    assert_eq!(
        killed.exit.unwrap(),
        StepExit::Exited {
            code: 137,
            oom: false
        }
    );
}

#[tokio::test]
async fn large_binary_output_and_input_are_whole() {
    let data: Vec<u8> = (0..5_000_000u32).map(|n| (n * 7 % 251) as u8).collect();
    let mut spec = shell("cat");
    spec.stdin = Some(data.clone().into());
    let run = Run::slowly(&driver(), spec).await;
    assert!(run.stdout == data, "{} bytes", run.stdout.len());
    let mut ignored = shell("echo done");
    ignored.stdin = Some(data.into());
    assert_eq!(Run::of(&driver(), ignored).await.stdout, b"done\n");
}

#[tokio::test]
async fn the_environment_is_the_steps_own() {
    let mut spec = shell("env; pwd");
    spec.env.insert("MINE".into(), "a b".into());
    let run = Run::of(&driver(), spec).await;
    let text = String::from_utf8(run.stdout).unwrap();
    assert!(text.contains("MINE=a b\n"), "{text}");
    // cargo sets this one for every test.
    assert!(!text.contains("CARGO_MANIFEST_DIR"), "{text}");
    let home = text
        .lines()
        .find_map(|line| line.strip_prefix("HOME="))
        .unwrap();
    assert!(
        text.ends_with(&format!("{home}\n")) && !Path::new(home).exists(),
        "its directory is gone: {text}"
    );
}

#[tokio::test]
async fn a_work_dir_stays_inside_and_a_program_must_exist() {
    let mut inside = shell("pwd");
    inside.work_dir = "a/b".into();
    assert!(
        String::from_utf8(Run::of(&driver(), inside).await.stdout)
            .unwrap()
            .ends_with("/a/b\n")
    );
    let mut outside = shell("pwd");
    outside.work_dir = "../..".into();
    assert!(matches!(
        Run::of(&driver(), outside).await.exit,
        Err(DriverError::Invalid(_))
    ));
    let mut missing = shell("");
    missing.path = "no-such-program".into();
    let error = Run::of(&driver(), missing).await.exit.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot start \"no-such-program\": no such program on the agent's PATH"
    );
    let mut nobody = shell("");
    nobody.user = "no-such-user".into();
    assert!(
        Run::of(&driver(), nobody)
            .await
            .exit
            .unwrap_err()
            .to_string()
            .contains("no-such-user")
    );
}

#[tokio::test]
async fn a_grandchild_that_keeps_the_output_open_does_not_hold_the_step() {
    let run = Run::of(&driver(), shell("sleep 300 & echo $!")).await;
    assert_eq!(
        run.exit.unwrap(),
        StepExit::Exited {
            code: 0,
            oom: false
        }
    );
    gone(std::str::from_utf8(&run.stdout).unwrap()).await;
}

#[tokio::test]
async fn stopping_is_polite_first_and_then_final() {
    let polite = Run::stopped(
        &driver(),
        shell("trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done"),
    )
    .await;
    assert_eq!(polite.exit.unwrap(), StepExit::Stopped);
    assert_eq!(polite.stdout, b"ready\nbye\n");
    let deaf = Run::stopped(
        &driver(),
        shell("trap '' TERM; echo ready; while :; do sleep 0.05; done"),
    )
    .await;
    assert_eq!(deaf.exit.unwrap(), StepExit::Stopped);
}

#[tokio::test]
async fn a_dropped_step_is_killed_with_its_group() {
    let pid = Run::dropped(&driver(), shell("sleep 300 & echo $!; wait")).await;
    gone(&pid).await;
}
