//! Rules of waiting: whose turn it is, what may not be handed out yet, what waits too long.

use crate::story::*;
use pocketci_server::model::concurrency::Ruling;
use pocketci_server::model::pipeline::{Pipeline, SettingsPatch};
use pocketci_server::model::run::{CancelReason, Cancelled, Hold, JobState, Outcome, RunState};
use pocketci_server::model::transition::{Applied, Change, Report};
use pocketci_server::model::{JobId, RunId};
use pocketci_server::store::NewRun;
use pocketci_server::store::wake::Wake;
use serde_json::json;
use std::collections::HashMap;
use std::time::{Duration, Instant};

async fn with_settings(store: &Shared, name: &str, settings: serde_json::Value) -> Pipeline {
    let mut put = put(name);
    put.settings = Some(SettingsPatch::new(settings).unwrap());
    store.put_pipeline(put).await.unwrap().pipeline
}

async fn queued(store: &Shared, pipeline: &Pipeline, count: usize) -> Vec<RunId> {
    let mut runs = Vec::new();
    for _ in 0..count {
        runs.push(enqueue(store, webhook(pipeline)).await);
    }
    runs
}

fn at_priority(pipeline: &Pipeline, priority: i32) -> NewRun {
    let mut new = webhook(pipeline);
    new.jobs[0].terms.priority = priority;
    new
}

fn in_group(pipeline: &Pipeline, group: &str) -> NewRun {
    let mut new = webhook(pipeline);
    new.group = Some(group.into());
    new
}

async fn next(store: &Shared, peer: &Peer) -> Option<RunId> {
    peer.claim(store, 1)
        .await
        .pop()
        .map(|claimed| claimed.run.id)
}

pub async fn pipelines_take_turns_however_much_one_of_them_queued(store: Shared) {
    let (big, small) = (
        pipeline(&store, "big").await,
        pipeline(&store, "small").await,
    );
    let ann = peer(&store, "ann").await;
    queued(&store, &big, 50).await;
    // The round has gone on for a while when the other one comes.
    assert_eq!(ann.claim(&store, 10).await.len(), 10);
    let late = queued(&store, &small, 3).await;
    let mut served: HashMap<_, usize> = HashMap::new();
    let mut of_small = Vec::new();
    for _ in 0..6 {
        let claimed = ann.claim(&store, 1).await.remove(0);
        *served.entry(claimed.pipeline_name).or_default() += 1;
        if claimed.run.pipeline_id == small.id {
            of_small.push(claimed.run.id);
        }
    }
    assert_eq!((served["big"], served["small"]), (3, 3), "{served:?}");
    assert_eq!(of_small, late, "each in the order of its own");
}

pub async fn runs_stored_in_one_group_take_turns_too(store: Shared) {
    let (a, b) = (pipeline(&store, "a").await, pipeline(&store, "b").await);
    let ann = peer(&store, "ann").await;
    let mut pending = Vec::new();
    for of in [&a, &a, &a, &a, &b, &b] {
        pending.push(store.enqueue(webhook(of)));
    }
    futures_util::future::join_all(pending).await;
    let mut names = Vec::new();
    for _ in 0..4 {
        names.push(ann.claim(&store, 1).await.remove(0).pipeline_name);
    }
    names.sort();
    assert_eq!(names, ["a", "a", "b", "b"]);
}

pub async fn higher_priorities_go_first(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let low = enqueue(&store, at_priority(&build, -1)).await;
    let plain = enqueue(&store, webhook(&build)).await;
    let high = enqueue(&store, at_priority(&build, 5)).await;
    let claimed = ann.claim(&store, 3).await;
    let order: Vec<RunId> = claimed.iter().map(|claimed| claimed.run.id).collect();
    assert_eq!(order, [high, plain, low]);
}

pub async fn waiting_counts_as_priority_so_that_nobody_starves(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let patient = enqueue(&store, at_priority(&build, -10)).await;
    let mut request = ann.request(1);
    request.age_step = Duration::from_millis(20);
    let start = Instant::now();
    // Urgent work never ends, and yet the patient one gets its turn.
    loop {
        enqueue(&store, at_priority(&build, 10)).await;
        let claimed = store.claim(request.clone()).await.unwrap().remove(0);
        if claimed.run.id == patient {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "it starves");
    }
    assert!(
        start.elapsed() >= Duration::from_millis(300),
        "not before it has waited: {:?}",
        start.elapsed()
    );
}

