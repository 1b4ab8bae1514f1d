//! What the next process finds, and kills.

use super::*;
use bytes::Bytes;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

fn assign(job: &'static [u8]) -> pb::Assign {
    pb::Assign {
        r#ref: Some(pb::AttemptRef {
            run_id: Bytes::from_static(b"run"),
            job_id: Bytes::from_static(job),
            attempt: 3,
        }),
        pipeline_name: "p".into(),
        durable: true,
        ..pb::Assign::default()
    }
}

#[test]
fn a_directory_is_one_agents_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er");
    let first = StateDir::open(&path).unwrap();
    assert!(matches!(StateDir::open(&path), Err(StateError::InUse(_))));
    drop(first);
    StateDir::open(&path).unwrap();
}

#[test]
fn the_next_process_finds_what_was_begun_and_is_not_in_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateDir::open(folder.path()).unwrap();
    let file = state.file(&assign(b"job"));
    assert!(
        state.saved().is_empty(),
        "nothing is written before it is needed"
    );
    let begun = |step| BegunStep {
        step,
        report_seq: 2,
        ..BegunStep::default()
    };
    for (call, step) in [(1, 1), (4, 2), (6, 4), (5, 3)] {
        file.begin_step(call, begun(step));
    }
    file.settle([1, 6]);
    file.end_step(2, 7);
    drop(state);
    let state = StateDir::open(folder.path()).unwrap();
    let saved = state.saved();
    assert_eq!(saved.len(), 1);
    assert_eq!(saved[0].assign, assign(b"job"));
    let ended = BegunStep {
        ended: Some(7),
        ..begun(2)
    };
    let left = BTreeMap::from([(4, ended), (5, begun(3))]);
    assert_eq!(saved[0].steps, left);
    assert_eq!(saved[0].last_step, 4, "numbers are not given twice");
    // Nor does the process after it know less.
    saved[0].file.begin_step(9, begun(5));
    let again = &state.saved()[0];
    assert_eq!((again.steps.len(), again.last_step), (3, 5));
    let name = format!("{}-3.attempt", hex::encode(b"job"));
    let mode = std::fs::metadata(folder.path().join(name))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o077, 0, "nobody else reads it");
    saved[0].file.remove();
    saved[0].file.keep();
    assert!(state.saved().is_empty());
}

#[test]
fn a_broken_file_is_removed_and_others_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateDir::open(folder.path()).unwrap();
    for name in ["a.attempt", "b.txt"] {
        std::fs::write(folder.path().join(name), "{").unwrap();
    }
    assert!(state.saved().is_empty());
    assert!(!folder.path().join("a.attempt").exists());
    assert!(folder.path().join("b.txt").exists());
}

#[test]
fn two_attempts_of_a_job_have_a_file_each() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateDir::open(folder.path()).unwrap();
    let (third, mut fourth) = (assign(b"job"), assign(b"job"));
    fourth.r#ref.as_mut().unwrap().attempt = 4;
    let (third, fourth_file) = (state.file(&third), state.file(&fourth));
    third.keep();
    fourth_file.keep();
    third.remove();
    let saved = state.saved();
    assert_eq!((saved.len(), &saved[0].assign), (1, &fourth));
}

#[test]
fn an_attempt_without_a_journal_cannot_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateDir::open(folder.path()).unwrap();
    state.file(&assign(b"job")).interrupt();
    assert!(state.saved()[0].interrupted);
}

fn sleeper() -> (Child, i32) {
    let mut command = Command::new("sleep");
    let child = command.arg("600").process_group(0).spawn().unwrap();
    let group = child.id() as i32;
    (child, group)
}

#[test]
fn groups_of_the_earlier_process_are_killed_which_interrupts_its_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateDir::open(folder.path()).unwrap();
    let (mut child, group) = sleeper();
    let file = state.file(&assign(b"job"));
    file.begin_group(group);
    let saved = state.saved();
    assert!(!child.wait().unwrap().success());
    assert!(saved[0].interrupted);
}

#[test]
fn groups_of_an_earlier_boot_are_dead_whoever_has_their_number() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = StateDir::open(folder.path()).unwrap();
    let (mut child, group) = sleeper();
    let now = std::mem::replace(&mut state.boot, "an earlier one".to_owned());
    state.file(&assign(b"job")).begin_group(group);
    state.boot = now;
    assert!(state.saved()[0].interrupted);
    assert!(child.try_wait().unwrap().is_none(), "it is another one");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn groups_of_a_job_that_is_not_durable_are_killed_and_the_job_is_not_held() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateDir::open(folder.path()).unwrap();
    let files = || std::fs::read_dir(folder.path()).unwrap().count();
    let assign = pb::Assign {
        durable: false,
        ..assign(b"job")
    };
    let (mut child, group) = sleeper();
    let file = state.file(&assign);
    file.begin_step(1, BegunStep::default());
    file.keep();
    assert_eq!(files(), 1, "the lock alone");
    file.begin_group(group);
    assert_eq!(files(), 2);
    file.end_group(group);
    assert_eq!(files(), 1, "nothing is left to kill");
    file.begin_group(group);
    assert!(state.saved().is_empty());
    assert!(!child.wait().unwrap().success());
    assert_eq!(files(), 1);
}
