//! Builds wait for their inputs, and are admitted one by one.

use crate::home::Home;
use crate::story::*;
use crate::version_story::{Yard, taken, version};
use pocketci_server::model::run::{End, Hold, Outcome, RunState, Trigger, TriggerKind};
use pocketci_server::model::transition::{Applied, Change};
use pocketci_server::model::{JobId, RunId};
use pocketci_server::store::wake::Wake;
use pocketci_server::store::{Admission, Admitted, BuildInputs, BuildLimit};
use std::time::Duration;
use uuid::Uuid;

/// Stores a build that waits.
async fn waiting(yard: &Yard, job_name: &str) -> (RunId, JobId) {
    let run = yard.new_build(job_name, None);
    let job = run.jobs[0].id;
    (enqueue(&yard.store, run).await, job)
}

fn admission(yard: &Yard, (run_id, job_id): (RunId, JobId), limits: Vec<BuildLimit>) -> Admission {
    let input = taken("repo", "repo", &version("1"), vec![]);
    Admission {
        pipeline_id: yard.id(),
        run_id,
        job_id,
        inputs: BuildInputs::Chosen(vec![input]),
        limits,
    }
}

fn limit(jobs: &[&str], max: i64) -> BuildLimit {
    BuildLimit {
        rule: "serial".into(),
        jobs: jobs.iter().map(|job| job.to_string()).collect(),
        max,
    }
}

async fn admit(yard: &Yard, build: (RunId, JobId), limits: Vec<BuildLimit>) -> Admitted {
    let admission = admission(yard, build, limits);
    yard.store.admit_build(admission).await.unwrap()
}

fn skip(job_id: JobId) -> Change {
    let end = End {
        outcome: Outcome::Skipped,
        reason: "webhook_filter".into(),
        actor: "server".into(),
        message: "its filter does not match the webhook".into(),
    };
    Change::Settle { job_id, end }
}

pub async fn a_build_is_handed_out_when_it_is_admitted_and_not_before(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    let mut wakes = store.wakes().subscribe();
    let build = waiting(&yard, "unit").await;
    assert_eq!(next_wake(&mut wakes).await, Wake::Schedule(yard.id()));
    assert!(yard.peer.claim(&store, 9).await.is_empty());
    assert!(store.demand().await.unwrap().is_empty());
    let open = store.open_runs(yard.id(), None, 9).await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].run.id, build.0);
    assert_eq!(open[0].jobs[0].hold, Some(Hold::Inputs));
    assert_eq!(store.waiting_pipelines(9).await.unwrap(), [yard.id()]);

    assert_eq!(admit(&yard, build, vec![]).await, Admitted::Done);
    assert_eq!(next_wake(&mut wakes).await, Wake::JobQueued);
    assert_eq!(admit(&yard, build, vec![]).await, Admitted::Stale, "twice");
    assert!(
        store
            .open_runs(yard.id(), None, 9)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(store.waiting_pipelines(9).await.unwrap().is_empty());
    let used = store.build_versions(build.1).await.unwrap();
    assert_eq!(used.inputs[0].version, version("1"));
    let claimed = yard.peer.claim(&store, 9).await;
    assert_eq!(claimed[0].job.id, build.1);
}

