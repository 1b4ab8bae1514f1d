//! The edges of the choice, over a history in memory: no storage, no clock.

use super::history::{Build, Found, History, Position, Standing, Used};
use super::{Blocked, InputConfig, Reason, Selection, Wish, resource_names, select};
use crate::model::JobId;
use crate::model::version::{Version, VersionHash, contains};
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;

fn version(word: &str) -> Version {
    Version::from([("ref".to_owned(), word.to_owned())])
}

fn input(name: &str, passed: &[&str], version: Wish) -> InputConfig {
    InputConfig {
        name: name.into(),
        resource: name.into(),
        passed: passed.iter().map(|job| job.to_string()).collect(),
        version,
    }
}

fn latest(name: &str, passed: &[&str]) -> InputConfig {
    input(name, passed, Wish::Latest)
}

fn every(name: &str, passed: &[&str]) -> InputConfig {
    input(name, passed, Wish::Every)
}

/// A build in memory; all succeeded.
struct Past {
    id: JobId,
    job: String,
    position: Position,
    made: Vec<(String, String)>,
    used: Vec<(String, String)>,
    sources: Vec<JobId>,
}

/// A history in memory, looked at for the job `now`.
#[derive(Default)]
struct Memory {
    /// Version lists, oldest first.
    lists: BTreeMap<String, Vec<(String, bool)>>,
    /// Places in lists.
    places: HashMap<(String, VersionHash), usize>,
    past: Vec<Past>,
    names: Vec<String>,
    looks: usize,
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, word): &(&str, &str)| (name.to_string(), word.to_string());
    of.iter().map(owned).collect()
}

impl Memory {
    fn list(mut self, resource: &str, words: &[&str]) -> Self {
        for (place, word) in words.iter().enumerate() {
            let hash = VersionHash::of(&version(word));
            self.places.insert((resource.into(), hash), place);
        }
        let all = words.iter().map(|word| (word.to_string(), true));
        self.lists.insert(resource.into(), all.collect());
        self
    }

    fn disable(&mut self, resource: &str, word: &str) {
        let list = self.lists.get_mut(resource).unwrap();
        list.iter_mut().find(|(known, _)| known == word).unwrap().1 = false;
    }

    /// A build that used these.
    fn build(&mut self, job: &str, used: &[(&str, &str)]) -> JobId {
        self.make(job, &[], used)
    }

    fn make(&mut self, job: &str, made: &[(&str, &str)], used: &[(&str, &str)]) -> JobId {
        let last = self.past.iter().filter(|past| past.job == job);
        let number = last.map(|past| past.position.number).max().unwrap_or(0) + 1;
        self.add(job, Position { number, rerun: 0 }, made, used)
    }

    fn rerun(&mut self, of: JobId, made: &[(&str, &str)], used: &[(&str, &str)]) -> JobId {
        let original = self.past.iter().find(|past| past.id == of).unwrap();
        let (job, number) = (original.job.clone(), original.position.number);
        let same = self
            .past
            .iter()
            .filter(|past| past.job == job && past.position.number == number);
        let rerun = same.map(|past| past.position.rerun).max().unwrap() + 1;
        self.add(&job, Position { number, rerun }, made, used)
    }

    fn add(
        &mut self,
        job: &str,
        position: Position,
        made: &[(&str, &str)],
        used: &[(&str, &str)],
    ) -> JobId {
        let id = JobId::new();
        self.past.push(Past {
            id,
            job: job.into(),
            position,
            made: pairs(made),
            used: pairs(used),
            sources: vec![],
        });
        id
    }

    /// This job takes what was selected.
    fn take(&mut self, selected: &Selection) {
        let used: Vec<(&str, &str)> = selected
            .inputs
            .values()
            .map(|chosen| (chosen.resource.as_str(), chosen.version["ref"].as_str()))
            .collect();
        let id = self.build("now", &used);
        let sources = selected
            .inputs
            .values()
            .flat_map(|chosen| chosen.sources.clone());
        self.past.last_mut().unwrap().sources = sources.collect();
        assert_eq!(self.past.last().unwrap().id, id);
    }

