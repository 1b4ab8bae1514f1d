//! Message templates: minijinja's language, and the part of Go's that PocketCI's documents use, translated into it.
//!
//! Translated are actions that begin like Go's: `{{ .Field }}`, `{{ .Map.key | upper }}`, `{{ if }}`, `{{ else }}`,
//! `{{ else if }}`, `{{ range }}`, `{{ with }}`, `{{ end }}`, the comparisons `eq ne lt le gt ge`, `and`, `or`, `not`,
//! `len`, `printf`-free pipelines of minijinja's filters, and `{{- -}}`. Everything else is minijinja's own.

use crate::js::request::NotifyContext;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value, context};

/// Steps of the template engine: a message that needs more never ends.
const FUEL: u64 = 100_000;
/// Largest message, in bytes.
const MAX_MESSAGE_BYTES: usize = 256 << 10;

/// The message.
pub(super) fn render(message: &str, data: &NotifyContext) -> Result<String, String> {
    let failed = |error: String| format!("could not render message template: {error}");
    if message.len() > MAX_MESSAGE_BYTES {
        return Err(failed(format!(
            "it has more than {MAX_MESSAGE_BYTES} bytes"
        )));
    }
    let translated = translate(message).map_err(failed)?;
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_fuel(Some(FUEL));
    let data = context! {
        PipelineName => data.pipeline_name.clone(),
        JobName => data.job_name.clone(),
        BuildID => data.build_id.clone(),
        Status => data.status.clone(),
        StartTime => data.start_time.clone(),
        EndTime => data.end_time.clone(),
        Duration => data.duration.clone(),
        Environment => data.environment.clone(),
        TaskResults => Value::from(Serde(&data.task_results)),
    };
    let rendered = environment
        .render_str(&translated, data)
        .map_err(|error| failed(error.to_string()))?;
    if rendered.len() > MAX_MESSAGE_BYTES {
        return Err(failed(format!(
            "the message has more than {MAX_MESSAGE_BYTES} bytes"
        )));
    }
    Ok(rendered)
}

/// What `{{ end }}` closes.
#[derive(Clone, Copy)]
enum Block {
    If,
    For,
}

/// Go's actions as minijinja's; the text between them is untouched.
fn translate(message: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut open: Vec<Block> = Vec::new();
    let mut rest = message;
    while let Some(start) = rest.find("{{") {
        out.push_str(&rest[..start]);
        let after = &rest[start + 2..];
        let end = after
            .find("}}")
            .ok_or_else(|| "could not parse template: an action \"{{\" is not closed".to_owned())?;
        let (inner, left, right) = trims(&after[..end]);
        out.push_str(&action(inner, left, right, &mut open)?);
        rest = &after[end + 2..];
    }
    out.push_str(rest);
    if !open.is_empty() {
        return Err("could not parse template: {{ end }} is missing".to_owned());
    }
    Ok(out)
}

/// Takes off `-` at both sides.
fn trims(inner: &str) -> (&str, &'static str, &'static str) {
    let (inner, left) = match inner.strip_prefix('-') {
        Some(inner) => (inner, "-"),
        None => (inner, ""),
    };
    let (inner, right) = match inner.strip_suffix('-') {
        Some(inner) => (inner, "-"),
        None => (inner, ""),
    };
    (inner.trim(), left, right)
}

fn action(inner: &str, left: &str, right: &str, open: &mut Vec<Block>) -> Result<String, String> {
    let (word, rest) = inner.split_once(char::is_whitespace).unwrap_or((inner, ""));
    let rest = rest.trim();
    let tag = |text: String| format!("{{%{left} {text} {right}%}}");
    Ok(match (word, rest) {
        ("if", condition) => {
            open.push(Block::If);
            tag(format!("if {}", expression(condition)?))
        }
        ("with", value) => {
            open.push(Block::If);
            tag(format!("if {}", expression(value)?))
        }
        ("else", "") => tag("else".to_owned()),
        ("else", condition) => {
            let condition = condition.strip_prefix("if").unwrap_or(condition);
            tag(format!("elif {}", expression(condition.trim())?))
        }
        ("range", over) => {
            open.push(Block::For);
            tag(range(over)?)
        }
        ("end", "") => match open.pop() {
            Some(Block::If) => tag("endif".to_owned()),
            Some(Block::For) => tag("endfor".to_owned()),
            None => {
                return Err("could not parse template: {{ end }} without a beginning".to_owned());
            }
        },
        (_, _) => format!("{{{{{left} {} {right}}}}}", expression(inner)?),
    })
}

/// `$k, $v := .Map` or `.List`.
fn range(over: &str) -> Result<String, String> {
    let Some((names, value)) = over.split_once(":=") else {
        return Ok(format!("for it in {}", expression(over)?));
    };
    let value = expression(value.trim())?;
    let names: Vec<String> = names.split(',').map(|name| variable(name.trim())).collect();
    match names.as_slice() {
        [one] => Ok(format!("for {one} in {value}")),
        [key, one] => Ok(format!("for {key}, {one} in {value}|items")),
        _ => Err(format!("could not parse template: range over {over:?}")),
    }
}

fn variable(name: &str) -> String {
    name.trim_start_matches('$').to_owned()
}

/// A pipeline of Go's: `.A | upper`, `eq .A "b"`, `(…)`.
fn expression(text: &str) -> Result<String, String> {
    let tokens = tokens(text)?;
    let mut parts = tokens.split(|token| token == "|");
    let mut out = term(parts.next().unwrap_or_default())?;
    for filter in parts {
        out.push('|');
        out.push_str(&filter.join(" "));
    }
    Ok(out)
}

