//! Classes of pipelines that the reference's kept cases do not show.

mod manual;
mod steps;
mod text;
mod whole;

use super::vars::Vars;
use super::*;
use serde_json::json;

fn config(text: &str) -> Config {
    match load("p.yml", text, &Vars::new()) {
        Ok(loaded) => loaded.config,
        Err(faults) => panic!("{}\n{text}", report("p.yml", &faults)),
    }
}

fn told(text: &str) -> String {
    match load("p.yml", text, &Vars::new()) {
        Ok(_) => panic!("accepted: {text}"),
        Err(faults) => report("p.yml", &faults),
    }
}

fn warned(text: &str) -> Vec<String> {
    let loaded = load("p.yml", text, &Vars::new());
    loaded
        .expect("a pipeline")
        .warnings
        .iter()
        .map(ToString::to_string)
        .collect()
}

const TASK: &str = "{platform: linux, run: {path: x}}";

/// A pipeline with one job of these steps.
fn job(steps: &str) -> String {
    format!(
        "resources: [{{name: r, type: t}}]\njobs:\n- name: j\n  ensure: {{put: r}}\n  plan:\n{steps}\n"
    )
}
