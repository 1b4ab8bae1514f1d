//! What changes when one pipeline takes the place of another, thing by thing.

use super::format::yaml;
use super::model::Config;
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;
use std::fmt::Write as _;

/// Lines shown around a change.
const CONTEXT_LINES: usize = 3;
/// Most pairs of lines compared for one thing; above it, the old text goes and the new one comes.
const MAX_PAIRS: usize = 4_000_000;

/// One thing that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `job build`, `display configuration`.
    pub what: String,
    /// How.
    pub kind: ChangeKind,
    /// Its lines.
    pub lines: Vec<Line>,
}

/// How a thing changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was not there.
    Added,
    /// It is not there any more.
    Removed,
    /// It is another.
    Changed,
}

/// A line of the YAML of a thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// In both.
    Same(String),
    /// Only in the old one.
    Old(String),
    /// Only in the new one.
    New(String),
    /// Lines that are the same and not shown.
    Gap,
}

/// All changes, in Concourse's order of sections.
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    let mut changes = Vec::new();
    named(&mut changes, "group", &old.groups, &new.groups, |g| &g.name);
    named(
        &mut changes,
        "variable source",
        &old.var_sources,
        &new.var_sources,
        |v| &v.name,
    );
    named(
        &mut changes,
        "resource",
        &old.resources,
        &new.resources,
        |r| &r.name,
    );
    named(
        &mut changes,
        "resource type",
        &old.resource_types,
        &new.resource_types,
        |t| &t.name,
    );
    named(
        &mut changes,
        "prototype",
        &old.prototypes,
        &new.prototypes,
        |p| &p.name,
    );
    named(&mut changes, "job", &old.jobs, &new.jobs, |job| &job.name);
    single(
        &mut changes,
        "display configuration",
        &old.display,
        &new.display,
    );
    single(&mut changes, "user data", &old.user_data, &new.user_data);
    single(
        &mut changes,
        "max_in_flight",
        &old.max_in_flight,
        &new.max_in_flight,
    );
    single(
        &mut changes,
        "notifications",
        &old.notifications,
        &new.notifications,
    );
    single(&mut changes, "assertions", &old.assert, &new.assert);
    changes
}

/// The changes as text, with ANSI colours if wanted. Empty if there are none.
pub fn render(changes: &[Change], coloured: bool) -> String {
    let paint = |code: &str, text: &str| match coloured {
        true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        false => text.to_owned(),
    };
    let mut out = String::new();
    for change in changes {
        let (how, code) = match change.kind {
            ChangeKind::Added => ("has been added", "32"),
            ChangeKind::Removed => ("has been removed", "31"),
            ChangeKind::Changed => ("has changed", "33"),
        };
        let _ = writeln!(out, "{}", paint(code, &format!("{} {how}:", change.what)));
        for line in &change.lines {
            let text = match line {
                Line::Same(text) => format!("  {text}"),
                Line::Old(text) => paint("31", &format!("- {text}")),
                Line::New(text) => paint("32", &format!("+ {text}")),
                Line::Gap => "  ...".to_owned(),
            };
            let _ = writeln!(out, "{}", text.trim_end());
        }
        out.push('\n');
    }
    out
}

fn named<T: Serialize + PartialEq>(
    changes: &mut Vec<Change>,
    kind: &str,
    old: &[T],
    new: &[T],
    name: fn(&T) -> &String,
) {
    let index = |things: &[T]| -> HashMap<String, usize> {
        let names = things.iter().map(|thing| name(thing).clone());
        names.zip(0..).collect()
    };
    let (in_old, in_new) = (index(old), index(new));
    for was in old {
        let what = format!("{kind} {}", name(was));
        match in_new.get(name(was)).copied() {
            None => push(changes, what, Some(was), None),
            Some(at) if new[at] != *was => push(changes, what, Some(was), Some(&new[at])),
            Some(_) => {}
        }
    }
    for is in new {
        if !in_old.contains_key(name(is)) {
            push(changes, format!("{kind} {}", name(is)), None, Some(is));
        }
    }
    let order = |things: &[T]| things.iter().map(|t| name(t).clone()).collect::<Vec<_>>();
    let (was, is) = (order(old), order(new));
    let is_moved = was != is && {
        let (mut was, mut is) = (was.clone(), is.clone());
        was.sort();
        is.sort();
        was == is
    };
    if is_moved {
        push(changes, format!("order of {kind}s"), Some(&was), Some(&is));
    }
}

/// Null, an absent thing and an empty map are nothing.
fn single<T: Serialize + PartialEq>(changes: &mut Vec<Change>, what: &str, old: &T, new: &T) {
    if old == new {
        return;
    }
    let something = |thing| {
        let value = serde_json::to_value(thing).unwrap_or_default();
        match value {
            Value::Null => None,
            Value::Object(map) if map.is_empty() => None,
            value => Some(value),
        }
    };
    let (old, new) = (something(old), something(new));
    push(changes, what.to_owned(), old.as_ref(), new.as_ref());
}

