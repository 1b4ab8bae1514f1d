//! Message templates: minijinja's expressions, conditions and loops, and the part of Go's language that PocketCI's
//! documents use, translated into them.
//!
//! Translated are actions that begin like Go's: `{{ .Field }}`, `{{ .Map.key | upper }}`, `{{ if }}`, `{{ else }}`,
//! `{{ else if }}`, `{{ range }}`, `{{ end }}`, the comparisons `eq ne lt le gt ge`, `and`, `or`, `not`, `len`, and `{{- -}}`.
//!
//! A template is the author's, and is rendered in the agent's own process: nothing in it may grow. There are no variables
//! to set, no macros, no repetition of texts, a few filters that do not lengthen, a bound of steps and one of the output.

use crate::js::request::NotifyContext;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value, context, filters};
use std::io::{self, Write};

/// Steps of the template engine: a message that needs more never ends.
const FUEL: u64 = 20_000;
/// Largest message, in bytes.
const MAX_MESSAGE_BYTES: usize = 64 << 10;
/// Tags of minijinja's that cannot make anything grow.
const TAGS: [&str; 6] = ["if", "elif", "else", "endif", "for", "endfor"];

/// The message.
pub(super) fn render(message: &str, data: &NotifyContext) -> Result<String, String> {
    let failed = |error: String| format!("could not render message template: {error}");
    if message.len() > MAX_MESSAGE_BYTES {
        return Err(failed(format!(
            "it has more than {MAX_MESSAGE_BYTES} bytes"
        )));
    }
    let translated = translate(message).map_err(failed)?;
    check(&translated).map_err(failed)?;
    let environment = environment();
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
    let mut shown = Bounded(Vec::new());
    let rendered = environment
        .template_from_str(&translated)
        .and_then(|template| template.render_captured_to(data, &mut shown).map(|_| ()));
    match rendered {
        Ok(()) => Ok(String::from_utf8_lossy(&shown.0).into_owned()),
        Err(_) if shown.0.len() >= MAX_MESSAGE_BYTES => Err(failed(format!(
            "the message has more than {MAX_MESSAGE_BYTES} bytes"
        ))),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Takes as much as a message may have, and refuses the rest.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = MAX_MESSAGE_BYTES - self.0.len();
        if bytes.len() > room {
            self.0.extend_from_slice(&bytes[..room]);
            return Err(io::Error::other("the message is too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An engine with what cannot make a text grow.
fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_fuel(Some(FUEL));
    environment.add_filter("upper", filters::upper);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("title", filters::title);
    environment.add_filter("capitalize", filters::capitalize);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("default", filters::default);
    environment.add_filter("length", filters::length);
    environment.add_filter("first", filters::first);
    environment.add_filter("last", filters::last);
    environment.add_filter("items", filters::items);
    environment.add_filter("int", filters::int);
    environment.add_filter("float", filters::float);
    environment.add_filter("round", filters::round);
    environment
}

/// Refuses tags and operators that could make something grow without end.
fn check(template: &str) -> Result<(), String> {
    let mut rest = template;
    while let Some(start) = rest.find("{{").into_iter().chain(rest.find("{%")).min() {
        let (is_tag, code) = (rest[start..].starts_with("{%"), &rest[start + 2..]);
        let end = code_end(code, if is_tag { "%}" } else { "}}" })?;
        let inner = code[..end].trim_start_matches(['-', '+']).trim();
        let word = inner
            .split(|c: char| !c.is_alphanumeric())
            .next()
            .unwrap_or_default();
        if is_tag && !TAGS.contains(&word) {
            return Err(format!(
                "the tag {word:?} is not possible in a message; {} are",
                TAGS.join(", ")
            ));
        }
        rest = &code[end..];
    }
    Ok(())
}

/// Where the code ends; outside of texts, what multiplies or joins texts is refused.
fn code_end(code: &str, close: &str) -> Result<usize, String> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in code.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if code[at..].starts_with(close) => return Ok(at),
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == '*' || c == '~' => {
                return Err(format!("the operator {c} is not possible in a message"));
            }
            None => {}
        }
    }
    Err("could not parse template: a tag is not closed".to_owned())
}

/// What `{{ end }}` closes; a loop names what `.` means in it.
enum Block {
    If,
    For(String),
}

/// What `.` means: the data, or the element of the innermost loop.
fn dot(open: &[Block]) -> Option<&str> {
    open.iter().rev().find_map(|block| match block {
        Block::For(name) => Some(name.as_str()),
        Block::If => None,
    })
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
            let condition = expression(condition, dot(open))?;
            open.push(Block::If);
            tag(format!("if {condition}"))
        }
        ("with" | "define" | "template" | "block" | "break" | "continue", _) => {
            return Err(format!(
                "could not parse template: {{{{ {word} }}}} is not possible in a message; use if and range"
            ));
        }
        ("else", "") => tag("else".to_owned()),
        ("else", condition) => {
            let condition = condition.strip_prefix("if").unwrap_or(condition);
            tag(format!("elif {}", expression(condition.trim(), dot(open))?))
        }
        ("range", over) => {
            let (opened, element) = range(over, dot(open))?;
            open.push(Block::For(element));
            tag(opened)
        }
        ("end", "") => match open.pop() {
            Some(Block::If) => tag("endif".to_owned()),
            Some(Block::For(_)) => tag("endfor".to_owned()),
            None => {
                return Err("could not parse template: {{ end }} without a beginning".to_owned());
            }
        },
        (_, _) => format!("{{{{{left} {} {right}}}}}", expression(inner, dot(open))?),
    })
}