    fn select(&mut self, inputs: &[InputConfig]) -> Selection {
        self.names = resource_names(inputs);
        match select(self, inputs) {
            Ok(selection) => selection,
        }
    }

    /// The words chosen, by input; panics if an input has none.
    fn words(&mut self, inputs: &[InputConfig]) -> Vec<String> {
        let selected = self.select(inputs);
        assert!(selected.errors.is_empty(), "{:?}", selected.errors);
        let word = |input: &InputConfig| selected.inputs[&input.name].version["ref"].clone();
        inputs.iter().map(word).collect()
    }

    fn find(&self, resource: usize, hash: VersionHash) -> Option<(Standing, &str)> {
        let name = self.names[resource].clone();
        let place = *self.places.get(&(name.clone(), hash))?;
        let (word, enabled) = &self.lists[&name][place];
        let standing = Standing {
            order: place as i64 + 1,
            enabled: *enabled,
        };
        Some((standing, word))
    }

    fn see(&self, past: &Past) -> Build {
        let mut versions = Vec::new();
        for (name, word) in past.made.iter().chain(&past.used) {
            if let Ok(resource) = self.names.binary_search(name) {
                let hash = VersionHash::of(&version(word));
                let standing = self.find(resource, hash).map(|(standing, _)| standing);
                versions.push(Used {
                    resource,
                    hash,
                    standing,
                });
            }
        }
        versions.sort_by_key(|used| used.resource);
        Build {
            id: past.id,
            position: past.position,
            versions,
        }
    }

    fn of(&self, job: &str, before: Option<Position>) -> Vec<&Past> {
        let mut past: Vec<&Past> = self
            .past
            .iter()
            .filter(|past| past.job == job && before.is_none_or(|before| past.position < before))
            .collect();
        past.sort_by_key(|past| std::cmp::Reverse(past.position));
        past
    }

    fn newest_used(&self, resource: usize) -> Option<(i64, VersionHash)> {
        let used = self.of("now", None).into_iter().flat_map(|past| &past.used);
        used.filter(|(name, _)| *name == self.names[resource])
            .filter_map(|(_, word)| {
                let hash = VersionHash::of(&version(word));
                Some((self.find(resource, hash)?.0.order, hash))
            })
            .max()
    }

    fn enabled(&self, resource: usize) -> Vec<(i64, Found)> {
        let list = self.lists.get(&self.names[resource]).into_iter().flatten();
        let enabled = (1..).zip(list).filter(|(_, (_, enabled))| *enabled);
        enabled
            .map(|(order, (word, _))| {
                let version = version(word);
                let hash = VersionHash::of(&version);
                (order, Found { hash, version })
            })
            .collect()
    }
}

impl History for Memory {
    type Error = Infallible;

    fn builds(
        &mut self,
        job: &str,
        before: Option<Position>,
        limit: usize,
    ) -> Result<Vec<Build>, Infallible> {
        self.looks += 1;
        let of = self.of(job, before).into_iter().take(limit);
        Ok(of.map(|past| self.see(past)).collect())
    }

    fn build_with(
        &mut self,
        job: &str,
        versions: &[(usize, VersionHash)],
        before: Option<Position>,
    ) -> Result<Option<Build>, Infallible> {
        self.looks += 1;
        let mut builds = self.of(job, before).into_iter().map(|past| self.see(past));
        let has = |build: &Build, wanted: &(usize, VersionHash)| {
            build
                .versions
                .iter()
                .any(|used| (used.resource, used.hash) == *wanted)
        };
        Ok(builds.find(|build| versions.iter().all(|wanted| has(build, wanted))))
    }

    fn latest(&mut self, resource: usize) -> Result<Option<Found>, Infallible> {
        Ok(self.enabled(resource).pop().map(|(_, found)| found))
    }