pub async fn a_limit_holds_though_many_are_admitted_at_once(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    let mut all = Vec::new();
    for at in 0..12 {
        all.push(waiting(&yard, ["unit", "lint"][at % 2]).await);
    }
    let both = || vec![limit(&["other"], 1), limit(&["unit", "lint"], 3)];
    let admitting = all.iter().map(|build| admit(&yard, *build, both()));
    let admitted = futures_util::future::join_all(admitting).await;
    let count = |wanted: Admitted| admitted.iter().filter(|got| **got == wanted).count();
    assert_eq!(count(Admitted::Done), 3);
    assert_eq!(count(Admitted::Full(1)), 9);
    let jobs = ["unit".to_owned(), "lint".to_owned()];
    assert_eq!(store.begun_builds(yard.id(), &jobs).await.unwrap(), 3);

    // One ends, and one more has room.
    let claimed = yard.peer.claim(&store, 1).await.remove(0);
    let mut build = Attempt::of(&store, &yard.peer, &claimed);
    build.accept(LONG).await;
    let mut wakes = store.wakes().subscribe();
    build.finish(Outcome::Failed).await;
    assert_eq!(next_wake(&mut wakes).await, Wake::Schedule(yard.id()));
    let open = store.open_runs(yard.id(), None, 9).await.unwrap();
    let next = (open[0].run.id, open[0].jobs[0].id);
    assert_eq!(admit(&yard, next, both()).await, Admitted::Done);
    let after = (open[1].run.id, open[1].jobs[0].id);
    assert_eq!(admit(&yard, after, both()).await, Admitted::Full(1));
}

pub async fn what_is_cancelled_or_paused_is_not_admitted(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    let (cancelled, paused) = (waiting(&yard, "unit").await, waiting(&yard, "unit").await);
    store.submit(cancelled.0, cancel_by("ann")).await.unwrap();
    assert_eq!(admit(&yard, cancelled, vec![]).await, Admitted::Stale);
    store.set_paused(yard.id(), Some("bob")).await.unwrap();
    assert_eq!(admit(&yard, paused, vec![]).await, Admitted::Stale);
    assert!(store.waiting_pipelines(9).await.unwrap().is_empty());
    assert!(store.yaml_pipelines(None, 9).await.unwrap().is_empty());
    store.set_paused(yard.id(), None).await.unwrap();
    assert_eq!(admit(&yard, paused, vec![]).await, Admitted::Done);
}

pub async fn a_run_of_which_all_is_skipped_is_skipped_and_its_caller_is_answered(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    let mut run = yard.new_build("unit", None);
    run.jobs.extend(yard.new_build("lint", None).jobs);
    let (unit, lint) = (run.jobs[0].id, run.jobs[1].id);
    let id = enqueue(&store, run).await;
    let skipped = |job| store.submit(id, skip(job));
    assert_eq!(skipped(unit).await.unwrap(), Applied::Done);
    assert_eq!(skipped(unit).await.unwrap(), Applied::Duplicate);
    assert_eq!(view(&store, id).await.run.state, RunState::Queued);
    assert_eq!(skipped(lint).await.unwrap(), Applied::Done);
    let view = view(&store, id).await;
    let end = view.run.end.unwrap();
    assert_eq!(
        (end.outcome, end.reason.as_str()),
        (Outcome::Skipped, "webhook_filter")
    );
    assert_eq!(view.reply.unwrap().status, 202);
    assert!(
        view.jobs.iter().all(|(job, _)| job.attempt == 0),
        "no agent was asked"
    );
}

pub async fn what_was_let_go_is_not_skipped(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    let build = waiting(&yard, "unit").await;
    assert_eq!(admit(&yard, build, vec![]).await, Admitted::Done);
    let skipped = store.submit(build.0, skip(build.1)).await.unwrap();
    assert_eq!(skipped, Applied::Stale);
}

pub async fn a_run_that_was_stopped_ends_aborted_though_another_job_failed(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    let mut run = yard.new_build("unit", None);
    run.jobs.extend(yard.new_build("deploy", None).jobs);
    let unit = run.jobs[0].id;
    let id = enqueue(&store, run).await;
    assert_eq!(admit(&yard, (id, unit), vec![]).await, Admitted::Done);
    let claimed = yard.peer.claim(&store, 1).await.remove(0);
    let mut build = Attempt::of(&store, &yard.peer, &claimed);
    build.accept(LONG).await;
    build.finish(Outcome::Errored).await;
    store.submit(id, cancel_by("ann")).await.unwrap();
    let end = view(&store, id).await.run.end.unwrap();
    assert_eq!((end.outcome, end.actor.as_str()), (Outcome::Aborted, "ann"));
}