pub async fn nobody_starves_among_equals_though_others_come_again_and_again(store: Shared) {
    let mut busy = Vec::new();
    for name in ["p1", "p2", "p3"] {
        busy.push(pipeline(&store, name).await);
    }
    let big = pipeline(&store, "big").await;
    let ann = peer(&store, "ann").await;
    let of_big = queued(&store, &big, 4).await;
    for of in &busy {
        queued(&store, of, 1).await;
    }
    // Whoever is served queues again at once; still each gets every fourth turn.
    let mut served = Vec::new();
    for _ in 0..16 {
        let claimed = ann.claim(&store, 1).await.remove(0);
        served.push(claimed.run.id);
        let of = busy.iter().find(|of| of.id == claimed.run.pipeline_id);
        if let Some(of) = of {
            queued(&store, of, 1).await;
        }
    }
    for run in of_big {
        assert!(served.contains(&run), "it starves");
    }
}

pub async fn an_admitted_run_gets_its_turn_when_it_is_admitted(store: Shared) {
    let serial = with_settings(&store, "serial", json!({"concurrency": {}})).await;
    let other = pipeline(&store, "other").await;
    let ann = peer(&store, "ann").await;
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(enqueue(&store, in_group(&serial, "")).await);
    }
    queued(&store, &other, 3).await;
    // Nineteen were held before the last one; it does not wait for as many rounds.
    for run in &held[..19] {
        let wish = Cancelled {
            actor: "eve".into(),
            reason: CancelReason::User,
        };
        store.submit(*run, Change::Cancel(wish)).await.unwrap();
    }
    assert_eq!(store.admit(serial.id, "").await.unwrap().admit, [held[19]]);
    let first: Vec<RunId> = ann
        .claim(&store, 2)
        .await
        .iter()
        .map(|c| c.run.id)
        .collect();
    assert!(first.contains(&held[19]));
}

pub async fn a_refused_job_goes_on_waiting_as_before(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut new = webhook(&build);
    new.jobs[0].terms.timeout = Some(LONG);
    let run = enqueue(&store, new).await;
    let before = view(&store, run).await.jobs.remove(0).0;
    let claimed = ann.claim(&store, 1).await.remove(0);
    let mut attempt = Attempt::of(&store, &ann, &claimed);
    let reason = "full".into();
    attempt.report(Report::Rejected { reason }).await;
    let after = view(&store, run).await.jobs.remove(0).0;
    assert_eq!(after.state, JobState::Queued);
    assert_eq!(
        (after.queued_at, after.queue_until),
        (before.queued_at, before.queue_until)
    );
}

pub async fn a_long_queue_that_fits_nobody_is_no_hindrance(store: Shared) {
    let (stuck, build) = (
        pipeline(&store, "stuck").await,
        pipeline(&store, "build").await,
    );
    let ann = peer(&store, "ann").await;
    let mut pending = Vec::new();
    for number in 0..2_000 {
        let mut new = webhook(&stuck);
        new.receipt = None;
        new.wants_reply = false;
        new.jobs[0].labels = labels(&[("rack", ["a", "b", "c"][number % 3])]);
        pending.push(store.enqueue(new));
    }
    futures_util::future::join_all(pending).await;
    let wanted = enqueue(&store, webhook(&build)).await;
    assert_eq!(next(&store, &ann).await, Some(wanted));
    assert_eq!(next(&store, &ann).await, None);
    let mut demand = store.demand().await.unwrap();
    demand.sort_by_key(|asked| asked.labels.clone());
    let racks: Vec<&str> = demand
        .iter()
        .map(|asked| asked.labels["rack"].as_str())
        .collect();
    assert_eq!(racks, ["a", "b", "c"], "each requirement once");
    assert!(demand.iter().all(|asked| asked.jobs >= 250));
    assert_eq!(store.queue(5).await.unwrap().len(), 5);
}

pub async fn a_limit_on_all_running_jobs_holds_against_many_claims_at_once(store: Shared) {
    let build = pipeline(&store, "build").await;
    queued(&store, &build, 20).await;
    let mut claims = Vec::new();
    for number in 0..8 {
        let mut request = peer(&store, &format!("peer-{number}")).await.request(3);
        request.max_running = Some(5);
        claims.push(store.claim(request));
    }
    let taken: usize = futures_util::future::join_all(claims)
        .await
        .into_iter()
        .map(|claimed| claimed.unwrap().len())
        .sum();
    assert_eq!(taken, 5);
    let load: i64 = store
        .load()
        .await
        .unwrap()
        .iter()
        .map(|(_, jobs)| jobs)
        .sum();
    assert_eq!(load, 5);
}