fn push<T: Serialize>(changes: &mut Vec<Change>, what: String, old: Option<&T>, new: Option<&T>) {
    let lines = |thing: Option<&T>| -> Vec<String> {
        let value = thing.map(|thing| serde_json::to_value(thing).unwrap_or_default());
        let text = value.as_ref().map(yaml).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };
    let kind = match (old, new) {
        (None, _) => ChangeKind::Added,
        (_, None) => ChangeKind::Removed,
        _ => ChangeKind::Changed,
    };
    changes.push(Change {
        what,
        kind,
        lines: with_gaps(compare(&lines(old), &lines(new))),
    });
}

/// The longest common lines stay, what is left is old or new.
fn compare(old: &[String], new: &[String]) -> Vec<Line> {
    let before = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (mid_old, mid_new) = (&old[before..], &new[before..]);
    let after = mid_old
        .iter()
        .rev()
        .zip(mid_new.iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let mid_old = &mid_old[..mid_old.len() - after];
    let mid_new = &mid_new[..mid_new.len() - after];
    let mut lines: Vec<Line> = old[..before].iter().cloned().map(Line::Same).collect();
    lines.extend(middle(mid_old, mid_new));
    lines.extend(old[old.len() - after..].iter().cloned().map(Line::Same));
    lines
}

fn middle(old: &[String], new: &[String]) -> Vec<Line> {
    let (rows, columns) = (old.len(), new.len());
    let mut lines = Vec::new();
    let (mut i, mut j) = (0, 0);
    if rows.saturating_mul(columns) <= MAX_PAIRS {
        // common[i][j]: how many lines old[i..] and new[j..] have in common, in order.
        let mut common = vec![vec![0_u32; columns + 1]; rows + 1];
        for i in (0..rows).rev() {
            for j in (0..columns).rev() {
                common[i][j] = if old[i] == new[j] {
                    common[i + 1][j + 1] + 1
                } else {
                    common[i + 1][j].max(common[i][j + 1])
                };
            }
        }
        while i < rows && j < columns {
            if old[i] == new[j] {
                lines.push(Line::Same(old[i].clone()));
                (i, j) = (i + 1, j + 1);
            } else if common[i + 1][j] >= common[i][j + 1] {
                lines.push(Line::Old(old[i].clone()));
                i += 1;
            } else {
                lines.push(Line::New(new[j].clone()));
                j += 1;
            }
        }
    }
    lines.extend(old[i..].iter().cloned().map(Line::Old));
    lines.extend(new[j..].iter().cloned().map(Line::New));
    lines
}

/// Long runs of same lines are left out, but for those around a change.
fn with_gaps(lines: Vec<Line>) -> Vec<Line> {
    let is_change = |line: &Line| !matches!(line, Line::Same(_));
    let changed: Vec<usize> = (0..lines.len()).filter(|i| is_change(&lines[*i])).collect();
    let mut kept = vec![false; lines.len()];
    for at in changed {
        let from = at.saturating_sub(CONTEXT_LINES);
        let to = (at + CONTEXT_LINES + 1).min(lines.len());
        kept[from..to].fill(true);
    }
    let mut out = Vec::new();
    for (line, kept) in lines.into_iter().zip(kept) {
        if kept {
            out.push(line);
        } else if out.last() != Some(&Line::Gap) {
            out.push(Line::Gap);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use super::*;

    fn config(text: &str) -> Config {
        load("p.yml", text, &Default::default()).unwrap().config
    }

    #[test]
    fn each_thing_is_told_with_its_lines() {
        let old = config(
            "resources: [{name: r, type: git, source: {uri: a}}]\njobs: [{name: a, plan: [{get: r}]}, {name: gone}]",
        );
        let new = config(
            "resources: [{name: r, type: git, source: {uri: b}}]\njobs: [{name: a, serial: true, plan: [{get: r}]}, {name: new}]\ndisplay: {background_image: x}",
        );
        assert_eq!(
            render(&diff(&old, &new), false),
            "resource r has changed:\n  name: r\n  source:\n-   uri: a\n+   uri: b\n  type: git\n\n\
             job a has changed:\n  name: a\n  plan:\n  - get: r\n+ serial: true\n\n\
             job gone has been removed:\n- name: gone\n\n\
             job new has been added:\n+ name: new\n\n\
             display configuration has been added:\n+ background_image: x\n\n"
        );
        assert!(render(&diff(&old, &new), true).contains("\u{1b}[31m-   uri: a\u{1b}[0m"));
        assert!(diff(&new, &new).is_empty());
    }

    #[test]
    fn another_order_is_a_change_and_long_same_parts_are_left_out() {
        let jobs = |first: &str, second: &str| {
            config(&format!("jobs: [{{name: {first}}}, {{name: {second}}}]"))
        };
        let changes = diff(&jobs("a", "b"), &jobs("b", "a"));
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].what, "order of jobs");
        let many = |last: &str| {
            let tags: Vec<String> = (0..40).map(|i| format!("t{i}")).collect();
            config(&format!(
                "jobs: [{{name: a, serial_groups: [{}, {last}]}}]",
                tags.join(",")
            ))
        };
        let changes = diff(&many("x"), &many("y"));
        assert_eq!(changes[0].lines[0], Line::Gap);
        assert_eq!(changes[0].lines.len(), 1 + CONTEXT_LINES + 2);
    }
}
