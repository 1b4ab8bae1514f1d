//! Jobs and their steps.

use super::{Names, Report, identifier_of, pocketci};
use crate::config::fault::WarningKind;
use crate::config::model::{
    AcrossVar, Core, GetStep, Hooks, Job, MaxInFlight, Step, TaskConfig, TaskStep,
};
use crate::duration;
use std::collections::HashSet;

/// Checks `jobs`.
pub fn jobs(report: &mut Report<'_>) {
    report.group = "jobs";
    let config = report.config;
    if config.jobs.is_empty() {
        report.fault_at("jobs", "pipeline must contain at least one job");
        return;
    }
    let mut names = Names::default();
    for (i, job) in config.jobs.iter().enumerate() {
        let path = identifier_of("jobs", i, &job.name);
        report.identifier(&job.name, &path, false);
        names.check(report, &job.name, format!("jobs[{i}]"));
        if job.name.is_empty() {
            report.fault(&path, format!("{path} has no name"));
        }
        retention(report, job, &path);
        pocketci::job(report, job, &path);
        let mut walk = Walk {
            report,
            path: format!("{path}.plan"),
            gets: HashSet::new(),
            scopes: vec![HashSet::new()],
        };
        walk.steps(".do", &job.plan);
        walk.hooks(&job.hooks);
    }
}

fn retention(report: &mut Report<'_>, job: &Job, path: &str) {
    let legacy = job.build_logs_to_retain.unwrap_or(0);
    if legacy != 0 {
        let path = format!("{path}.build_logs_to_retain");
        report.found.warnings.push(crate::config::fault::Warning {
            kind: WarningKind::DeprecatedField,
            message: format!("{path} is deprecated. Use build_log_retention instead."),
        });
    }
    if job.build_log_retention.is_some() && legacy != 0 {
        let message = format!("{path} can't use both build_log_retention and build_logs_to_retain");
        report.fault(path, message);
    } else if legacy < 0 {
        report.fault(
            path,
            format!("{path} has negative build_logs_to_retain: {legacy}"),
        );
    }
    let Some(retention) = &job.build_log_retention else {
        return;
    };
    let minimum = retention.minimum_succeeded_builds;
    // Concourse says `min_success_builds` for `minimum_succeeded_builds`.
    for (key, value) in [
        ("builds", retention.builds),
        ("days", retention.days),
        ("min_success_builds", minimum),
    ] {
        if value < 0 {
            let message = format!("{path} has negative build_log_retention.{key}: {value}");
            report.fault(path, message);
        }
    }
    if retention.builds > 0 && minimum > retention.builds {
        let message = format!(
            "{path} has build_log_retention.min_success_builds: {minimum} greater than build_log_retention.min_success_builds: {}",
            retention.builds
        );
        report.fault(path, message);
    }
}

/// A walk over a job's steps.
pub(super) struct Walk<'r, 'c> {
    pub(super) report: &'r mut Report<'c>,
    /// Concourse's path of the step.
    pub(super) path: String,
    gets: HashSet<String>,
    /// Local vars, the innermost scope last.
    scopes: Vec<HashSet<String>>,
}

impl Walk<'_, '_> {
    fn within<T>(&mut self, part: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.path.len();
        self.path.push_str(part);
        let done = work(self);
        self.path.truncate(before);
        done
    }

    pub(super) fn fault(&mut self, message: impl AsRef<str>) {
        self.report.fault_at(&self.path, message);
    }

    fn warn(&mut self, kind: WarningKind, message: impl AsRef<str>) {
        self.report.warn(kind, &self.path, message);
    }

    pub(super) fn identifier(&mut self, name: &str, is_free: bool) {
        self.report.identifier(name, &self.path, is_free);
    }

    fn steps(&mut self, part: &str, steps: &[Step]) {
        for (i, step) in steps.iter().enumerate() {
            self.within(&format!("{part}[{i}]"), |walk| walk.step(step));
        }
    }

    fn step(&mut self, step: &Step) {
        let modifiers = &step.modifiers;
        if modifiers.across.is_empty() {
            self.inner(step);
        } else {
            self.within(".across", |walk| {
                walk.scopes.push(HashSet::new());
                walk.across(&modifiers.across);
                walk.inner(step);
                walk.scopes.pop();
            });
        }
        self.hooks(&modifiers.hooks);
    }

    /// The core with `timeout` and `attempts` around it.
    fn inner(&mut self, step: &Step) {
        self.core(&step.core, !step.modifiers.across.is_empty());
        if let Some(timeout) = &step.modifiers.timeout
            && duration::parse_go_nanos(timeout).is_err()
        {
            let message = format!("invalid duration '{timeout}'");
            self.within(".timeout", |walk| walk.fault(message));
        }
        if step
            .modifiers
            .attempts
            .is_some_and(|attempts| attempts <= 0)
        {
            self.within(".attempts", |walk| walk.fault("must be greater than 0"));
        }
    }

    fn hooks(&mut self, hooks: &Hooks) {
        for (key, hook) in hooks.iter() {
            self.within(&format!(".{key}"), |walk| walk.step(hook));
        }
    }

    fn across(&mut self, vars: &[AcrossVar]) {
        for (i, var) in vars.iter().enumerate() {
            self.within(&format!("[{i}]"), |walk| {
                walk.declare(&var.var);
                if matches!(var.max_in_flight, Some(MaxInFlight::Limit(limit)) if limit <= 0) {
                    walk.within(".max_in_flight", |walk| {
                        walk.fault("must be greater than 0")
                    });
                }
            });
        }
    }