pub async fn a_rerun_uses_what_the_original_used(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    let first = yard.succeeded("unit", &[("repo", "1")], &[]).await;
    let run = yard.new_build("unit", Some(first));
    let job = run.jobs[0].id;
    let id = enqueue(&store, run).await;
    let admission = Admission {
        inputs: BuildInputs::Of(first),
        ..admission(&yard, (id, job), vec![])
    };
    assert_eq!(store.admit_build(admission).await.unwrap(), Admitted::Done);
    let used = store.build_versions(job).await.unwrap();
    assert_eq!(used.inputs[0].version, version("1"));
    assert!(!used.inputs[0].first_occurrence);
    let (_, build) = store.build(yard.id(), "unit", 1, 1).await.unwrap().unwrap();
    assert_eq!(build.id, job);
    let all = store
        .builds(yard.id(), Some("unit"), None, 9)
        .await
        .unwrap();
    assert_eq!(
        all.iter().map(|(_, job)| job.id).collect::<Vec<_>>(),
        [job, first]
    );
    let older = store.builds(yard.id(), None, Some(job), 9).await.unwrap();
    assert_eq!(older.len(), 1);
}

pub async fn a_group_lets_its_builds_wait_for_their_inputs(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    let mut run = yard.new_build("unit", None);
    run.group = Some("main".into());
    let job = run.jobs[0].id;
    let id = enqueue(&store, run).await;
    assert!(
        store
            .open_runs(yard.id(), None, 9)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(admit(&yard, (id, job), vec![]).await, Admitted::Stale);
    let ruling = store.admit(yard.id(), "main").await.unwrap();
    assert_eq!(ruling.admit, [id]);
    assert!(yard.peer.claim(&store, 9).await.is_empty());
    assert_eq!(admit(&yard, (id, job), vec![]).await, Admitted::Done);
    assert_eq!(yard.peer.claim(&store, 9).await[0].job.id, job);
}

pub async fn checks_that_are_over_are_forgotten_and_nothing_else(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    let mut runs = Vec::new();
    for kind in [TriggerKind::Check, TriggerKind::Check, TriggerKind::Manual] {
        let mut run = webhook(&yard.pipeline);
        run.receipt = None;
        run.trigger = Trigger::new(kind);
        runs.push(enqueue(&store, run).await);
    }
    for run in [runs[0], runs[2]] {
        store.submit(run, cancel_by("ann")).await.unwrap();
    }
    let ago = Duration::from_secs(3600);
    assert_eq!(store.forget_checks(ago, 9).await.unwrap(), 0, "too young");
    assert_eq!(store.forget_checks(Duration::ZERO, 9).await.unwrap(), 1);
    let there = |run| {
        let store = store.clone();
        async move { store.run(run).await.unwrap().is_some() }
    };
    assert!(!there(runs[0]).await);
    assert!(there(runs[1]).await, "not over");
    assert!(there(runs[2]).await, "no check");
}

/// SQLite's file belongs to one process, which has every duty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duty_has_one_holder_until_it_is_given_up() {
    let home = Home::postgres().await;
    home.hold(|store: Shared| async move {
        let (ann, bob) = (Uuid::new_v4(), Uuid::new_v4());
        assert!(store.take_duty("clock", ann, LONG).await.unwrap());
        assert!(store.take_duty("clock", ann, LONG).await.unwrap(), "kept");
        assert!(!store.take_duty("clock", bob, LONG).await.unwrap());
        assert!(store.take_duty("other", bob, LONG).await.unwrap());
        // Ann says for how long, and is heard of no more.
        assert!(store.take_duty("clock", ann, Duration::ZERO).await.unwrap());
        let taken = eventually("the duty is free", || {
            let store = store.clone();
            async move {
                store
                    .take_duty("clock", bob, LONG)
                    .await
                    .unwrap()
                    .then_some(())
            }
        });
        taken.await;
        assert!(!store.take_duty("clock", ann, LONG).await.unwrap());
    })
    .await;
}
