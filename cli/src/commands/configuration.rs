//! YAML pipelines as the commands see them: their vars from flags and files, their faults and warnings on stderr.

use super::validate::PipelineFile;
use crate::args::VarArgs;
use anyhow::Context;
use pocketci_pipeline::config::vars::Vars;
use pocketci_pipeline::config::{Config, Strictness, load_as, report, tree};
use serde_json::{Map, Value};

/// The vars that the flags give: `--var` and `--yaml-var` win over files, later files over earlier ones.
pub fn vars(args: &VarArgs) -> anyhow::Result<Vars> {
    let mut vars = Vars::new();
    for (name, value) in &args.vars {
        vars.set(name, Value::String(value.clone()))
            .with_context(|| format!("--var {name:?}"))?;
    }
    for (name, text) in &args.yaml_vars {
        let value = yaml(text).with_context(|| format!("--yaml-var {name:?}"))?;
        vars.set(name, value)
            .with_context(|| format!("--yaml-var {name:?}"))?;
    }
    for path in args.var_files.iter().rev() {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the vars' file {shown}"))?;
        let more = match yaml(&text).with_context(|| format!("the vars' file {shown}"))? {
            Value::Object(map) => map,
            Value::Null => Map::new(),
            _ => anyhow::bail!("the vars' file {shown} must be a map of names and values"),
        };
        vars.add_below(more);
    }
    Ok(vars)
}

fn yaml(text: &str) -> anyhow::Result<Value> {
    match tree::parse(text) {
        Ok(document) => Ok(document.root.to_value()),
        Err(faults) => {
            let told: Vec<String> = faults
                .iter()
                .map(|fault| format!("line {}: {}", fault.at.line, fault.message))
                .collect();
            anyhow::bail!("{}", told.join("; "))
        }
    }
}

/// The pipeline in a YAML file; warnings and faults go to stderr, `None` if there are faults.
pub fn loaded(file: &PipelineFile, vars: &Vars, strictness: Strictness) -> Option<Config> {
    match load_as(&file.name, &file.content, vars, strictness) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                eprintln!("warning: {warning}");
            }
            Some(loaded.config)
        }
        Err(faults) => {
            eprint!("{}", report(&file.name, &faults));
            let count = faults.len();
            eprintln!(
                "error: {} has {count} {}",
                file.name,
                if count == 1 { "fault" } else { "faults" }
            );
            None
        }
    }
}