    fn declare(&mut self, name: &str) {
        let (inner, outer) = match self.scopes.split_last() {
            Some((inner, outer)) => (inner, outer),
            None => return,
        };
        if inner.contains(name) {
            self.fault("repeated var name");
        } else if outer.iter().any(|scope| scope.contains(name)) {
            self.warn(
                WarningKind::VarShadowed,
                format!("shadows local var '{name}'"),
            );
        }
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name.to_owned());
        }
    }

    fn core(&mut self, core: &Core, under_across: bool) {
        match core {
            Core::Get(step) => self.within(&format!(".get({})", step.name), |walk| walk.get(step)),
            Core::Put(step) => self.within(&format!(".put({})", step.name), |walk| {
                walk.identifier(&step.name, false);
                walk.resource(step.resource_name());
            }),
            Core::Task(step) => self.within(&format!(".task({})", step.name), |walk| {
                walk.identifier(&step.name, under_across);
                walk.task(step);
            }),
            Core::Run(step) => {
                let part = format!(".run({}.{})", step.type_name, step.message);
                self.within(&part, |walk| walk.run(&step.message, &step.type_name));
            }
            Core::SetPipeline(step) => {
                self.within(&format!(".set_pipeline({})", step.name), |walk| {
                    walk.identifier(&step.name, under_across);
                    walk.needs_file(&step.file);
                });
            }
            Core::LoadVar(step) => self.within(&format!(".load_var({})", step.name), |walk| {
                walk.identifier(&step.name, false);
                walk.declare(&step.name);
                walk.needs_file(&step.file);
            }),
            Core::Do(step) => self.steps(".do", &step.steps),
            Core::InParallel(step) => self.steps(".in_parallel.steps", &step.in_parallel.steps),
            Core::Try(step) => self.within(".try", |walk| walk.step(&step.step)),
            Core::Notify(step) => {
                self.within(&format!(".notify({})", step.names.join(",")), |walk| {
                    pocketci::notify(walk, step);
                });
            }
            Core::Gate(step) => self.within(&format!(".gate({})", step.name), |walk| {
                pocketci::gate(walk, step);
            }),
            Core::BuildImage(step) => self.within(".build_image", |walk| {
                pocketci::build_image(walk, &step.build_image);
            }),
            Core::Agent(step) => self.within(&format!(".agent({})", step.name), |walk| {
                pocketci::agent(walk, step);
            }),
        }
    }

    fn needs_file(&mut self, file: &str) {
        if file.is_empty() {
            self.fault("no file specified");
        }
    }

    fn resource(&mut self, name: &str) {
        if !self.report.index.has_resource(name) {
            self.fault(format!("unknown resource '{name}'"));
        }
    }

    fn get(&mut self, step: &GetStep) {
        self.identifier(&step.name, false);
        if !self.gets.insert(step.name.clone()) {
            self.fault("repeated name");
        }
        let resource = step.resource_name();
        self.resource(resource);
        self.within(".passed", |walk| {
            for text in &step.passed {
                walk.passed(text, resource);
            }
        });
    }

    fn passed(&mut self, text: &str, resource: &str) {
        let Ok(jobs) = self.report.index.matching(text) else {
            self.fault(format!("invalid glob expression '{text}'"));
            return;
        };
        for job in jobs.iter() {
            if !self.report.index.uses(job, resource) {
                self.fault(format!(
                    "job '{job}' does not interact with resource '{resource}'"
                ));
            }
        }
        if jobs.is_empty() {
            self.fault(format!("unknown job '{text}'"));
        }
    }

    fn run(&mut self, message: &str, type_name: &str) {
        // What is only odd elsewhere is a fault here.
        match super::identifier::check(message, &self.path, false) {
            super::identifier::Told::Fine => {}
            super::identifier::Told::Odd(warning) => self.fault(warning.message),
            super::identifier::Told::Empty(message) => self.report.fault(&self.path, message),
        }
        let known = &self.report.config.prototypes;
        if !known.iter().any(|prototype| prototype.name == type_name) {
            self.fault(format!("unknown prototype '{type_name}'"));
        }
    }

    fn task(&mut self, step: &TaskStep) {
        let in_file = !step.file.is_empty();
        match &step.config {
            None if !in_file && step.uri.is_empty() => {
                self.fault("must specify either `file:` or `config:`");
            }
            Some(_) if in_file => {
                self.fault("must specify one of `file:` or `config:`, not both");
            }
            _ => {}
        }
        pocketci::task(self, step);
        let has_image = step.config.as_ref().is_some_and(|config| {
            !config.rootfs_uri.is_empty()
                || config.image_resource.is_some()
                || !config.image.is_empty()
        });
        if has_image && !step.image.is_empty() {
            self.warn(
                WarningKind::Pipeline,
                "specifies image: on the step but also specifies an image under config: - the image: on the step takes precedence",
            );
        }
        if step.hermetic {
            self.warn(
                WarningKind::Pipeline,
                "specifies `hermetic:` only works against worker containerd runtime",
            );
        }
        if let Some(config) = &step.config {
            self.within(".config", |walk| {
                for fault in task_faults(config) {
                    walk.fault(fault);
                }
            });
        }
    }
}

/// What is missing in a task's configuration, in Concourse's words.
pub fn task_faults(config: &TaskConfig) -> Vec<String> {
    let mut faults = Vec::new();
    if config.platform.is_empty() {
        faults.push("missing 'platform'".to_owned());
    }
    for (i, input) in config.inputs.iter().enumerate() {
        if input.name.is_empty() {
            faults.push(format!("  input in position {i} is missing a name"));
        }
    }
    for (i, output) in config.outputs.iter().enumerate() {
        if output.name.is_empty() {
            faults.push(format!("  output in position {i} is missing a name"));
        }
    }
    faults
}
