//! Inputs that share passed jobs, chosen together: a search with undoing over the builds of those jobs.
//!
//! Every build of a passed job that is tried proposes versions for all inputs that ask for that job, so that what is
//! chosen has passed together. Jobs and builds are tried in a fixed order; the first set that fits is the answer.

use super::builds::{Builds, Walk, Wanted};
use super::history::{Build, History, Position};
use crate::model::JobId;
use crate::model::version::VersionHash;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Builds tried before the search is given up: far more than any sane history needs, and still less than a second.
const MAX_TRIES: u32 = 200_000;

/// An input of a group, with names as places.
pub(super) struct Input {
    pub(super) resource: usize,
    /// Places in [`Group::jobs`], in the order in which they are asked.
    pub(super) passed: Vec<usize>,
    pub(super) every: bool,
    pub(super) pin: Option<VersionHash>,
}

/// A version that an input may get.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) hash: VersionHash,
    /// Passed jobs that vouch for it, and the build of each.
    pub(super) vouched: Vec<(usize, JobId)>,
    /// An `every` input got it from a build that this job has not used.
    pub(super) is_unused: bool,
}

impl Candidate {
    fn is_vouched_by(&self, job: usize) -> bool {
        self.vouched.iter().any(|(vouching, _)| *vouching == job)
    }
}

/// See the module.
pub(super) struct Group<'a, H: History> {
    pub(super) history: &'a mut H,
    pub(super) inputs: Vec<Input>,
    pub(super) jobs: Vec<Builds>,
    pub(super) candidates: Vec<Option<Candidate>>,
    /// The set of candidates that failed last.
    doomed: Vec<Option<VersionHash>>,
    /// The builds that fed this job's last build with the newest version, once an `every` input asked for them.
    last: Option<BTreeMap<String, Position>>,
    tries: u32,
}

/// Builds to try for one passed job, in order: those that this job has not used, oldest first, then the others.
struct Proposals {
    unused: std::vec::IntoIter<Rc<Build>>,
    rest: Walk,
    /// Of `rest` only what is not newer than this.
    not_newer_than: Option<Position>,
}

impl<'a, H: History> Group<'a, H> {
    pub(super) fn new(history: &'a mut H, inputs: Vec<Input>, jobs: Vec<Builds>) -> Self {
        Self {
            history,
            candidates: inputs.iter().map(|_| None).collect(),
            doomed: inputs.iter().map(|_| None).collect(),
            inputs,
            jobs,
            last: None,
            tries: 0,
        }
    }

