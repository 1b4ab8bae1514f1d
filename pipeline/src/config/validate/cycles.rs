//! Jobs that wait for each other: a build of none of them could ever start.

use super::Report;
use super::index::Index;
use crate::config::model::{Config, Core, Job};
use std::collections::HashMap;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Visit {
    Open,
    Done,
}

/// Checks `passed` as Concourse does, and PocketCI's `depends_on` and `triggers.passed` with it.
pub fn check(report: &mut Report<'_>) {
    report.group = "jobs";
    let config = report.config;
    for edges in [passed as Edges, all] {
        let graph = Graph {
            next: config
                .jobs
                .iter()
                .map(|job| (job.name.as_str(), edges(&report.index, job)))
                .collect(),
        };
        if let Some(name) = graph.cycle(config) {
            report.fault(
                &format!("jobs.{name}"),
                format!("pipeline contains a cycle that starts at Job '{name}'"),
            );
            return;
        }
    }
}

type Edges = for<'a> fn(&Index<'a>, &'a Job) -> Vec<&'a str>;

fn passed<'a>(index: &Index<'a>, job: &'a Job) -> Vec<&'a str> {
    let mut next = Vec::new();
    job.each_step(&mut |step| {
        if let Core::Get(get) = &step.core {
            for text in &get.passed {
                next.extend(index.matching(text).iter().flat_map(|jobs| jobs.iter()));
            }
        }
    });
    next
}

fn all<'a>(index: &Index<'a>, job: &'a Job) -> Vec<&'a str> {
    let mut next = passed(index, job);
    let triggers = job.triggers.iter();
    let own = job
        .depends_on
        .iter()
        .chain(triggers.flat_map(|triggers| &triggers.passed))
        // Waiting for oneself is told by its own message.
        .filter(|name| **name != job.name);
    next.extend(own.map(String::as_str));
    next
}

struct Graph<'a> {
    next: HashMap<&'a str, Vec<&'a str>>,
}

impl Graph<'_> {
    /// The job at which the first cycle starts, in the order of the file. Iterative: pipelines may have long chains.
    fn cycle(&self, config: &Config) -> Option<String> {
        let mut visits: HashMap<&str, Visit> = HashMap::new();
        for job in &config.jobs {
            if visits.contains_key(job.name.as_str()) {
                continue;
            }
            visits.insert(&job.name, Visit::Open);
            let mut stack = vec![(job.name.as_str(), 0)];
            while let Some((name, at)) = stack.pop() {
                let Some(next) = self.next.get(name).and_then(|next| next.get(at)).copied() else {
                    visits.insert(name, Visit::Done);
                    continue;
                };
                stack.push((name, at + 1));
                match visits.get(next) {
                    Some(Visit::Open) => return Some(next.to_owned()),
                    Some(Visit::Done) => {}
                    None => {
                        visits.insert(next, Visit::Open);
                        stack.push((next, 0));
                    }
                }
            }
        }
        None
    }
}
