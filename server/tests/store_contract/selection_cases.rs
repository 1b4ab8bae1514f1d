//! Concourse's own table of cases for the choice of inputs, each played through the verbs of the store.

use crate::story::*;
use crate::version_story::{SCOPE, Yard, taken};
use pocketci_server::model::JobId;
use pocketci_server::model::run::Outcome;
use pocketci_server::model::selection::{InputConfig, Selection, Wish};
use pocketci_server::model::version::{Version, VersionHash};
use pocketci_server::store::{Saved, Taken};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const FILE: &str = "shared/conformance/version-selection.json";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Case {
    name: String,
    #[serde(rename = "DB")]
    db: Db,
    inputs: Vec<Input>,
    result: Expected,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Db {
    build_inputs: Option<Vec<Row>>,
    build_outputs: Option<Vec<Row>>,
    build_pipes: Option<Vec<Row>>,
    resources: Option<Vec<Row>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    job: String,
    #[serde(rename = "BuildID")]
    build: i64,
    resource: String,
    version: String,
    check_order: i64,
    disabled: bool,
    #[serde(rename = "FromBuildID")]
    from: i64,
    #[serde(rename = "ToBuildID")]
    to: i64,
    #[serde(rename = "RerunOfBuildID")]
    rerun_of: i64,
    build_status: String,
    no_resource_config_scope: bool,
    do_not_insert_version: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    name: String,
    resource: String,
    passed: Option<Vec<String>>,
    version: Wanted,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wanted {
    every: bool,
    pinned: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Expected {
    #[serde(rename = "OK")]
    ok: bool,
    values: Option<BTreeMap<String, String>>,
    #[serde(rename = "PassedBuildIDs")]
    sources: Option<BTreeMap<String, BTreeSet<i64>>>,
    errors: Option<BTreeMap<String, String>>,
    has_next: bool,
    no_next: bool,
}

fn version(word: &str) -> Version {
    Version::from([("ver".to_owned(), word.to_owned())])
}

fn rows(rows: &Option<Vec<Row>>) -> &[Row] {
    rows.as_deref().unwrap_or_default()
}

/// Declares the resources and stores their versions in the order of the case.
async fn prepare(yard: &Yard, case: &Case) {
    let mut lists: BTreeMap<&str, Vec<(i64, &str)>> = BTreeMap::new();
    let mut disabled = Vec::new();
    let all = [
        rows(&case.db.resources),
        rows(&case.db.build_outputs),
        rows(&case.db.build_inputs),
    ];
    for row in all.into_iter().flatten() {
        let list = lists.entry(&row.resource).or_default();
        if row.no_resource_config_scope || row.do_not_insert_version {
            continue;
        }
        if list.iter().all(|(_, known)| *known != row.version) {
            list.push((row.check_order, &row.version));
        }
        if row.disabled {
            disabled.push((&row.resource, VersionHash::of(&version(&row.version))));
        }
    }
    for input in &case.inputs {
        lists.entry(&input.resource).or_default();
    }
    let declared: Vec<_> = lists.keys().map(|name| (*name, SCOPE)).collect();
    yard.declare(&declared).await;
    for (resource, mut list) in lists {
        list.sort_by_key(|(order, _)| *order);
        let versions = list.iter().map(|(_, word)| version(word)).collect();
        let saving = yard
            .store
            .save_versions(yard.id(), resource, SCOPE, versions);
        assert!(matches!(saving.await.unwrap(), Saved::Stored { .. }));
    }
    for (resource, hash) in disabled {
        let changing = yard
            .store
            .set_version_enabled(yard.id(), resource, hash, false);
        assert!(changing.await.unwrap());
    }
}

/// Plays the builds in the order of their ids.
async fn play(yard: &Yard, case: &Case) -> BTreeMap<i64, JobId> {
    let mut builds: BTreeMap<i64, &Row> = BTreeMap::new();
    for row in rows(&case.db.build_outputs)
        .iter()
        .chain(rows(&case.db.build_inputs))
    {
        builds.entry(row.build).or_insert(row);
    }
    let mut ids = BTreeMap::new();
    let mut begun = Vec::new();
    for (number, row) in builds {
        let build = match row.rerun_of {
            0 => yard.build(&row.job).await,
            of => yard.rerun(&row.job, ids[&of]).await,
        };
        ids.insert(number, build.job);
        begun.push((number, row, build));
    }
    for (number, row, mut build) in begun {
        let pipes = rows(&case.db.build_pipes).iter();
        let sources: Vec<JobId> = pipes
            .filter(|pipe| pipe.to == number)
            .filter_map(|pipe| ids.get(&pipe.from).copied())
            .collect();
        let used = rows(&case.db.build_inputs)
            .iter()
            .filter(|row| row.build == number);
        let inputs = used.enumerate().map(|(at, row)| {
            let name = format!("{}-{at}", row.resource);
            taken(
                &name,
                &row.resource,
                &version(&row.version),
                sources.clone(),
            )
        });
        let inputs = inputs.collect();
        assert_eq!(
            yard.store.take_inputs(build.job, inputs).await.unwrap(),
            Taken::Stored
        );
        for row in rows(&case.db.build_outputs)
            .iter()
            .filter(|row| row.build == number)
        {
            let made = version(&row.version);
            let saving = yard
                .store
                .save_output(build.job, &row.resource, SCOPE, made, vec![]);
            assert_eq!(saving.await.unwrap(), Saved::Stored { new: 0 });
        }
        let outcome = match row.build_status.as_str() {
            "" | "succeeded" => Outcome::Succeeded,
            "failed" => Outcome::Failed,
            other => panic!("unknown status {other}"),
        };
        build.finish(outcome).await;
    }
    ids
}

fn config(input: &Input) -> InputConfig {
    InputConfig {
        name: input.name.clone(),
        resource: input.resource.clone(),
        passed: input.passed.clone().unwrap_or_default(),
        version: match (&input.version.pinned, input.version.every) {
            (pin, _) if !pin.is_empty() => Wish::Pinned(version(pin)),
            (_, true) => Wish::Every,
            (_, false) => Wish::Latest,
        },
    }
}

/// What differs from what is expected.
fn faults(case: &Case, got: &Selection, ids: &BTreeMap<i64, JobId>) -> Vec<String> {
    let want = &case.result;
    let mut faults = Vec::new();
    if got.errors.is_empty() != want.ok {
        faults.push(format!("ok is not {}", want.ok));
    }
    let errors: BTreeMap<String, String> = got
        .errors
        .iter()
        .map(|(name, reason)| (name.clone(), reason.to_string()))
        .collect();
    if errors != want.errors.clone().unwrap_or_default() {
        faults.push(format!("errors {errors:?}, not {:?}", want.errors));
    }
    let values: BTreeMap<String, String> = got
        .inputs
        .iter()
        .map(|(name, chosen)| (name.clone(), chosen.version["ver"].clone()))
        .collect();
    if want.ok && values != want.values.clone().unwrap_or_default() {
        faults.push(format!("values {values:?}, not {:?}", want.values));
    }
    for (name, wanted) in want.sources.iter().flatten() {
        let wanted: BTreeSet<JobId> = wanted.iter().map(|build| ids[build]).collect();
        let sources = got.inputs.get(name).map(|chosen| &chosen.sources);
        if sources
            .into_iter()
            .flatten()
            .copied()
            .collect::<BTreeSet<_>>()
            != wanted
        {
            faults.push(format!("other sources of {name}"));
        }
    }
    if (want.has_next && !got.has_next) || (want.no_next && got.has_next) {
        faults.push(format!("has_next is {}", got.has_next));
    }
    faults
}

/// The file lies beside the project where it is developed; elsewhere there is nothing to compare with.
fn cases() -> Vec<Case> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = ["../..", "../../.."]
        .into_iter()
        .find_map(|above| std::fs::read_to_string(here.join(above).join(FILE)).ok());
    match found {
        Some(text) => serde_json::from_str(&text).unwrap(),
        None => {
            eprintln!("skipped: {FILE} is not beside the project");
            Vec::new()
        }
    }
}

pub async fn concourses_own_cases_are_answered_alike(store: Shared) {
    let cases = cases();
    let mut wrong = Vec::new();
    for (at, case) in cases.iter().enumerate() {
        let yard = Yard::named(&store, &format!("case-{at}"), &[]).await;
        prepare(&yard, case).await;
        let ids = play(&yard, case).await;
        let inputs: Vec<InputConfig> = case.inputs.iter().map(config).collect();
        let got = yard.select("current", &inputs).await;
        let faults = faults(case, &got, &ids);
        if !faults.is_empty() {
            wrong.push(format!("{}: {}", case.name, faults.join("; ")));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}