pub async fn a_paused_pipelines_jobs_are_held_until_it_is_resumed(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut begun = running(&store, &build, &ann).await;
    let waiting = enqueue(&store, webhook(&build)).await;
    store.set_paused(build.id, Some("bob")).await.unwrap();
    assert_eq!(next(&store, &ann).await, None);
    let shown = store.queue(9).await.unwrap().remove(0);
    assert_eq!(
        (shown.job.hold, shown.paused_by.as_str()),
        (Some(Hold::Paused), "bob")
    );
    assert!(store.demand().await.unwrap().is_empty());
    begun.finish(Outcome::Succeeded).await;
    let mut wakes = store.wakes().subscribe();
    store.set_paused(build.id, None).await.unwrap();
    assert_eq!(next_wake(&mut wakes).await, Wake::JobQueued);
    assert_eq!(next(&store, &ann).await, Some(waiting));
}

pub async fn a_lost_job_of_a_paused_pipeline_goes_on(store: Shared) {
    let build = pipeline(&store, "build").await;
    let (ann, bob) = (peer(&store, "ann").await, peer(&store, "bob").await);
    let mut begun = assigned(&store, &build, &ann).await;
    begun.accept(Duration::from_millis(1)).await;
    begun.expire().await;
    store.set_paused(build.id, Some("bob")).await.unwrap();
    assert_eq!(next(&store, &bob).await, Some(begun.run));
}

pub async fn a_groups_jobs_are_held_until_they_are_admitted_one_by_one(store: Shared) {
    let build = with_settings(&store, "build", json!({"concurrency": {"limit": 1}})).await;
    let ann = peer(&store, "ann").await;
    let first = enqueue(&store, in_group(&build, "main")).await;
    let second = enqueue(&store, in_group(&build, "main")).await;
    let other = enqueue(&store, in_group(&build, "dev")).await;
    assert_eq!(next(&store, &ann).await, None, "held when stored");
    let mut groups = store.held_groups(None, 9).await.unwrap();
    groups.sort_by_key(|(_, group)| group.clone());
    assert_eq!(
        groups,
        [(build.id, "dev".into()), (build.id, "main".into())]
    );
    // Looked at by many at once: still one at a time.
    let looks = (0..8).map(|_| store.admit(build.id, "main"));
    let rulings = futures_util::future::join_all(looks).await;
    let admitted: Vec<RunId> = rulings
        .into_iter()
        .flat_map(|ruling| ruling.unwrap().admit)
        .collect();
    assert_eq!(admitted, [first]);
    assert_eq!(store.admit(build.id, "dev").await.unwrap().admit, [other]);
    let claimed = ann.claim(&store, 5).await;
    assert_eq!(claimed.len(), 2);
    let mut wakes = store.wakes().subscribe();
    let of_first = claimed
        .iter()
        .find(|claimed| claimed.run.id == first)
        .unwrap();
    let mut attempt = Attempt::of(&store, &ann, of_first);
    attempt.accept(LONG).await;
    attempt.finish(Outcome::Succeeded).await;
    loop {
        if next_wake(&mut wakes).await == Wake::Group(build.id, "main".into()) {
            break;
        }
    }
    assert_eq!(store.admit(build.id, "main").await.unwrap().admit, [second]);
    assert_eq!(next(&store, &ann).await, Some(second));
    assert_eq!(
        store.admit(build.id, "main").await.unwrap(),
        Ruling::default()
    );
}

pub async fn a_group_is_ruled_as_its_pipeline_says_now(store: Shared) {
    let build = with_settings(&store, "build", json!({"concurrency": {}})).await;
    let runs = [
        enqueue(&store, in_group(&build, "")).await,
        enqueue(&store, in_group(&build, "")).await,
        enqueue(&store, in_group(&build, "")).await,
    ];
    assert_eq!(store.admit(build.id, "").await.unwrap().admit, [runs[0]]);
    with_settings(
        &store,
        "build",
        json!({"concurrency": {"on_conflict": "cancel-running"}}),
    )
    .await;
    let ruling = store.admit(build.id, "").await.unwrap();
    assert_eq!(ruling.supersede, [(runs[1], runs[2]), (runs[0], runs[2])]);
    assert_eq!(store.group(build.id, "").await.unwrap().len(), 3);
    with_settings(&store, "build", json!({"concurrency": null})).await;
    assert_eq!(
        store.admit(build.id, "").await.unwrap().admit,
        [runs[1], runs[2]]
    );
}

pub async fn a_paused_groups_admitted_jobs_stay_held(store: Shared) {
    let build = with_settings(&store, "build", json!({"concurrency": {}})).await;
    let ann = peer(&store, "ann").await;
    let first = enqueue(&store, in_group(&build, "")).await;
    store.set_paused(build.id, Some("bob")).await.unwrap();
    assert_eq!(store.admit(build.id, "").await.unwrap().admit, [first]);
    assert_eq!(next(&store, &ann).await, None);
    store.set_paused(build.id, None).await.unwrap();
    assert_eq!(next(&store, &ann).await, Some(first));
}