/// `$k, $v := .Map`, `$v := .List` or `.List`: the tag, and the element's name.
fn range(over: &str, dot: Option<&str>) -> Result<(String, String), String> {
    let Some((names, value)) = over.split_once(":=") else {
        return Ok((
            format!("for it in {}", expression(over, dot)?),
            "it".to_owned(),
        ));
    };
    let value = expression(value.trim(), dot)?;
    let names: Vec<String> = names.split(',').map(|name| variable(name.trim())).collect();
    match names.as_slice() {
        [one] => Ok((format!("for {one} in {value}"), one.clone())),
        [key, one] => Ok((format!("for {key}, {one} in {value}|items"), one.clone())),
        _ => Err(format!("could not parse template: range over {over:?}")),
    }
}

fn variable(name: &str) -> String {
    name.trim_start_matches('$').to_owned()
}

/// A pipeline of Go's: `.A | upper`, `eq .A "b"`, `(…)`.
fn expression(text: &str, dot: Option<&str>) -> Result<String, String> {
    let tokens = tokens(text)?;
    let mut parts = tokens.split(|token| token == "|");
    let mut out = term(parts.next().unwrap_or_default(), dot)?;
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

fn term(tokens: &[String], dot: Option<&str>) -> Result<String, String> {
    let Some((first, arguments)) = tokens.split_first() else {
        return Ok(String::new());
    };
    let operator = |sign: &str| {
        let values: Result<Vec<String>, String> =
            arguments.iter().map(|text| operand(text, dot)).collect();
        values.map(|values| format!("({})", values.join(sign)))
    };
    match (first.as_str(), arguments.len()) {
        ("eq", 2) => operator(" == "),
        ("eq", more) if more > 2 => {
            let value = operand(&arguments[0], dot)?;
            let options: Result<Vec<String>, String> = arguments[1..]
                .iter()
                .map(|text| operand(text, dot))
                .collect();
            Ok(format!("({value} in [{}])", options?.join(", ")))
        }
        ("ne", 2) => operator(" != "),
        ("lt", 2) => operator(" < "),
        ("le", 2) => operator(" <= "),
        ("gt", 2) => operator(" > "),
        ("ge", 2) => operator(" >= "),
        ("and", 2..) => operator(" and "),
        ("or", 2..) => operator(" or "),
        ("not", 1) => Ok(format!("(not {})", operand(&arguments[0], dot)?)),
        ("len", 1) => Ok(format!("({}|length)", operand(&arguments[0], dot)?)),
        // One word of Go's is an operand; several are minijinja's own language.
        (_, 0) => operand(first, dot),
        (_, _) => tokens
            .iter()
            .map(|text| operand(text, dot))
            .collect::<Result<Vec<_>, _>>()
            .map(|words| words.join(" ")),
    }
}

/// `.Field`, `$name`, `(…)`, or anything as it is.
fn operand(text: &str, dot: Option<&str>) -> Result<String, String> {
    let is_name = |name: &str| name.starts_with(|c: char| c.is_alphabetic() || c == '_');
    if text == "." {
        return Ok(dot.unwrap_or("TaskResults").to_owned());
    }
    if let Some(field) = text.strip_prefix('.').filter(|field| is_name(field)) {
        return Ok(match dot {
            Some(element) => format!("{element}.{field}"),
            None => field.to_owned(),
        });
    }
    if let Some(field) = text.strip_prefix("$.").filter(|field| is_name(field)) {
        return Ok(field.to_owned());
    }
    if text.starts_with('$') {
        return Ok(variable(text));
    }
    if let Some(inner) = text
        .strip_prefix('(')
        .and_then(|text| text.strip_suffix(')'))
    {
        return Ok(format!("({})", expression(inner, dot)?));
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
    fn in_a_loop_the_dot_is_the_element() {
        let data = NotifyContext {
            status: "failed".into(),
            task_results: serde_json::from_str(
                r#"{"list": [{"Name": "a", "Status": "ok"}, {"Name": "b", "Status": "bad"}]}"#,
            )
            .unwrap(),
            ..NotifyContext::default()
        };
        let go =
            "{{ range .TaskResults.list }}{{ .Name }}={{ .Status }} ({{ $.Status }});{{ end }}";
        assert_eq!(render(go, &data).unwrap(), "a=ok (failed);b=bad (failed);");
    }

    #[test]
    fn a_wrong_template_is_told_and_none_can_grow() {
        for wrong in [
            "{{ .JobName",
            "{{ if .A }}",
            "{{ end }}",
            "{% for %}",
            "{{ \"x }}",
            "{{ with .A }}{{ end }}",
            "{% set x = 'a' %}",
            "{% macro m() %}{% endmacro %}",
            "{% raw %}{% endraw %}",
            "{{ 'x' * 1000000000 }}",
            "{{ JobName ~ JobName }}",
            "{{ JobName | replace('a', 'aaaa') }}",
            "{% for a in range(9999) %}x{% endfor %}",
            "{% if '%}' == 'x' * 99999999 %}{% endif %}",
        ] {
            let told = render(wrong, &data()).unwrap_err();
            assert!(
                told.contains("could not render message template"),
                "{wrong}: {told}"
            );
        }
        assert_eq!(rendered("*bold* ~ {{ '*~' }} 3 * 4"), "*bold* ~ *~ 3 * 4");
        let large = NotifyContext {
            job_name: "x".repeat(60_000),
            ..data()
        };
        let told = render("{% for a in JobName %}{{ JobName }}{% endfor %}", &large).unwrap_err();
        assert!(
            told.contains("more than 65536 bytes") || told.contains("could not render"),
            "{told}"
        );
        assert!(
            render("{{ JobName }}{{ JobName }}", &large)
                .unwrap_err()
                .contains("more than 65536 bytes")
        );
    }
}
