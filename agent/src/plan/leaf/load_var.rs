//! `load_var`: a file's content becomes a local var.

use super::super::State;
use super::super::build::Build;
use super::super::vars::hide;
use super::{Ended, Running};
use pocketci_pipeline::config::model::LoadVarStep;
use pocketci_pipeline::config::tree;
use serde_json::Value;

pub(super) async fn load_var(
    build: &Build,
    state: &State,
    step: &LoadVarStep,
) -> Result<(), Ended> {
    let running = Running::plain(build, state, "load_var", &step.name).await;
    let result = load(build, state, step).await;
    running.end(&result).await;
    result
}

async fn load(build: &Build, state: &State, step: &LoadVarStep) -> Result<(), Ended> {
    let file = build.text(state, &step.file, "file").await?;
    let format = build.text(state, &step.format, "format").await?;
    let text = build
        .unless_stopped(state, build.read_text(state, &file))
        .await??;
    let value = parse(&file, &format, text)?;
    if !step.reveal {
        let hiding = hide(&build.attempt.redactor, &value);
        let hidden = build.unless_stopped(state, hiding).await?;
        hidden.map_err(|error| Ended::Errored(format!("file '{file}': {error}")))?;
    }
    state.scope.set_var(&step.name, value);
    Ok(())
}

/// The text as a value.
fn parse(file: &str, format: &str, text: String) -> Result<Value, Ended> {
    let ending = match file.rsplit_once('.') {
        Some((_, ending @ ("json" | "yml" | "yaml"))) => ending,
        _ => "trim",
    };
    let wrong = |error: String| Ended::Errored(format!("file '{file}': {error}"));
    match if format.is_empty() { ending } else { format } {
        "raw" => Ok(Value::String(text)),
        "trim" => Ok(Value::String(text.trim().to_owned())),
        "json" => serde_json::from_str(&text).map_err(|error| wrong(error.to_string())),
        "yml" | "yaml" => yaml(&text).map_err(wrong),
        other => Err(Ended::Errored(format!(
            "invalid format {other:?}; use raw, trim, json, yaml or yml"
        ))),
    }
}

/// A YAML document as a value.
pub(super) fn yaml(text: &str) -> Result<Value, String> {
    match tree::parse(text) {
        Ok(document) => Ok(document.root.to_value()),
        Err(faults) => {
            let faults = faults.iter().map(|fault| {
                format!(
                    "line {}, column {}: {}",
                    fault.at.line, fault.at.column, fault.message
                )
            });
            Err(faults.collect::<Vec<_>>().join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_format_is_the_one_that_is_asked_for_or_the_endings() {
        for (file, format, text, value) in [
            ("a/v", "", " 1.2\n", json!("1.2")),
            ("a/v", "raw", " 1.2\n", json!(" 1.2\n")),
            ("a/v.json", "", "{\"a\": [1]}", json!({"a": [1]})),
            ("a/v.json", "trim", "{}\n", json!("{}")),
            ("a/v.yml", "", "a: yes\n", json!({"a": true})),
            ("a/v.yaml", "", "- x", json!(["x"])),
            ("a/v", "yaml", "a: 1", json!({"a": 1})),
            ("a.json/v", "", "{}", json!("{}")),
        ] {
            assert_eq!(
                parse(file, format, text.to_owned()),
                Ok(value),
                "{file} {format}"
            );
        }
        for (format, text) in [("toml", "a"), ("json", "{"), ("yaml", "a: [")] {
            let parsed = parse("a/v", format, text.to_owned());
            assert!(matches!(parsed, Err(Ended::Errored(_))), "{format}");
        }
    }
}