/// Words, texts in quotes, and parenthesised pieces.
fn tokens(text: &str) -> Result<Vec<String>, String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut characters = text.chars();
    let mut depth = 0usize;
    while let Some(c) = characters.next() {
        match c {
            '"' | '\'' | '`' => {
                word.push(if c == '`' { '"' } else { c });
                loop {
                    let next = characters.next().ok_or_else(|| {
                        "could not parse template: a text is not closed".to_owned()
                    })?;
                    if next == c {
                        break;
                    }
                    word.push(next);
                    if next == '\\' {
                        word.extend(characters.next());
                    }
                }
                word.push(if c == '`' { '"' } else { c });
            }
            '(' | '[' | '{' => {
                depth += 1;
                word.push(c);
            }
            ')' | ']' | '}' => {
                depth = depth.saturating_sub(1);
                word.push(c);
            }
            '|' if depth == 0 => {
                tokens.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
                tokens.push("|".to_owned());
            }
            c if c.is_whitespace() && depth == 0 => {
                tokens.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
            }
            c => word.push(c),
        }
    }
    tokens.extend((!word.is_empty()).then_some(word));
    Ok(tokens)
}

fn term(tokens: &[String]) -> Result<String, String> {
    let Some((first, arguments)) = tokens.split_first() else {
        return Ok(String::new());
    };
    let operator = |sign: &str| {
        let values: Result<Vec<String>, String> =
            arguments.iter().map(|text| operand(text)).collect();
        values.map(|values| format!("({})", values.join(sign)))
    };
    match (first.as_str(), arguments.len()) {
        ("eq", 2) => operator(" == "),
        ("eq", more) if more > 2 => {
            let value = operand(&arguments[0])?;
            let options: Result<Vec<String>, String> =
                arguments[1..].iter().map(|text| operand(text)).collect();
            Ok(format!("({value} in [{}])", options?.join(", ")))
        }
        ("ne", 2) => operator(" != "),
        ("lt", 2) => operator(" < "),
        ("le", 2) => operator(" <= "),
        ("gt", 2) => operator(" > "),
        ("ge", 2) => operator(" >= "),
        ("and", 2..) => operator(" and "),
        ("or", 2..) => operator(" or "),
        ("not", 1) => Ok(format!("(not {})", operand(&arguments[0])?)),
        ("len", 1) => Ok(format!("({}|length)", operand(&arguments[0])?)),
        // One word of Go's is an operand; several are minijinja's own language.
        (_, 0) => operand(first),
        (_, _) => tokens
            .iter()
            .map(|text| operand(text))
            .collect::<Result<Vec<_>, _>>()
            .map(|words| words.join(" ")),
    }
}

/// `.Field`, `$name`, `(…)`, or anything as it is.
fn operand(text: &str) -> Result<String, String> {
    if text == "." {
        return Ok("it".to_owned());
    }
    if let Some(field) = text.strip_prefix('.')
        && field.starts_with(|c: char| c.is_alphabetic() || c == '_')
    {
        return Ok(field.to_owned());
    }
    if text.starts_with('$') {
        return Ok(variable(text));
    }
    if let Some(inner) = text
        .strip_prefix('(')
        .and_then(|text| text.strip_suffix(')'))
    {
        return Ok(format!("({})", expression(inner)?));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> NotifyContext {
        NotifyContext {
            job_name: "build".into(),
            status: "success".into(),
            environment: [
                ("A".to_owned(), "1".to_owned()),
                ("B".to_owned(), "2".to_owned()),
            ]
            .into(),
            ..NotifyContext::default()
        }
    }

    fn rendered(message: &str) -> String {
        render(message, &data()).unwrap()
    }

    #[test]
    fn gos_fields_and_minijinjas_mean_the_same() {
        assert_eq!(
            rendered("{{ .JobName }} {{JobName}} {{.Status | upper}}"),
            "build build SUCCESS"
        );
        assert_eq!(
            rendered("{{ .Environment.A }}{{ Environment.B }}{{ .Environment.C }}"),
            "12"
        );
        assert_eq!(rendered("a {{- .JobName -}} b"), "abuildb");
    }

    #[test]
    fn gos_conditions_and_loops_are_translated() {
        let go = r#"{{ if eq .Status "success" }}ok{{ else if eq .Status "failed" }}bad{{ else }}?{{ end }}"#;
        assert_eq!(rendered(go), "ok");
        assert_eq!(
            rendered(r#"{{ if and (eq .JobName "build") (ne .Status "failed") }}y{{ end }}"#),
            "y"
        );
        assert_eq!(
            rendered("{{ range $k, $v := .Environment }}{{ $k }}={{ $v }};{{ end }}"),
            "A=1;B=2;"
        );
        assert_eq!(
            rendered("{% if Status == 'success' %}jinja{% endif %}"),
            "jinja"
        );
    }

    #[test]
    fn a_wrong_template_is_told_and_an_endless_one_is_stopped() {
        for wrong in [
            "{{ .JobName",
            "{{ if .A }}",
            "{{ end }}",
            "{% for %}",
            "{{ \"x }}",
        ] {
            let told = render(wrong, &data()).unwrap_err();
            assert!(told.contains("could not render message template"), "{told}");
        }
        let endless =
            "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
        assert!(render(endless, &data()).is_err());
    }
}
