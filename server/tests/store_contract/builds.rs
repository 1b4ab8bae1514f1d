//! Rules of builds: their numbers, and the inputs they take once.

use crate::home::Home;
use crate::story::*;
use crate::version_story::*;
use pocketci_server::model::JobId;
use pocketci_server::model::run::Outcome;
use pocketci_server::store::{Enqueued, NewBuild, Saved, Taken};
use std::collections::BTreeSet;

async fn word(yard: &Yard, attempt: &Attempt) -> String {
    yard.number(attempt).await.to_string()
}

pub async fn builds_count_from_one_for_each_job(store: Shared) {
    let yard = Yard::new(&store, &[]).await;
    let other = Yard::named(&store, "other", &[]).await;
    assert_eq!(word(&yard, &yard.build("unit").await).await, "1");
    assert_eq!(word(&yard, &yard.build("unit").await).await, "2");
    assert_eq!(word(&yard, &yard.build("lint").await).await, "1");
    assert_eq!(word(&other, &other.build("unit").await).await, "1");
    let script = enqueue(&store, webhook(&yard.pipeline)).await;
    assert_eq!(view(&store, script).await.jobs[0].0.build, None);
    assert_eq!(word(&yard, &yard.build("unit").await).await, "3");
}

pub async fn reruns_count_within_the_build_that_they_repeat(store: Shared) {
    let yard = Yard::new(&store, &[]).await;
    let (first, _second) = (yard.build("unit").await, yard.build("unit").await);
    let again = yard.rerun("unit", first.job).await;
    assert_eq!(word(&yard, &again).await, "1.1");
    let of_rerun = yard.rerun("unit", again.job).await;
    assert_eq!(word(&yard, &of_rerun).await, "1.2");
    assert_eq!(yard.number(&of_rerun).await.rerun_of, Some(first.job));
    assert_eq!(word(&yard, &yard.build("unit").await).await, "3");
}

pub async fn a_rerun_of_what_is_no_build_of_the_job_is_a_build(store: Shared) {
    let yard = Yard::new(&store, &[]).await;
    let lint = yard.build("lint").await;
    assert_eq!(word(&yard, &yard.rerun("unit", lint.job).await).await, "1");
    let unknown = yard.rerun("unit", JobId::new()).await;
    assert_eq!(word(&yard, &unknown).await, "2");
    assert_eq!(yard.number(&unknown).await.rerun_of, None);
}

pub async fn a_repeated_or_refused_run_takes_no_number(store: Shared) {
    let yard = Yard::new(&store, &[]).await;
    let run = yard.new_build("unit", None);
    let id = enqueue(&store, run.clone()).await;
    enqueue(&store, run).await;
    let mut stale = yard.new_build("unit", None);
    stale.pipeline_version += 1;
    assert_eq!(store.enqueue(stale).await.unwrap(), Enqueued::Stale);
    let mut refused = yard.new_build("unit", None);
    // A build that waits for its inputs is not in the queue; the job beside it would be.
    refused.jobs.push(job("beside"));
    refused.max_queue = 0;
    assert_eq!(store.enqueue(refused).await.unwrap(), Enqueued::QueueFull);
    let next = enqueue(&store, yard.new_build("unit", None)).await;
    for (run, word) in [(id, "1"), (next, "2")] {
        let build = view(&store, run).await.jobs[0].0.build.unwrap();
        assert_eq!(build.to_string(), word);
    }
}

pub async fn a_run_has_builds_of_several_jobs(store: Shared) {
    let yard = Yard::new(&store, &[]).await;
    yard.build("lint").await;
    let mut run = yard.new_build("unit", None);
    for name in ["lint", "unit"] {
        let mut job = job(name);
        job.build = Some(NewBuild::default());
        run.jobs.push(job);
    }
    run.jobs.push(job("script"));
    let id = enqueue(&store, run).await;
    let mut words: Vec<String> = view(&store, id)
        .await
        .jobs
        .iter()
        .map(|(job, _)| match job.build {
            Some(build) => format!("{} {build}", job.name),
            None => job.name.clone(),
        })
        .collect();
    words.sort();
    assert_eq!(words, ["lint 2", "script", "unit 1", "unit 2"]);
}

