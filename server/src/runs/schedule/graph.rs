//! Which jobs of a pipeline come before which: the edges of a run's DAG.

use pocketci_pipeline::config::{Config, Job};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The edges between the jobs of one configuration.
#[derive(Debug, Default)]
pub struct Graph {
    /// By job: the jobs that must be over before it, in a run that has both. Never a cycle.
    before: HashMap<String, BTreeSet<String>>,
    /// By job: the jobs that a new version which it passed on starts.
    triggers: HashMap<String, BTreeSet<String>>,
}

impl Graph {
    /// Of a configuration. Concourse accepts jobs that have passed each other, for which history gives the versions; in
    /// one run neither can be first, so neither waits for the other.
    pub fn of(config: &Config) -> Self {
        let mut wanted: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        let mut triggers: HashMap<String, BTreeSet<String>> = HashMap::new();
        for job in &config.jobs {
            wanted.insert(&job.name, named_before(config, job));
            for input in config.inputs(job).iter().filter(|input| input.trigger) {
                for passed in &input.passed {
                    let after = triggers.entry(passed.clone()).or_default();
                    after.insert(job.name.clone());
                }
            }
        }
        let before = wanted
            .iter()
            .map(|(job, names)| {
                let kept = names
                    .iter()
                    .filter(|name| wanted.contains_key(name.as_str()))
                    .filter(|name| !reaches(&wanted, name, job));
                ((*job).to_owned(), kept.cloned().collect())
            })
            .collect();
        Self { before, triggers }
    }

    /// The jobs that come before this one.
    pub fn before(&self, job: &str) -> impl Iterator<Item = &str> {
        self.before
            .get(job)
            .into_iter()
            .flatten()
            .map(String::as_str)
    }

    /// These jobs and all that follow when they pass versions on.
    pub fn with_dependants(&self, jobs: &[String]) -> BTreeSet<String> {
        let mut found: BTreeSet<String> = BTreeSet::new();
        let mut next: Vec<&str> = jobs.iter().map(String::as_str).collect();
        while let Some(job) = next.pop() {
            if found.insert(job.to_owned())
                && let Some(after) = self.triggers.get(job)
            {
                next.extend(after.iter().map(String::as_str));
            }
        }
        found
    }
}

fn passed_triggers(job: &Job) -> &[String] {
    job.triggers
        .as_ref()
        .map_or(&[], |triggers| &triggers.passed)
}

fn named_before(config: &Config, job: &Job) -> BTreeSet<String> {
    let inputs = config.inputs(job);
    let of_inputs = inputs.iter().flat_map(|input| &input.passed);
    of_inputs
        .chain(&job.depends_on)
        .chain(passed_triggers(job))
        .filter(|name| **name != job.name)
        .cloned()
        .collect()
}

/// Whether `to` comes before `from`, over any number of jobs.
fn reaches(wanted: &BTreeMap<&str, BTreeSet<String>>, from: &str, to: &str) -> bool {
    let mut seen = BTreeSet::new();
    let mut next = vec![from];
    while let Some(job) = next.pop() {
        if job == to {
            return true;
        }
        if seen.insert(job) {
            next.extend(wanted.get(job).into_iter().flatten().map(String::as_str));
        }
    }
    false
}
