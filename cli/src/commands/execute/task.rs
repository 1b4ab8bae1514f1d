//! The task to execute: its configuration with vars, environment and further arguments, and the folders that belong to it.

use super::super::configuration;
use crate::args::ExecuteArgs;
use anyhow::Context;
use pocketci_pipeline::config::model::TaskConfig;
use pocketci_pipeline::config::{load_task, report, task_faults};
use std::io::Read;
use std::path::{Path, PathBuf};

/// A task without a file.
const STDIN_NAME: &str = "stdin";

/// What is executed.
pub(super) struct Task {
    /// The file's name without its ending.
    pub(super) name: String,
    /// Complete.
    pub(super) config: TaskConfig,
    /// Inputs with the folders to send.
    pub(super) inputs: Vec<(String, PathBuf)>,
    /// Outputs with the folders to fill.
    pub(super) outputs: Vec<(String, PathBuf)>,
}

/// Reads and checks it; every fault goes to stderr, `None` if there is one.
pub(super) fn read(args: &ExecuteArgs) -> anyhow::Result<Option<Task>> {
    let (name, text) = file(&args.config)?;
    let vars = configuration::vars(&args.vars)?;
    let mut config = match load_task(&text, &vars) {
        Ok(config) => config,
        Err(faults) => {
            eprint!("{}", report(&name, &faults));
            return Ok(told(&name, faults.len()));
        }
    };
    for (param, value) in &mut config.params {
        if let Ok(set) = std::env::var(param) {
            *value = set;
        }
    }
    if !args.args.is_empty() {
        let run = config.run.get_or_insert_default();
        run.args.extend(args.args.iter().cloned());
    }
    let here = std::env::current_dir().context("cannot tell which folder this is")?;
    let inputs = inputs(args, &config, &here);
    let outputs = folders(&args.outputs);
    let mut faults = task_faults(&config);
    faults.extend(mapping_faults(args, &config, &inputs, &outputs));
    if !faults.is_empty() {
        for fault in &faults {
            eprintln!("{name}: {fault}");
        }
        return Ok(told(&name, faults.len()));
    }
    let stem = Path::new(&name).file_stem().unwrap_or_default();
    Ok(Some(Task {
        name: stem.to_string_lossy().into_owned(),
        config,
        inputs,
        outputs,
    }))
}

fn told(name: &str, count: usize) -> Option<Task> {
    let faults = if count == 1 { "fault" } else { "faults" };
    eprintln!("error: {name} has {count} {faults}");
    None
}

/// The file's own name, and its text.
fn file(path: &Path) -> anyhow::Result<(String, String)> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read the task from stdin")?;
        return Ok((STDIN_NAME.to_owned(), text));
    }
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the task's file {}", path.display()))?;
    let name = path.file_name().unwrap_or(path.as_os_str());
    Ok((name.to_string_lossy().into_owned(), text))
}

fn folders(pairs: &[(String, String)]) -> Vec<(String, PathBuf)> {
    let one = |(name, folder): &(String, String)| (name.clone(), PathBuf::from(folder));
    pairs.iter().map(one).collect()
}

/// Those that are named, or else this folder: for the only input, or the one that is named like it.
fn inputs(args: &ExecuteArgs, config: &TaskConfig, here: &Path) -> Vec<(String, PathBuf)> {
    if !args.inputs.is_empty() || args.inputs_from.is_some() {
        return folders(&args.inputs);
    }
    let own_name = here.file_name().unwrap_or_default();
    let chosen = match config.inputs.as_slice() {
        [only] => Some(only),
        all => all.iter().find(|input| own_name == input.name.as_str()),
    };
    let chosen = chosen.map(|input| (input.name.clone(), here.to_owned()));
    chosen.into_iter().collect()
}

/// What does not fit between task and folders.
fn mapping_faults(
    args: &ExecuteArgs,
    config: &TaskConfig,
    inputs: &[(String, PathBuf)],
    outputs: &[(String, PathBuf)],
) -> Vec<String> {
    let mut faults = Vec::new();
    let declared: Vec<&str> = config.inputs.iter().map(|i| i.name.as_str()).collect();
    faults.extend(name_faults("input", "-i", &declared, inputs));
    for (name, folder) in inputs {
        if !folder.is_dir() {
            faults.push(format!("input {name:?}: {} is no folder", folder.display()));
        }
    }
    for input in &config.inputs {
        let sent = inputs.iter().any(|(name, _)| *name == input.name);
        if !sent && !input.optional && args.inputs_from.is_none() {
            faults.push(format!(
                "input {:?} is missing: send a folder with -i {}=FOLDER, or take it from a job with -j",
                input.name, input.name
            ));
        }
    }
    let declared: Vec<&str> = config.outputs.iter().map(|o| o.name.as_str()).collect();
    faults.extend(name_faults("output", "-o", &declared, outputs));
    for (name, folder) in outputs {
        if folder.exists() && !folder.is_dir() {
            faults.push(format!(
                "output {name:?}: {} is no folder",
                folder.display()
            ));
        }
    }
    faults
}

fn name_faults(
    what: &str,
    flag: &str,
    declared: &[&str],
    named: &[(String, PathBuf)],
) -> Vec<String> {
    let mut faults = Vec::new();
    for (at, (name, _)) in named.iter().enumerate() {
        if !declared.contains(&name.as_str()) {
            faults.push(format!(
                "the task has no {what} {name:?}, only [{}]",
                declared.join(", ")
            ));
        } else if named[..at].iter().any(|(other, _)| other == name) {
            faults.push(format!("{what} {name:?}: {flag} names it twice"));
        }
    }
    faults
}