    fn next(&mut self, resource: usize) -> Result<(Option<Found>, bool), Infallible> {
        let Some((newest, _)) = self.newest_used(resource) else {
            return Ok((self.latest(resource)?, false));
        };
        let (older, mut newer): (Vec<_>, Vec<_>) = self
            .enabled(resource)
            .into_iter()
            .partition(|(order, _)| *order <= newest);
        match newer.is_empty() {
            true => Ok((older.into_iter().next_back().map(|(_, found)| found), false)),
            false => Ok((Some(newer.remove(0).1), !newer.is_empty())),
        }
    }

    fn containing(
        &mut self,
        resource: usize,
        fields: &Version,
    ) -> Result<Option<Found>, Infallible> {
        let list = self.lists.get(&self.names[resource]).into_iter().flatten();
        let mut found = list.rev().map(|(word, _)| version(word));
        let version = found.find(|version| contains(version, fields));
        Ok(version.map(|version| Found {
            hash: VersionHash::of(&version),
            version,
        }))
    }

    fn version(
        &mut self,
        resource: usize,
        hash: VersionHash,
    ) -> Result<Option<Version>, Infallible> {
        Ok(self.find(resource, hash).map(|(_, word)| version(word)))
    }

    fn last_sources(
        &mut self,
        resource: usize,
    ) -> Result<Option<BTreeMap<String, Position>>, Infallible> {
        let Some((_, hash)) = self.newest_used(resource) else {
            return Ok(None);
        };
        let name = self.names[resource].clone();
        let used = |past: &&&Past| {
            past.used
                .iter()
                .any(|(of, word)| *of == name && VersionHash::of(&version(word)) == hash)
        };
        let last = self.of("now", None);
        let sources = last.iter().find(used).map(|past| &past.sources);
        let mut by_job = BTreeMap::new();
        for id in sources.into_iter().flatten() {
            if let Some(past) = self.past.iter().find(|past| past.id == *id) {
                let place = by_job.entry(past.job.clone()).or_insert(past.position);
                *place = past.position.max(*place);
            }
        }
        Ok(Some(by_job))
    }

    fn is_used(&mut self, input: &str, _: usize, hash: VersionHash) -> Result<bool, Infallible> {
        let mut used = self.of("now", None).into_iter().flat_map(|past| &past.used);
        Ok(used.any(|(name, word)| name == input && VersionHash::of(&version(word)) == hash))
    }
}

#[test]
fn what_a_build_made_comes_before_what_it_used() {
    let mut memory = Memory::default().list("repo", &["a", "b"]);
    memory.make("bump", &[("repo", "b")], &[("repo", "a")]);
    assert_eq!(memory.words(&[latest("repo", &["bump"])]), ["b"]);
    // What it made may not be used: then what it used passed.
    memory.disable("repo", "b");
    assert_eq!(memory.words(&[latest("repo", &["bump"])]), ["a"]);
}

#[test]
fn versions_that_never_passed_together_are_not_combined() {
    let mut memory = Memory::default()
        .list("x", &["1", "2"])
        .list("y", &["1", "2"]);
    memory.build("unit", &[("x", "1"), ("y", "1")]);
    memory.build("unit", &[("x", "2"), ("y", "2")]);
    memory.build("lint", &[("x", "2")]);
    memory.build("scan", &[("y", "1")]);
    let inputs = [
        latest("x", &["unit", "lint"]),
        latest("y", &["unit", "scan"]),
    ];
    let selected = memory.select(&inputs);
    assert!(selected.inputs.is_empty());
    let Reason::NotPassed { blocked, .. } = &selected.errors["y"] else {
        panic!("{:?}", selected.errors);
    };
    let missing = vec!["scan".to_owned()];
    assert!(matches!(blocked, Blocked::NotYet { missing: it, .. } if *it == missing));
    memory.build("scan", &[("y", "2")]);
    assert_eq!(memory.words(&inputs), ["2", "2"]);
}

