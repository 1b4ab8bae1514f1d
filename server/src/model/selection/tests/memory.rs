//! A history in memory: no storage, no clock.

use super::super::history::{Build, Found, History, Position, Standing, Used};
use super::super::{InputConfig, Selection, Wish, resource_names, select};
use crate::model::JobId;
use crate::model::version::{Version, VersionHash, contains};
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;

pub(super) fn version(word: &str) -> Version {
    Version::from([("ref".to_owned(), word.to_owned())])
}

pub(super) fn input(name: &str, passed: &[&str], version: Wish) -> InputConfig {
    InputConfig {
        name: name.into(),
        resource: name.into(),
        passed: passed.iter().map(|job| job.to_string()).collect(),
        version,
    }
}

pub(super) fn latest(name: &str, passed: &[&str]) -> InputConfig {
    input(name, passed, Wish::Latest)
}

pub(super) fn every(name: &str, passed: &[&str]) -> InputConfig {
    input(name, passed, Wish::Every)
}

/// A build in memory; all succeeded.
pub(super) struct Past {
    id: JobId,
    job: String,
    position: Position,
    made: Vec<(String, String)>,
    used: Vec<(String, String)>,
    sources: Vec<JobId>,
}

/// A history in memory, looked at for the job `now`.
#[derive(Default)]
pub(super) struct Memory {
    /// Version lists, oldest first.
    lists: BTreeMap<String, Vec<(String, bool)>>,
    /// Places in lists.
    places: HashMap<(String, VersionHash), usize>,
    past: Vec<Past>,
    names: Vec<String>,
    pub(super) looks: usize,
}

pub(super) fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, word): &(&str, &str)| (name.to_string(), word.to_string());
    of.iter().map(owned).collect()
}

impl Memory {
    pub(super) fn list(mut self, resource: &str, words: &[&str]) -> Self {
        for (place, word) in words.iter().enumerate() {
            let hash = VersionHash::of(&version(word));
            self.places.insert((resource.into(), hash), place);
        }
        let all = words.iter().map(|word| (word.to_string(), true));
        self.lists.insert(resource.into(), all.collect());
        self
    }

    pub(super) fn disable(&mut self, resource: &str, word: &str) {
        let list = self.lists.get_mut(resource).unwrap();
        list.iter_mut().find(|(known, _)| known == word).unwrap().1 = false;
    }

    /// A build that used these.
    pub(super) fn build(&mut self, job: &str, used: &[(&str, &str)]) -> JobId {
        self.make(job, &[], used)
    }

    pub(super) fn make(
        &mut self,
        job: &str,
        made: &[(&str, &str)],
        used: &[(&str, &str)],
    ) -> JobId {
        let last = self.past.iter().filter(|past| past.job == job);
        let number = last.map(|past| past.position.number).max().unwrap_or(0) + 1;
        self.add(job, Position { number, rerun: 0 }, made, used)
    }

    pub(super) fn rerun(
        &mut self,
        of: JobId,
        made: &[(&str, &str)],
        used: &[(&str, &str)],
    ) -> JobId {
        let original = self.past.iter().find(|past| past.id == of).unwrap();
        let (job, number) = (original.job.clone(), original.position.number);
        let same = self
            .past
            .iter()
            .filter(|past| past.job == job && past.position.number == number);
        let rerun = same.map(|past| past.position.rerun).max().unwrap() + 1;
        self.add(&job, Position { number, rerun }, made, used)
    }

    pub(super) fn add(
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
    pub(super) fn take(&mut self, selected: &Selection) {
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

    pub(super) fn select(&mut self, inputs: &[InputConfig]) -> Selection {
        self.names = resource_names(inputs);
        match select(self, inputs) {
            Ok(selection) => selection,
        }
    }

    /// The words chosen, by input; panics if an input has none.
    pub(super) fn words(&mut self, inputs: &[InputConfig]) -> Vec<String> {
        let selected = self.select(inputs);
        assert!(selected.errors.is_empty(), "{:?}", selected.errors);
        let word = |input: &InputConfig| selected.inputs[&input.name].version["ref"].clone();
        inputs.iter().map(word).collect()
    }

    pub(super) fn find(&self, resource: usize, hash: VersionHash) -> Option<(Standing, &str)> {
        let name = self.names[resource].clone();
        let place = *self.places.get(&(name.clone(), hash))?;
        let (word, enabled) = &self.lists[&name][place];
        let standing = Standing {
            order: place as i64 + 1,
            enabled: *enabled,
        };
        Some((standing, word))
    }

    pub(super) fn see(&self, past: &Past) -> Build {
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

    pub(super) fn of(&self, job: &str, before: Option<Position>) -> Vec<&Past> {
        let mut past: Vec<&Past> = self
            .past
            .iter()
            .filter(|past| past.job == job && before.is_none_or(|before| past.position < before))
            .collect();
        past.sort_by_key(|past| std::cmp::Reverse(past.position));
        past
    }

    pub(super) fn newest_used(&self, resource: usize) -> Option<(i64, VersionHash)> {
        let used = self.of("now", None).into_iter().flat_map(|past| &past.used);
        used.filter(|(name, _)| *name == self.names[resource])
            .filter_map(|(_, word)| {
                let hash = VersionHash::of(&version(word));
                Some((self.find(resource, hash)?.0.order, hash))
            })
            .max()
    }

    pub(super) fn enabled(&self, resource: usize) -> Vec<(i64, Found)> {
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