/// Stores many builds and reruns of two jobs at once, through all of these stores; their numbers.
async fn crowd(stores: &[Shared], yard: &Yard, repeated: JobId) -> Vec<String> {
    let storing = (0..60).map(|at| {
        let store = &stores[at % stores.len()];
        let of = (at % 3 == 0).then_some(repeated);
        let mut run = yard.new_build("unit", of);
        let mut second = job(if at % 2 == 0 { "lint" } else { "alpha" });
        second.build = Some(NewBuild::default());
        run.jobs.insert(at % 2, second);
        async move {
            let id = enqueue(store, run).await;
            let view = view(store, id).await;
            let words = view
                .jobs
                .iter()
                .map(|(job, _)| format!("{} {}", job.name, job.build.unwrap()));
            words.collect::<Vec<String>>()
        }
    });
    futures_util::future::join_all(storing).await.concat()
}

async fn no_number_is_given_twice_by(stores: &[Shared]) {
    let yard = Yard::new(&stores[0], &[]).await;
    let first = yard.build("unit").await;
    let words = crowd(stores, &yard, first.job).await;
    let distinct: BTreeSet<&String> = words.iter().collect();
    assert_eq!(distinct.len(), 120);
    for number in 1..=20 {
        assert!(distinct.contains(&format!("unit 1.{number}")));
    }
    for number in 2..=41 {
        assert!(distinct.contains(&format!("unit {number}")));
    }
    for number in 1..=30 {
        assert!(distinct.contains(&format!("lint {number}")));
        assert!(distinct.contains(&format!("alpha {number}")));
    }
}

pub async fn of_many_at_once_no_number_is_given_twice(store: Shared) {
    no_number_is_given_twice_by(&[store]).await;
}

/// SQLite has one server.
pub async fn two_servers_never_give_a_number_twice(home: Home) {
    let first = home.open().await;
    let stores = match home {
        Home::Sqlite(_) => vec![first],
        Home::Postgres(_) => vec![first, home.open().await],
    };
    no_number_is_given_twice_by(&stores).await;
    for store in stores {
        store.close().await;
    }
}

pub async fn inputs_are_taken_once_while_the_build_is_not_over(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    yard.found("repo", &["a", "b"]).await;
    let source = yard.succeeded("unit", &[("repo", "a")], &[]).await;
    let mut build = yard.build("ship").await;
    let inputs = vec![
        taken("repo", "repo", &version("a"), vec![source, source]),
        taken("again", "repo", &version("b"), vec![source]),
    ];
    yard.take(build.job, inputs.clone()).await;
    let taken = store.build_versions(build.job).await.unwrap();
    assert_eq!(taken.sources, [source]);
    let names: Vec<&str> = taken
        .inputs
        .iter()
        .map(|input| input.name.as_str())
        .collect();
    assert_eq!(names, ["again", "repo"]);
    let other = vec![crate::version_story::taken(
        "repo",
        "repo",
        &version("b"),
        vec![],
    )];
    assert_eq!(
        store.take_inputs(build.job, other.clone()).await.unwrap(),
        Taken::Before
    );
    assert_eq!(store.build_versions(build.job).await.unwrap(), taken);
    build.finish(Outcome::Succeeded).await;
    assert_eq!(
        store.take_inputs(build.job, inputs).await.unwrap(),
        Taken::Stale
    );
    assert_eq!(yard.put(build.job, "repo", "c").await, Saved::Stale);
    assert_eq!(
        store
            .take_inputs(JobId::new(), other.clone())
            .await
            .unwrap(),
        Taken::Stale
    );
    let script = enqueue(&store, webhook(&yard.pipeline)).await;
    let job = view(&store, script).await.jobs[0].0.id;
    assert_eq!(
        store.take_inputs(job, other).await.unwrap(),
        Taken::Stale,
        "it is no build"
    );
}

