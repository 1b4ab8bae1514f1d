//! A pipeline as YAML in its canonical form: keys sorted, lists not indented, no comments.

use super::model::Config;
use super::tree::{Kind, resolves_to};
use serde_json::Value;

/// The canonical text of a pipeline: reading it gives the same pipeline.
pub fn format(config: &Config) -> String {
    // The model has no map with keys that are not text.
    serde_json::to_value(config).map_or_else(|_| String::new(), |value| yaml(&value))
}

/// A value as YAML.
pub fn yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Array(items) if !items.is_empty() => list(&mut out, items, 0),
        Value::Object(map) if !map.is_empty() => object(&mut out, map, 0),
        other => {
            scalar(&mut out, other, 0);
            out.push('\n');
        }
    }
    out
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n("  ", depth));
}

fn object(out: &mut String, map: &serde_json::Map<String, Value>, depth: usize) {
    let mut keys: Vec<&String> = map.keys().collect();
    keys.sort();
    for (i, key) in keys.into_iter().enumerate() {
        // The first key of a list's item stands behind its dash.
        if i > 0 || !out.ends_with("- ") {
            indent(out, depth);
        }
        out.push_str(&quoted(key, false));
        out.push(':');
        match &map[key] {
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                list(out, items, depth);
            }
            Value::Object(map) if !map.is_empty() => {
                out.push('\n');
                object(out, map, depth + 1);
            }
            other => {
                out.push(' ');
                scalar(out, other, depth + 1);
                out.push('\n');
            }
        }
    }
}

fn list(out: &mut String, items: &[Value], depth: usize) {
    for (i, item) in items.iter().enumerate() {
        if i > 0 || !out.ends_with("- ") {
            indent(out, depth);
        }
        out.push_str("- ");
        match item {
            Value::Array(items) if !items.is_empty() => list(out, items, depth + 1),
            Value::Object(map) if !map.is_empty() => object(out, map, depth + 1),
            other => {
                scalar(out, other, depth + 1);
                out.push('\n');
            }
        }
    }
}

fn scalar(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::String(text) if is_block(text) => block(out, text, depth),
        Value::String(text) => out.push_str(&quoted(text, true)),
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
        Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
    }
}

/// Whether a text can stand line by line under a `|`.
fn is_block(text: &str) -> bool {
    text.contains('\n')
        && !text.starts_with([' ', '\n', '\t'])
        && !text
            .lines()
            .any(|line| line.ends_with(' ') || line.trim().is_empty() && !line.is_empty())
        && text
            .chars()
            .all(|c| c == '\n' || c == '\t' || is_printable(c))
}

fn block(out: &mut String, text: &str, depth: usize) {
    out.push_str(if text.ends_with("\n\n") || text == "\n" {
        "|+"
    } else if text.ends_with('\n') {
        "|"
    } else {
        "|-"
    });
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        out.push('\n');
        if !line.is_empty() {
            indent(out, depth);
            out.push_str(line);
        }
    }
}

fn quoted(text: &str, is_value: bool) -> String {
    if is_plain(text, is_value) {
        text.to_owned()
    } else if text.chars().all(is_printable) {
        format!("'{}'", text.replace('\'', "''"))
    } else {
        // JSON's escapes are YAML's.
        Value::String(text.to_owned())
            .to_string()
            .chars()
            .map(|c| match c {
                c if c.is_ascii() || is_printable(c) => c.to_string(),
                c => format!("\\U{:08x}", u32::from(c)),
            })
            .collect()
    }
}

fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(
            c,
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        )
}

/// Whether a text may stand without quotes and is read as itself.
fn is_plain(text: &str, is_value: bool) -> bool {
    const INDICATORS: &str = "-?:,[]{}#&*!|>'\"%@`=<~";
    let starts_well = match text.chars().next() {
        None => false,
        // A dash or question mark begins something else only before a space.
        Some('-') => text.len() > 1 && !text.starts_with("- ") && !text.starts_with("---"),
        Some(c) => !INDICATORS.contains(c),
    };
    starts_well
        && text.chars().all(is_printable)
        && !text.starts_with(' ')
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
        && (is_value || !text.contains([',', '[', ']', '{', '}']))
        && !text.starts_with("...")
        && text.len() < 512
        && matches!(resolves_to(text), Some(Kind::Text(_)))
}

#[cfg(test)]
mod tests {
    use super::super::{conformance, load, tree};
    use super::*;
    use serde_json::json;

    #[test]
    fn every_odd_text_is_read_as_itself() {
        let texts = [
            "",
            " ",
            "a",
            "yes",
            "N",
            "null",
            "~",
            "1",
            "0o17",
            "1.5",
            "1e3",
            ".inf",
            "- a",
            "-",
            "--",
            "---",
            "--- a",
            "...",
            "a: b",
            "a:",
            ":a",
            "a #b",
            "#a",
            "it's",
            "\"q\"",
            "[a",
            "{a}",
            "a, b",
            "&a",
            "*a",
            "!a",
            "%a",
            "@a",
            "`a",
            "|",
            ">",
            "a\nb",
            "a\nb\n",
            "\n",
            "\n\n",
            "a\n\nb\n\n",
            " a\nb",
            "a \nb",
            "a\n \nb",
            "a\tb",
            "\ta",
            "a\r\nb",
            "((v))",
            "\u{1}",
            "\u{85}",
            "\u{2028}x",
            "é",
            "😀",
            "<<",
            "=",
            "?",
            "? a",
            "2024-01-02",
            "a\n\tb\n",
            "-1",
            "- ",
            "a\n---\nb",
            "a\n#b",
        ];
        for text in texts {
            let value = json!({"k": text, text: [text, {"x": text}], "l": [[text]]});
            let written = yaml(&value);
            let read = tree::parse(&written).map(|document| document.root.to_value());
            assert_eq!(read.as_ref(), Ok(&value), "{text:?}\n{written}");
        }
    }

    #[test]
    fn the_form_is_that_of_concourse() {
        let value = json!({"b": [{"y": 1, "x": [1, [2]]}, "t"], "a": {"e": {}, "l": []}});
        assert_eq!(
            yaml(&value),
            "a:\n  e: {}\n  l: []\nb:\n- x:\n  - 1\n  - - 2\n  'y': 1\n- t\n"
        );
    }

    #[test]
    fn a_formatted_pipeline_is_the_same_pipeline_and_stays_as_it_is() {
        let Some(folder) = conformance::folder() else {
            return;
        };
        let mut count = 0;
        for part in ["edge", "valid/official"] {
            for entry in std::fs::read_dir(folder.join(part)).unwrap() {
                let path = entry.unwrap().path();
                let text = std::fs::read_to_string(&path).unwrap();
                let Ok(loaded) = load("p.yml", &text, &Default::default()) else {
                    continue;
                };
                let formatted = format(&loaded.config);
                let again = load("p.yml", &formatted, &Default::default())
                    .unwrap_or_else(|faults| panic!("{path:?}: {faults:?}\n{formatted}"));
                assert_eq!(again.config, loaded.config, "{path:?}\n{formatted}");
                assert_eq!(format(&again.config), formatted, "{path:?}");
                count += 1;
            }
        }
        assert!(count >= 75, "{count}");
    }
}