#[test]
fn versions_that_passed_apart_are_told_apart() {
    let mut memory = Memory::default()
        .list("x", &["1", "2"])
        .list("y", &["1", "2"]);
    memory.build("unit", &[("x", "2"), ("y", "1")]);
    memory.build("lint", &[("x", "2"), ("y", "2")]);
    memory.build("lint", &[("x", "1"), ("y", "1")]);
    let inputs = [
        latest("x", &["unit", "lint"]),
        latest("y", &["unit", "lint"]),
    ];
    let selected = memory.select(&inputs);
    let words = selected.errors["x"].explain("x");
    assert_eq!(
        words,
        "input x: no version of x has passed together with those of y"
    );
}

#[test]
fn inputs_are_related_through_others() {
    // x and y have no job in common; z ties them together.
    let mut memory = Memory::default()
        .list("x", &["1", "2"])
        .list("y", &["1", "2"])
        .list("z", &["1"]);
    memory.build("a", &[("x", "1"), ("z", "1")]);
    memory.build("a", &[("x", "2")]);
    memory.build("b", &[("y", "1"), ("z", "1")]);
    memory.build("b", &[("y", "2")]);
    let inputs = [
        latest("x", &["a"]),
        latest("y", &["b"]),
        latest("z", &["a", "b"]),
    ];
    assert_eq!(memory.words(&inputs), ["1", "1", "1"]);
    assert_eq!(memory.words(&inputs[..2]), ["2", "2"]);
}

#[test]
fn a_rerun_of_the_last_used_build_is_neither_newer_nor_older() {
    let mut memory = Memory::default().list("x", &["1", "2", "3"]);
    let first = memory.build("unit", &[("x", "2")]);
    let inputs = [every("x", &["unit"])];
    let selected = memory.select(&inputs);
    memory.take(&selected);
    memory.rerun(first, &[], &[("x", "3")]);
    assert_eq!(memory.words(&inputs), ["2"]);
    assert!(!memory.select(&inputs).has_next);
    memory.build("unit", &[("x", "1")]);
    let next = memory.select(&inputs);
    assert_eq!(next.inputs["x"].version, version("1"));
    assert!(next.has_next);
}

#[test]
fn after_a_rerun_was_used_its_own_reruns_count() {
    let at = |number, rerun| Position { number, rerun };
    assert!(at(4, 0).is_newer_than(at(3, 2)) && !at(4, 0).is_not_newer_than(at(3, 2)));
    assert!(!at(3, 1).is_newer_than(at(3, 0)) && !at(3, 1).is_not_newer_than(at(3, 0)));
    assert!(at(3, 2).is_newer_than(at(3, 1)) && at(3, 0).is_not_newer_than(at(3, 1)));
    assert!(!at(3, 1).is_newer_than(at(3, 1)) && at(3, 1).is_not_newer_than(at(3, 1)));
    assert!(!at(2, 9).is_newer_than(at(3, 0)) && at(2, 9).is_not_newer_than(at(3, 0)));
}

#[test]
fn every_build_of_a_backlog_is_taken_in_turn() {
    let words: Vec<String> = (0..70).map(|at| format!("{at:02}")).collect();
    let all: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut memory = Memory::default().list("x", &all);
    memory.build("unit", &[("x", "00")]);
    let inputs = [every("x", &["unit"])];
    let first = memory.select(&inputs);
    memory.take(&first);
    for word in &all[1..] {
        memory.build("unit", &[("x", word)]);
    }
    for word in &all[1..] {
        let selected = memory.select(&inputs);
        assert_eq!(selected.inputs["x"].version["ref"], *word);
        assert!(selected.inputs["x"].first_occurrence && selected.has_next);
        memory.take(&selected);
    }
    let over = memory.select(&inputs);
    assert!(!over.has_next && !over.inputs["x"].first_occurrence);
}

#[test]
fn a_pin_needs_its_version_to_have_passed() {
    let mut memory = Memory::default().list("x", &["1", "2", "3"]);
    memory.build("unit", &[("x", "1")]);
    memory.build("unit", &[("x", "3")]);
    let pinned = |word| [input("x", &["unit"], Wish::Pinned(version(word)))];
    assert_eq!(memory.words(&pinned("1")), ["1"]);
    let blocked = memory.select(&pinned("2"));
    assert_eq!(
        blocked.errors["x"].explain("x"),
        "input x: version {ref: 2} of x has not passed unit"
    );
    let unknown = memory.select(&pinned("9"));
    assert_eq!(
        unknown.errors["x"].to_string(),
        "pinned version ref:9 not found"
    );
}

