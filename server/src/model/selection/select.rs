//! The choice as a whole: each input alone or in its group, and what is told about the result.

use super::blocked::blocked;
use super::builds::Builds;
use super::group::{Group, Input};
use super::history::{Found, History};
use super::reason::Reason;
use super::{ChosenInput, InputConfig, Selection, Wish};
use crate::model::JobId;
use crate::model::version::Version;
use std::collections::{BTreeMap, BTreeSet};

/// The resources of inputs, sorted: their places name them in [`History`].
pub fn resource_names(inputs: &[InputConfig]) -> Vec<String> {
    let names: BTreeSet<&String> = inputs.iter().map(|input| &input.resource).collect();
    names.into_iter().cloned().collect()
}

/// Puts the pins by command, by resource, in the place of every wish that is no pin.
pub fn apply_pins(inputs: &mut [InputConfig], pins: &BTreeMap<String, Version>) {
    for input in inputs {
        if let Some(pin) = pins.get(&input.resource)
            && !matches!(input.version, Wish::Pinned(_))
        {
            input.version = Wish::Pinned(pin.clone());
        }
    }
}

/// Chooses the versions of a job's inputs.
///
/// # Errors
/// What the history fails with.
pub fn select<H: History>(history: &mut H, inputs: &[InputConfig]) -> Result<Selection, H::Error> {
    let mut choice = Choice {
        history,
        resources: resource_names(inputs),
        selection: Selection::default(),
    };
    for input in inputs.iter().filter(|input| input.passed.is_empty()) {
        choice.alone(input)?;
    }
    for group in groups(inputs) {
        choice.together(&group)?;
    }
    Ok(choice.selection)
}

/// Inputs with passed jobs, those that share one (also through other inputs) together, in their order.
fn groups(inputs: &[InputConfig]) -> Vec<Vec<&InputConfig>> {
    let mut groups: Vec<Vec<&InputConfig>> = Vec::new();
    for input in inputs.iter().filter(|input| !input.passed.is_empty()) {
        let shares =
            |other: &&InputConfig| other.passed.iter().any(|job| input.passed.contains(job));
        let (related, mut apart): (Vec<_>, Vec<_>) = groups
            .into_iter()
            .partition(|group| group.iter().any(shares));
        let mut joined: Vec<&InputConfig> = related.into_iter().flatten().collect();
        joined.push(input);
        apart.push(joined);
        groups = apart;
    }
    for group in &mut groups {
        let place = |input: &&InputConfig| inputs.iter().position(|other| other.name == input.name);
        group.sort_by_key(place);
    }
    groups
}

struct Choice<'a, H> {
    history: &'a mut H,
    resources: Vec<String>,
    selection: Selection,
}

impl<H: History> Choice<'_, H> {
    fn place(&self, input: &InputConfig) -> usize {
        // Every input's resource is among them.
        self.resources
            .partition_point(|name| *name < input.resource)
    }

    fn alone(&mut self, input: &InputConfig) -> Result<(), H::Error> {
        let resource = self.place(input);
        let every = input.version == Wish::Every;
        let found = match &input.version {
            Wish::Pinned(pin) => match self.history.containing(resource, pin)? {
                Some(found) => Some(found),
                None => {
                    self.fail(input, pin_not_found(input, pin));
                    return Ok(());
                }
            },
            Wish::Every => {
                let (found, more) = self.history.next(resource)?;
                self.selection.has_next |= more;
                found
            }
            Wish::Latest => self.history.latest(resource)?,
        };
        match found {
            Some(found) => self.choose(input, found, Vec::new())?,
            None => {
                let resource = input.resource.clone();
                self.fail(input, Reason::NoVersion { resource, every });
            }
        }
        Ok(())
    }

    fn together(&mut self, configs: &[&InputConfig]) -> Result<(), H::Error> {
        let mut names: Vec<&String> = Vec::new();
        let mut inputs = Vec::new();
        for input in configs {
            let mut passed = Vec::new();
            for job in &input.passed {
                let known = names.iter().position(|name| *name == job);
                passed.push(known.unwrap_or(names.len()));
                if known.is_none() {
                    names.push(job);
                }
            }
            let resource = self.place(input);
            let pin = match &input.version {
                Wish::Pinned(pin) => match self.history.containing(resource, pin)? {
                    Some(found) => Some(found.hash),
                    None => {
                        let reason = pin_not_found(input, pin);
                        for input in configs {
                            self.fail(input, reason.clone());
                        }
                        return Ok(());
                    }
                },
                Wish::Every | Wish::Latest => None,
            };
            inputs.push(Input {
                resource,
                passed,
                every: input.version == Wish::Every,
                pin,
            });
        }
        let jobs = names.into_iter().map(|name| Builds::of(name)).collect();
        let mut group = Group::new(self.history, inputs, jobs);
        if !(group.has_builds()? && group.solve()?) {
            let reasons = reasons(&mut group, configs)?;
            for (input, reason) in configs.iter().zip(reasons) {
                self.fail(input, reason);
            }
            return Ok(());
        }
        let candidates = group.candidates;
        for (input, candidate) in configs.iter().zip(candidates) {
            let Some(candidate) = candidate else { continue };
            let sources = candidate.vouched.iter().map(|(_, build)| *build).collect();
            let resource = self.place(input);
            let version = self.history.version(resource, candidate.hash)?;
            let found = Found {
                hash: candidate.hash,
                version: version.unwrap_or_default(),
            };
            self.selection.has_next |= candidate.is_unused;
            self.choose(input, found, sources)?;
        }
        Ok(())
    }

    fn choose(
        &mut self,
        input: &InputConfig,
        found: Found,
        sources: Vec<JobId>,
    ) -> Result<(), H::Error> {
        let resource = self.place(input);
        let is_used = self.history.is_used(&input.name, resource, found.hash)?;
        let chosen = ChosenInput {
            name: input.name.clone(),
            resource: input.resource.clone(),
            hash: found.hash,
            version: found.version,
            first_occurrence: !is_used,
            sources,
        };
        self.selection.inputs.insert(input.name.clone(), chosen);
        Ok(())
    }

    fn fail(&mut self, input: &InputConfig, reason: Reason) {
        self.selection.errors.insert(input.name.clone(), reason);
    }
}

fn pin_not_found(input: &InputConfig, pin: &Version) -> Reason {
    Reason::PinNotFound {
        resource: input.resource.clone(),
        pin: pin.clone(),
    }
}

/// Why there is nothing for the inputs of a group, in their order.
fn reasons<H: History>(
    group: &mut Group<'_, H>,
    configs: &[&InputConfig],
) -> Result<Vec<Reason>, H::Error> {
    let mut reasons = Vec::new();
    for (at, input) in configs.iter().enumerate() {
        let others = configs.iter().filter(|other| other.name != input.name);
        let others = others.map(|other| other.name.clone()).collect();
        reasons.push(Reason::NotPassed {
            resource: input.resource.clone(),
            blocked: blocked(group, at, others)?,
        });
    }
    Ok(reasons)
}