    /// Whether every passed job has succeeded at all. If one has not, nothing needs to be tried.
    pub(super) fn has_builds(&mut self) -> Result<bool, H::Error> {
        for job in &mut self.jobs {
            let first = job.step(self.history, &mut Walk::over_all())?;
            if first.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether there is a candidate for every input, vouched for by all its jobs; the candidates are the answer.
    pub(super) fn solve(&mut self) -> Result<bool, H::Error> {
        for input in 0..self.inputs.len() {
            if !self.solve_input(input)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the search was given up.
    pub(super) fn gave_up(&self) -> bool {
        self.tries > MAX_TRIES
    }

    /// Finds somebody to vouch for an input, and with that everything else.
    fn solve_input(&mut self, at: usize) -> Result<bool, H::Error> {
        for job in self.inputs[at].passed.clone() {
            let candidate = self.candidates[at].as_ref();
            if candidate.is_some_and(|candidate| candidate.is_vouched_by(job)) {
                continue;
            }
            let Some(mut proposals) = self.proposals(at, job)? else {
                continue;
            };
            while let Some((build, is_unused)) = self.propose(&mut proposals, job)? {
                self.tries += 1;
                if self.gave_up() {
                    return Ok(false);
                }
                if self.try_build(at, job, &build, is_unused)? {
                    return Ok(true);
                }
            }
            return Ok(false);
        }
        Ok(true)
    }

    /// The builds of a job that an input may try; `None` leaves the job for later, when there is a candidate.
    fn proposals(&mut self, at: usize, job: usize) -> Result<Option<Proposals>, H::Error> {
        let has_candidate = self.candidates[at].is_some();
        let rest = match has_candidate {
            true => Walk::with(self.chosen_of(job)),
            false => Walk::over_all(),
        };
        let mut proposals = Proposals {
            unused: Vec::new().into_iter(),
            rest,
            not_newer_than: None,
        };
        if !self.inputs[at].every {
            return Ok(Some(proposals));
        }
        if self.last.is_none() {
            self.last = self.history.last_sources(self.inputs[at].resource)?;
        }
        let last = |job: usize| self.last.as_ref()?.get(&self.jobs[job].job).copied();
        if let Some(used) = last(job) {
            proposals.unused = self.jobs[job].newer(self.history, used)?.into_iter();
            proposals.not_newer_than = Some(used);
        } else if !has_candidate
            && self.inputs[at]
                .passed
                .iter()
                .any(|job| last(*job).is_some())
        {
            return Ok(None);
        }
        Ok(Some(proposals))
    }

    fn propose(
        &mut self,
        proposals: &mut Proposals,
        job: usize,
    ) -> Result<Option<(Rc<Build>, bool)>, H::Error> {
        if let Some(build) = proposals.unused.next() {
            return Ok(Some((build, true)));
        }
        while let Some(build) = self.jobs[job].step(self.history, &mut proposals.rest)? {
            let used = proposals.not_newer_than;
            if used.is_none_or(|used| build.position.is_not_newer_than(used)) {
                return Ok(Some((build, false)));
            }
        }
        Ok(None)
    }

    /// What is chosen already for the inputs that ask for a job.
    fn chosen_of(&self, job: usize) -> Vec<Wanted> {
        let mut chosen = Vec::new();
        for (input, candidate) in self.inputs.iter().zip(&self.candidates) {
            if let Some(candidate) = candidate
                && input.passed.contains(&job)
                && !chosen.contains(&(input.resource, candidate.hash))
            {
                chosen.push((input.resource, candidate.hash));
            }
        }
        chosen
    }

    /// Takes what a build of a job proposes, and goes on from there; undone if that leads nowhere.
    fn try_build(
        &mut self,
        at: usize,
        job: usize,
        build: &Build,
        is_unused: bool,
    ) -> Result<bool, H::Error> {
        let mut before = Vec::new();
        let fits = self.take(job, build, is_unused, &mut before);
        let vouched = self.candidates[at].as_ref();
        if fits && vouched.is_some_and(|candidate| candidate.is_vouched_by(job)) {
            let hashes = |group: &Self| -> Vec<Option<VersionHash>> {
                let of = |candidate: &Option<Candidate>| candidate.as_ref().map(|c| c.hash);
                group.candidates.iter().map(of).collect()
            };
            let candidates = hashes(self);
            if candidates != self.doomed {
                if self.is_hopeful(&before)? && self.solve()? {
                    return Ok(true);
                }
                self.doomed = candidates;
            }
        }
        for (at, candidate) in before {
            self.candidates[at] = candidate;
        }
        Ok(false)
    }

    /// Whether somebody in each job that is still to be asked can vouch for what has just become a candidate: the search
    /// would find out as well, but maybe only after everything in between was tried in every combination.
    fn is_hopeful(&mut self, changed: &[(usize, Option<Candidate>)]) -> Result<bool, H::Error> {
        for (at, before) in changed {
            let (None, Some(candidate)) = (before, &self.candidates[*at]) else {
                continue;
            };
            let wanted = (self.inputs[*at].resource, candidate.hash);
            for job in &self.inputs[*at].passed {
                if !candidate.is_vouched_by(*job) && !self.jobs[*job].has(self.history, wanted)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Makes candidates of what a build made and used, remembering what was there before; `false` if it contradicts one.
    fn take(
        &mut self,
        job: usize,
        build: &Build,
        is_unused: bool,
        before: &mut Vec<(usize, Option<Candidate>)>,
    ) -> bool {
        for used in &build.versions {
            for (at, input) in self.inputs.iter().enumerate() {
                // What a build made comes first; what it used of the same resource is of no interest then.
                let is_taken = before.iter().any(|(taken, _)| *taken == at);
                if is_taken || input.resource != used.resource || !input.passed.contains(&job) {
                    continue;
                }
                let candidate = self.candidates[at].as_ref();
                if candidate.is_some_and(|candidate| candidate.hash != used.hash) {
                    return false;
                }
                if used.standing.is_some_and(|standing| !standing.enabled)
                    || input.pin.is_some_and(|pin| pin != used.hash)
                {
                    continue;
                }
                // A version that is gone: nothing of this build counts from here on.
                if candidate.is_none() && used.standing.is_none() {
                    return true;
                }
                let mut next = candidate.cloned().unwrap_or(Candidate {
                    hash: used.hash,
                    vouched: Vec::new(),
                    is_unused: false,
                });
                next.vouched.push((job, build.id));
                next.is_unused |= is_unused;
                before.push((at, self.candidates[at].replace(next)));
            }
        }
        true
    }
}