#[test]
fn a_job_whose_builds_used_nothing_that_may_be_used_is_named() {
    let mut memory = Memory::default().list("x", &["1"]);
    memory.build("unit", &[("x", "1")]);
    memory.disable("x", "1");
    let selected = memory.select(&[latest("x", &["unit"])]);
    let Reason::NotPassed { blocked, .. } = &selected.errors["x"] else {
        panic!("{:?}", selected.errors);
    };
    let job = "unit".to_owned();
    assert_eq!(*blocked, Blocked::NotUsed { job });
}

#[test]
fn what_fits_is_found_in_a_few_looks_however_long_the_history() {
    let words: Vec<String> = (0..2000).map(|at| format!("{at:04}")).collect();
    let all: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut memory = Memory::default().list("x", &all);
    for (job, words) in [("a", &all[..]), ("b", &all[..]), ("c", &all[..1])] {
        let builds = (1..).zip(words);
        for (number, word) in builds {
            memory.add(job, Position { number, rerun: 0 }, &[], &[("x", word)]);
        }
    }
    assert_eq!(memory.words(&[latest("x", &["a", "b"])]), ["1999"]);
    assert!(memory.looks < 5, "{}", memory.looks);
    memory.looks = 0;
    let never = memory.select(&[latest("x", &["a", "d"])]);
    assert_eq!(never.errors.len(), 1);
    assert!(memory.looks < 5, "{}", memory.looks);
    memory.looks = 0;
    assert_eq!(memory.words(&[latest("x", &["a", "b", "c"])]), ["0000"]);
    assert!(memory.looks < 40, "{}", memory.looks);
}

#[test]
fn what_nobody_vouches_for_is_not_tried_in_every_combination() {
    let words: Vec<String> = (0..60).map(|at| at.to_string()).collect();
    let all: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut memory = Memory::default().list("tool", &["1", "2"]);
    let names = ["p", "q", "r"];
    for (job, name) in ["a", "b", "c"].iter().zip(names) {
        memory = memory.list(name, &all);
        for word in &all {
            memory.build(job, &[(name, word), ("tool", "1")]);
        }
    }
    memory.build("z", &[("tool", "2")]);
    let inputs = [
        latest("p", &["a"]),
        latest("q", &["b"]),
        latest("r", &["c"]),
        latest("tool", &["a", "b", "c", "z"]),
    ];
    let selected = memory.select(&inputs);
    let words = selected.errors["tool"].explain("tool");
    assert_eq!(
        words,
        "input tool: version {ref: 2} of tool has passed z but not a, b, c"
    );
}

#[test]
fn a_search_through_endless_combinations_is_given_up() {
    let words: Vec<String> = (0..60).map(|at| at.to_string()).collect();
    let all: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut memory = Memory::default().list("tool", &["1"]).list("w", &["1"]);
    let names = ["p", "q", "r"];
    for (job, name) in ["a", "b", "c"].iter().zip(names) {
        memory = memory.list(name, &all);
        for word in &all {
            memory.build(job, &[(name, word), ("tool", "1")]);
        }
    }
    // Only after everything else is chosen it shows that nobody vouches for w.
    memory.build("z", &[("tool", "1"), ("w", "1")]);
    let inputs = [
        latest("p", &["a"]),
        latest("q", &["b"]),
        latest("r", &["c"]),
        latest("tool", &["a", "b", "c", "z"]),
        latest("w", &["z", "a"]),
    ];
    let selected = memory.select(&inputs);
    let Reason::NotPassed { blocked, .. } = &selected.errors["w"] else {
        panic!("{:?}", selected.errors);
    };
    assert_eq!(*blocked, Blocked::TooMany);
}