pub async fn a_superseded_run_says_by_whom_and_a_skipped_one_did_nothing(store: Shared) {
    let build = with_settings(&store, "build", json!({"concurrency": {}})).await;
    let (old, new) = (
        enqueue(&store, in_group(&build, "")).await,
        enqueue(&store, in_group(&build, "")).await,
    );
    let wish = Cancelled {
        actor: format!("run {new}"),
        reason: CancelReason::Superseded,
    };
    let applied = store.submit(old, Change::Cancel(wish)).await.unwrap();
    assert_eq!(applied, Applied::Done);
    let end = view(&store, old).await.run.end.unwrap();
    assert_eq!(
        (end.outcome, end.reason.as_str(), end.actor),
        (Outcome::Aborted, "superseded", format!("run {new}"))
    );
    let skip = Change::Skip { for_run: old };
    assert_eq!(
        store.submit(new, skip.clone()).await.unwrap(),
        Applied::Done
    );
    assert_eq!(store.submit(new, skip).await.unwrap(), Applied::Duplicate);
    let found = view(&store, new).await;
    let end = found.run.end.unwrap();
    assert_eq!(
        (end.outcome, end.reason.as_str()),
        (Outcome::Skipped, "already_running")
    );
    assert!(found.reply.is_some(), "its caller is answered at once");
}

pub async fn what_waits_too_long_is_found_and_ends_saying_why(store: Shared) {
    let build = pipeline(&store, "build").await;
    let mut new = webhook(&build);
    new.jobs[0].terms.timeout = Some(Duration::from_millis(30));
    let job_id = new.jobs[0].id;
    let run = enqueue(&store, new).await;
    let overdue = |job_id: JobId| Change::Overdue {
        job_id,
        waited_for: "no agent is connected".into(),
    };
    let early = store.submit(run, overdue(job_id)).await.unwrap();
    let found: Vec<(RunId, JobId)> = eventually("it is overdue", || async {
        Some(store.overdue(9).await.unwrap()).filter(|found| !found.is_empty())
    })
    .await;
    assert_eq!(found, [(run, job_id)]);
    if early == Applied::Stale {
        assert_eq!(
            store.submit(run, overdue(job_id)).await.unwrap(),
            Applied::Done
        );
    }
    let end = view(&store, run).await.run.end.unwrap();
    assert_eq!(
        (end.outcome, end.reason.as_str(), end.actor.as_str()),
        (Outcome::Errored, "queue_timeout", "server")
    );
    assert!(
        end.message.contains("no agent is connected"),
        "{}",
        end.message
    );
    assert!(store.overdue(9).await.unwrap().is_empty());
}

pub async fn a_job_that_was_accepted_is_not_overdue(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut new = webhook(&build);
    new.jobs[0].terms.timeout = Some(Duration::from_millis(1));
    let run = enqueue(&store, new).await;
    let claimed = ann.claim(&store, 1).await.remove(0);
    let mut attempt = Attempt::of(&store, &ann, &claimed);
    attempt.accept(LONG).await;
    let job_id = claimed.job.id;
    let waited_for = String::new();
    let applied = store
        .submit(run, Change::Overdue { job_id, waited_for })
        .await;
    assert_eq!(applied.unwrap(), Applied::Stale);
    assert_eq!(view(&store, run).await.run.state, RunState::Running);
    assert!(store.overdue(9).await.unwrap().is_empty());
}

pub async fn terms_are_kept_and_a_job_is_tried_as_often_as_they_say(store: Shared) {
    let build = pipeline(&store, "build").await;
    let (ann, bob) = (peer(&store, "ann").await, peer(&store, "bob").await);
    let mut new = webhook(&build);
    new.jobs[0].terms.attempts = 1;
    new.jobs[0].terms.priority = 4;
    new.jobs[0].terms.timeout = Some(LONG);
    let terms = new.jobs[0].terms;
    let run = enqueue(&store, new).await;
    let claimed = ann.claim(&store, 1).await.remove(0);
    assert_eq!(
        (claimed.job.terms, claimed.job.state),
        (terms, JobState::Assigned)
    );
    let mut attempt = Attempt::of(&store, &ann, &claimed);
    attempt.accept(Duration::from_millis(1)).await;
    attempt.expire().await;
    let end = view(&store, run).await.run.end.unwrap();
    assert_eq!(
        (end.reason.as_str(), end.actor.as_str()),
        ("agent_lost", "server")
    );
    assert_eq!(next(&store, &bob).await, None);
}
