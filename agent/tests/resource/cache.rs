//! What was fetched is fetched once.

use super::support::*;
use pocketci_agent::container::Driver;
use pocketci_agent::resource::{GetCache, ResourceSpec, Stop};
use serde_json::{Value, json};
use std::sync::Arc;

const HIT: &str = "found existing resource cache\n";

fn mock(version_in: &str) -> ResourceSpec {
    resource(
        "mock",
        json!({"create_files": {"f": version_in}, "log": "fetching"}),
    )
}

async fn job(driver: &Arc<dyn Driver>, cache: &Arc<GetCache>, test: &str) -> Job {
    Job::with(driver.clone(), cache.clone(), test, Vec::new(), false)
}

async fn get(job: &Job, resource: &ResourceSpec, v: &str, params: Value) -> String {
    let (_, artifact) = job
        .get(resource, &version(&[("version", v)]), params)
        .await
        .unwrap();
    job.read(&artifact, "f").await
}

async fn hits(job: &Job) -> usize {
    job.log().await.matches(HIT).count()
}

async fn a_hit_needs_the_same_source_params_and_version(driver: Arc<dyn Driver>, test: &str) {
    let cache = cache(&driver, test, 8);
    let first = job(&driver, &cache, test).await;
    assert_eq!(get(&first, &mock("1"), "a", json!({})).await, "1");
    assert_eq!(hits(&first).await, 0);
    first.resources.release().await;
    let second = job(&driver, &cache, test).await;
    assert_eq!(get(&second, &mock("1"), "a", Value::Null).await, "1");
    assert_eq!(hits(&second).await, 1);
    assert!(!second.log().await.contains("fetching"));
    assert_eq!(get(&second, &mock("1"), "b", json!({})).await, "1");
    assert_eq!(get(&second, &mock("2"), "a", json!({})).await, "2");
    let params = json!({"create_files_via_params": {"g": "g"}});
    assert_eq!(get(&second, &mock("1"), "a", params).await, "1");
    assert_eq!(hits(&second).await, 1);
    // What a job does to its artifact is its own.
    let (_, mine) = second
        .get(&mock("1"), &version(&[("version", "a")]), json!({}))
        .await
        .unwrap();
    second
        .shell(&busybox(), "echo changed >v/f", &mine.volume)
        .await;
    assert_eq!(get(&second, &mock("1"), "a", json!({})).await, "1");
    second.resources.release().await;
    cache.clear().await;
}

#[tokio::test]
async fn a_hit_needs_the_same_source_params_and_version_natively() {
    a_hit_needs_the_same_source_params_and_version(native(), "hits-native").await;
}

#[tokio::test]
async fn a_hit_needs_the_same_source_params_and_version_in_docker() {
    a_hit_needs_the_same_source_params_and_version(docker(), "hits").await;
    assert_eq!(sweep("hits").await, 0, "everything was removed");
}

#[tokio::test]
async fn a_failed_or_stopped_fetch_leaves_no_entry() {
    let test = "failedfetch";
    let maker = Job::new(docker(), test, Vec::new());
    let script = r#"if read -r l && test -z "${l##*fail*}"; then echo x >"$1/left"; exit 3; fi; echo '{"version":{"a":"b"}}'"#;
    let image = maker.image(&[("in", script)], "").await;
    let driver = docker();
    let cache = cache(&driver, test, 8);
    let job = Job::with(
        driver,
        cache.clone(),
        test,
        vec![image_type("t", &image)],
        false,
    );
    let wanted = version(&[("a", "b")]);
    let bad = resource("t", json!({"fail": true}));
    for _ in 0..2 {
        let got = job.get(&bad, &wanted, json!({})).await;
        assert_eq!(got.map(drop), Err(Stop::Failed { exit_code: 3 }));
    }
    assert_eq!(hits(&job).await, 0);
    job.get(&resource("t", json!({})), &wanted, json!({}))
        .await
        .unwrap();
    job.resources.release().await;
    maker.resources.release().await;
    cache.clear().await;
    // The artifact that the image was made of is the test's own.
    assert_eq!(sweep(test).await, 1);
}