pub async fn a_rerun_adopts_inputs_and_where_they_came_from(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    yard.found("repo", &["a"]).await;
    let source = yard.succeeded("unit", &[("repo", "a")], &[]).await;
    let original = yard.succeeded("ship", &[("repo", "a")], &[source]).await;
    let mut again = yard.rerun("ship", original).await;
    assert_eq!(
        store.adopt_inputs(again.job, original).await.unwrap(),
        Taken::Stored
    );
    assert_eq!(
        store.adopt_inputs(again.job, original).await.unwrap(),
        Taken::Before
    );
    let (old, new) = (
        store.build_versions(original).await.unwrap(),
        store.build_versions(again.job).await.unwrap(),
    );
    assert_eq!(new.sources, [source]);
    assert!(old.inputs[0].first_occurrence && !new.inputs[0].first_occurrence);
    assert_eq!(new.inputs[0].hash, old.inputs[0].hash);
    again.finish(Outcome::Failed).await;
    assert_eq!(
        store.adopt_inputs(again.job, original).await.unwrap(),
        Taken::Stale
    );
    // Another job's inputs are none of its business.
    let lint = yard.build("lint").await;
    assert_eq!(
        store.adopt_inputs(lint.job, original).await.unwrap(),
        Taken::Stored
    );
    assert!(
        store
            .build_versions(lint.job)
            .await
            .unwrap()
            .inputs
            .is_empty()
    );
}

pub async fn nothing_is_left_of_a_deleted_pipeline(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    yard.found("repo", &["a"]).await;
    let source = yard.succeeded("unit", &[("repo", "a")], &[]).await;
    let open = yard.build("ship").await;
    let inputs = vec![taken("repo", "repo", &version("a"), vec![source])];
    yard.take(open.job, inputs.clone()).await;
    yard.put(open.job, "repo", "b").await;
    assert!(store.delete_pipeline(yard.id()).await.unwrap());
    for job in [source, open.job] {
        let left = store.build_versions(job).await.unwrap();
        assert!(left.inputs.is_empty() && left.outputs.is_empty() && left.sources.is_empty());
    }
    assert!(store.resources(yard.id()).await.unwrap().is_empty());
    assert_eq!(
        store.take_inputs(open.job, inputs).await.unwrap(),
        Taken::Stale
    );
    assert_eq!(yard.put(open.job, "repo", "c").await, Saved::Stale);
    let late = store.save_versions(yard.id(), "repo", SCOPE, vec![version("c")]);
    assert_eq!(late.await.unwrap(), Saved::Stale);
    // One of the same name begins anew.
    let anew = Yard::named(&store, "yard-2", &["repo"]).await;
    assert_eq!(word(&anew, &anew.build("unit").await).await, "1");
}

pub async fn a_pipeline_deleted_amid_writes_leaves_nothing(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    let mut builds = Vec::new();
    for _ in 0..10 {
        builds.push(yard.build("unit").await);
    }
    let writes = builds.iter().enumerate().map(|(at, build)| {
        let (yard, store) = (&yard, &store);
        async move {
            let word = format!("v{at}");
            let inputs = vec![taken("repo", "repo", &version(&word), vec![])];
            let taking = store.take_inputs(build.job, inputs).await;
            let put = store
                .save_output(build.job, "repo", SCOPE, version(&word), vec![])
                .await;
            let check = store
                .save_versions(yard.id(), "repo", SCOPE, vec![version(&word)])
                .await;
            (taking.is_ok(), put.is_ok(), check.is_ok())
        }
    });
    let (written, deleted) = futures_util::future::join(
        futures_util::future::join_all(writes),
        store.delete_pipeline(yard.id()),
    )
    .await;
    assert!(deleted.unwrap());
    assert!(
        written.iter().all(|all| *all == (true, true, true)),
        "{written:?}"
    );
    for build in builds {
        let left = store.build_versions(build.job).await.unwrap();
        assert!(left.inputs.is_empty() && left.outputs.is_empty());
    }
}
