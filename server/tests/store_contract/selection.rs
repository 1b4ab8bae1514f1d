//! Rules of the choice of inputs that rest on what the store knows beside builds: pins, names of inputs, words.

use crate::story::*;
use crate::version_story::*;
use pocketci_server::model::run::Outcome;
use pocketci_server::model::selection::{Blocked, InputConfig, Reason, Wish};
use pocketci_server::model::version::Pin;

fn every(input: InputConfig) -> InputConfig {
    InputConfig {
        version: Wish::Every,
        ..input
    }
}

async fn pin(yard: &Yard, resource: &str, word: &str) {
    let pin = Pin {
        fields: version(word),
        comment: String::new(),
        actor: "eve".into(),
    };
    yard.store
        .pin_resource(yard.id(), resource, pin)
        .await
        .unwrap();
}

pub async fn a_version_is_used_for_the_first_time_under_each_name(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    yard.found("repo", &["a"]).await;
    let again = InputConfig {
        name: "again".into(),
        ..input("repo")
    };
    let inputs = [input("repo"), again];
    let selected = yard.select("unit", &inputs).await;
    assert!(selected.inputs["repo"].first_occurrence);
    // Also a build that failed has used it.
    let mut build = yard.build("unit").await;
    yard.take(build.job, vec![selected.inputs["repo"].clone()])
        .await;
    let selected = yard.select("unit", &inputs).await;
    assert!(!selected.inputs["repo"].first_occurrence && selected.inputs["again"].first_occurrence);
    build.finish(Outcome::Failed).await;
    let selected = yard.select("unit", &inputs).await;
    assert!(!selected.inputs["repo"].first_occurrence);
    assert!(yard.select("lint", &inputs).await.inputs["repo"].first_occurrence);
}

pub async fn a_pin_by_command_goes_before_every_wish_but_a_pin(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    yard.found("repo", &["a", "b", "c"]).await;
    pin(&yard, "repo", "b").await;
    let configured = InputConfig {
        name: "configured".into(),
        version: Wish::Pinned(version("a")),
        ..input("repo")
    };
    let all = InputConfig {
        name: "all".into(),
        ..every(input("repo"))
    };
    let selected = yard.select("unit", &[input("repo"), all, configured]).await;
    let word = |name: &str| selected.inputs[name].version["ref"].clone();
    assert_eq!(
        [word("repo"), word("all"), word("configured")],
        ["b", "b", "a"]
    );
    // A pin that is not found any more stops what depends on it.
    store.clear_versions(yard.id(), "repo").await.unwrap();
    yard.found("repo", &["z"]).await;
    let selected = yard.select("unit", &[input("repo")]).await;
    assert_eq!(
        selected.errors["repo"].to_string(),
        "pinned version ref:b not found"
    );
}

pub async fn every_version_is_chosen_in_turn_and_it_is_known_whether_more_follow(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    let inputs = [every(input("repo"))];
    let none = yard.select("unit", &inputs).await;
    assert_eq!(
        none.errors["repo"].to_string(),
        "version of resource not found"
    );
    yard.found("repo", &["a"]).await;
    let mut chosen = Vec::new();
    for step in 0..4 {
        let selected = yard.select("unit", &inputs).await;
        chosen.push((
            selected.inputs["repo"].version["ref"].clone(),
            selected.has_next,
        ));
        let mut build = yard.build("unit").await;
        yard.take(build.job, selected.inputs.into_values().collect())
            .await;
        build.finish(Outcome::Errored).await;
        if step == 0 {
            yard.found("repo", &["b", "c", "d"]).await;
            store
                .set_version_enabled(yard.id(), "repo", hash("c"), false)
                .await
                .unwrap();
        }
    }
    let expected = [("a", false), ("b", true), ("d", false), ("d", false)];
    assert_eq!(chosen, expected.map(|(word, more)| (word.to_owned(), more)));
}