#[tokio::test]
async fn what_a_dropped_get_had_fetched_goes_with_the_next_one() {
    let test = "dropped";
    let maker = Job::new(docker(), test, Vec::new());
    let script = "cat >/dev/null; echo ready >&2; sleep 300";
    let image = maker.image(&[("in", script)], "").await;
    let driver = docker();
    let cache = cache(&driver, test, 8);
    let types = vec![image_type("t", &image)];
    let job = Job::with(driver, cache.clone(), test, types, false);
    let (hanging, wanted) = (resource("t", json!({})), version(&[("a", "b")]));
    {
        let getting = job.get(&hanging, &wanted, json!({}));
        let ready = async {
            while !job.log().await.contains("ready") {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            got = getting => panic!("{got:?}"),
            () = ready => {}
        }
    }
    // The engine removes the dropped container in its own time, and its volume only then.
    let left = async || {
        let found = job.driver.labelled_volumes("pocketci.cache").await.unwrap();
        let ours = found.into_iter();
        ours.filter(|(_, labels)| labels.get("pocketci.test").is_some_and(|of| of == test))
            .count()
    };
    for round in 0.. {
        get(&job, &mock("1"), &round.to_string(), json!({})).await;
        job.resources.release().await;
        cache.clear().await;
        if left().await == 0 {
            break;
        }
        assert!(round < 100, "{} volumes are left", left().await);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    sweep(test).await;
}

#[tokio::test]
async fn of_two_that_want_the_same_one_fetches_and_the_other_waits() {
    let test = "together";
    let maker = Job::new(docker(), test, Vec::new());
    let script = r#"cat >/dev/null; echo fetching >&2; sleep 1; echo x >"$1/f"; echo '{"version":{"a":"b"}}'"#;
    let image = maker.image(&[("in", script)], "").await;
    let driver = docker();
    let cache = cache(&driver, test, 8);
    let jobs: Vec<Job> = (0..3)
        .map(|_| {
            Job::with(
                driver.clone(),
                cache.clone(),
                test,
                vec![image_type("t", &image)],
                false,
            )
        })
        .collect();
    let resource = resource("t", json!({}));
    let wanted = version(&[("a", "b")]);
    let gets = jobs
        .iter()
        .map(|job| job.get(&resource, &wanted, json!({})));
    for got in futures_util::future::join_all(gets).await {
        let (_, artifact) = got.unwrap();
        assert_eq!(jobs[0].read(&artifact, "f").await, "x\n");
    }
    let mut logs = String::new();
    for job in &jobs {
        logs.push_str(&job.log().await);
    }
    assert_eq!(logs.matches("fetching").count(), 1, "{logs}");
    assert_eq!(logs.matches(HIT).count(), 2, "{logs}");
    sweep(test).await;
}

#[tokio::test]
async fn who_waits_fetches_itself_if_the_first_is_stopped() {
    let driver = native();
    let cache = cache(&driver, "firststopped", 8);
    let first = job(&driver, &cache, "firststopped").await;
    let second = job(&driver, &cache, "firststopped").await;
    first.io.stop.cancel();
    let wanted = version(&[("version", "a")]);
    let source = mock("1");
    let (one, two) = tokio::join!(
        first.get(&source, &wanted, json!({})),
        second.get(&source, &wanted, json!({}))
    );
    assert_eq!(one.map(drop), Err(Stop::Stopped));
    assert!(two.is_ok());
    assert_eq!(hits(&second).await, 0);
}

#[tokio::test]
async fn the_one_not_used_for_longest_goes_first_even_while_a_job_has_it() {
    let test = "lru";
    let driver = docker();
    let cache = cache(&driver, test, 2);
    let job = job(&driver, &cache, test).await;
    let wanted = version(&[("version", "a")]);
    let (_, old) = job.get(&mock("1"), &wanted, json!({})).await.unwrap();
    assert_eq!(get(&job, &mock("2"), "a", json!({})).await, "2");
    assert_eq!(get(&job, &mock("1"), "a", json!({})).await, "1");
    assert_eq!(hits(&job).await, 1);
    // 2 goes, as 1 was used since; then 1, whose artifact stays whole.
    assert_eq!(get(&job, &mock("3"), "a", json!({})).await, "3");
    assert_eq!(get(&job, &mock("4"), "a", json!({})).await, "4");
    assert_eq!(get(&job, &mock("2"), "a", json!({})).await, "2");
    assert_eq!(hits(&job).await, 1);
    assert_eq!(job.read(&old, "f").await, "1");
    job.resources.release().await;
    cache.clear().await;
    assert_eq!(sweep(test).await, 0);
}

#[tokio::test]
async fn a_restarted_agent_finds_what_was_kept_and_drops_what_was_cut_short() {
    let test = "restart";
    let driver = docker();
    let first = cache(&driver, test, 8);
    let job_before = job(&driver, &first, test).await;
    assert_eq!(get(&job_before, &mock("1"), "a", json!({})).await, "1");
    job_before.resources.release().await;
    // A fetch that was under way when the agent was killed.
    let mut labels = agent_labels(test);
    labels.insert("pocketci.cache".into(), "abc".into());
    let cut = driver.create_volume("cache", labels).await.unwrap();
    let driver = docker();
    let second = cache(&driver, test, 8);
    let job_after = job(&driver, &second, test).await;
    assert_eq!(get(&job_after, &mock("1"), "a", json!({})).await, "1");
    assert_eq!(hits(&job_after).await, 1);
    assert!(!driver.has_volume(&cut).await);
    job_after.resources.release().await;
    second.clear().await;
    assert_eq!(sweep(test).await, 0);
}

#[tokio::test]
async fn an_entry_whose_files_are_gone_is_fetched_again() {
    let test = "gone";
    let driver = docker();
    let cache = cache(&driver, test, 8);
    let job = job(&driver, &cache, test).await;
    assert_eq!(get(&job, &mock("1"), "a", json!({})).await, "1");
    job.resources.release().await;
    sweep(test).await;
    assert_eq!(get(&job, &mock("1"), "a", json!({})).await, "1");
    assert_eq!(hits(&job).await, 0);
    job.resources.release().await;
    sweep(test).await;
}

#[tokio::test]
async fn a_cache_for_nothing_keeps_nothing() {
    let test = "nocache";
    let driver = docker();
    let cache = cache(&driver, test, 0);
    let job = job(&driver, &cache, test).await;
    for _ in 0..2 {
        assert_eq!(get(&job, &mock("1"), "a", json!({})).await, "1");
    }
    assert_eq!(hits(&job).await, 0);
    job.resources.release().await;
    assert_eq!(sweep(test).await, 0);
}