pub async fn each_version_of_a_passed_job_is_chosen_in_turn(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    yard.found("repo", &["a", "b", "c"]).await;
    let inputs = [every(passed("repo", &["unit"]))];
    for word in ["a", "b", "c"] {
        yard.succeeded("unit", &[("repo", word)], &[]).await;
    }
    let mut chosen = Vec::new();
    for step in 0..3 {
        let selected = yard.select("ship", &inputs).await;
        let input = selected.inputs["repo"].clone();
        chosen.push((input.version["ref"].clone(), selected.has_next));
        let mut build = yard.build("ship").await;
        yard.take(build.job, vec![input]).await;
        build.finish(Outcome::Succeeded).await;
        if step == 0 {
            yard.found("repo", &["d", "e"]).await;
            yard.succeeded("unit", &[("repo", "d")], &[]).await;
            yard.succeeded("unit", &[("repo", "e")], &[]).await;
        }
    }
    let expected = [("c", false), ("d", true), ("e", true)];
    assert_eq!(chosen, expected.map(|(word, more)| (word.to_owned(), more)));
    assert!(!yard.select("ship", &inputs).await.has_next, "all are used");
}

pub async fn what_a_failed_build_made_has_not_passed(store: Shared) {
    let yard = Yard::new(&store, &["repo", "image"]).await;
    yard.found("repo", &["a"]).await;
    let mut build = yard.build("push").await;
    yard.put(build.job, "image", "x").await;
    let inputs = [passed("image", &["push"])];
    assert!(
        !yard.select("ship", &inputs).await.errors.is_empty(),
        "it is not over"
    );
    build.finish(Outcome::Failed).await;
    assert!(!yard.select("ship", &inputs).await.errors.is_empty());
    let mut again = yard.rerun("push", build.job).await;
    yard.put(again.job, "image", "x").await;
    again.finish(Outcome::Succeeded).await;
    let selected = yard.select("ship", &inputs).await;
    assert_eq!(selected.inputs["image"].sources, [again.job]);
}

pub async fn the_reason_names_input_job_and_version(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    yard.found("repo", &["a", "b"]).await;
    let inputs = [passed("repo", &["unit", "lint"])];
    let reason =
        |selected: pocketci_server::model::selection::Selection| selected.errors["repo"].clone();
    let first = reason(yard.select("ship", &inputs).await);
    assert_eq!(
        first.to_string(),
        "no satisfiable builds from passed jobs found for set of inputs"
    );
    assert_eq!(
        first.explain("repo"),
        "input repo: job unit has not succeeded yet"
    );
    yard.succeeded("unit", &[("repo", "a")], &[]).await;
    yard.succeeded("lint", &[], &[]).await;
    let second = reason(yard.select("ship", &inputs).await);
    let blocked = Blocked::NotYet {
        version: version("a"),
        passed: vec!["unit".into()],
        missing: vec!["lint".into()],
    };
    assert_eq!(
        second,
        Reason::NotPassed {
            resource: "repo".into(),
            blocked
        }
    );
    assert_eq!(
        second.explain("repo"),
        "input repo: version {ref: a} of repo has passed unit but not lint"
    );
    yard.succeeded("lint", &[("repo", "b")], &[]).await;
    let third = reason(yard.select("ship", &inputs).await);
    assert_eq!(
        third.explain("repo"),
        "input repo: version {ref: b} of repo has passed lint but not unit"
    );
    yard.succeeded("unit", &[("repo", "b")], &[]).await;
    assert!(yard.select("ship", &inputs).await.errors.is_empty());
}

pub async fn what_is_not_declared_has_no_versions(store: Shared) {
    let yard = Yard::new(&store, &[]).await;
    let selected = yard
        .select("unit", &[input("repo"), passed("image", &["push"])])
        .await;
    assert_eq!(selected.errors.len(), 2);
    assert_eq!(
        selected.errors["repo"].to_string(),
        "latest version of resource not found"
    );
    assert_eq!(yard.select("unit", &[]).await, Default::default());
}

pub async fn a_long_way_back_is_found_through_all_pages(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    let words: Vec<String> = (0..80).map(|at| format!("v{at}")).collect();
    let all: Vec<&str> = words.iter().map(String::as_str).collect();
    yard.found("repo", &all).await;
    for word in &all {
        yard.succeeded("unit", &[("repo", word)], &[]).await;
    }
    yard.succeeded("lint", &[("repo", "v3")], &[]).await;
    let selected = yard
        .select("ship", &[passed("repo", &["unit", "lint"])])
        .await;
    assert_eq!(selected.inputs["repo"].version, version("v3"));
    let other = yard
        .select("ship", &[passed("repo", &["lint", "unit"])])
        .await;
    assert_eq!(other.inputs["repo"].version, version("v3"));
}
