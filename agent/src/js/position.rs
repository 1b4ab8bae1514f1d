//! From positions in the executed JavaScript to the author's own lines.

use super::Program;
use super::globals::lazy::PRELUDE;
use sourcemap::{DecodedMap, decode_slice};
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Lines shown before and after the one in question.
const FRAME_CONTEXT_LINES: usize = 2;
/// A longer line is cut: minified code would flood the log.
const FRAME_LINE_CHARS: usize = 160;
/// Stack lines worth mapping; deep recursion repeats itself.
const MAX_STACK_LINES: usize = 50;

/// A stack in the author's lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Mapped {
    /// One `    at …` a line, without a final line end.
    pub stack: String,
    /// The innermost line of the author's with its neighbours; empty when unknown.
    pub frame: String,
}

/// Maps QuickJS's stack text. Garbage in the map or the stack is left as it is.
pub(super) fn map_stack(program: &Program, stack: &str) -> Mapped {
    let mut files = Files::new(program);
    let mut mapped = Mapped::default();
    // Our own frames say nothing to the author.
    let mut lines = stack
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.contains(PRELUDE));
    for line in lines.by_ref().take(MAX_STACK_LINES) {
        let line = match files.place(line) {
            None => line.to_owned(),
            Some((file, place)) => {
                let origin = original(file, &place);
                if mapped.frame.is_empty() {
                    mapped.frame = code_frame(&origin.text, origin.line, origin.column);
                }
                let Place { before, after, .. } = place;
                format!(
                    "{before}{}:{}:{}{after}",
                    origin.file, origin.line, origin.column
                )
            }
        };
        if !mapped.stack.is_empty() {
            mapped.stack.push('\n');
        }
        mapped.stack.push_str(&line);
    }
    let more = lines.count();
    if more > 0 {
        let _ = write!(mapped.stack, "\n    … {more} more"); // writing to a String cannot fail
    }
    mapped
}

/// A file that positions may name; its map is read when the first one does.
struct File<'a> {
    name: &'a str,
    source_map: Option<&'a str>,
    /// For code without a map, which is its own source.
    javascript: &'a str,
    source: &'a str,
    map: Option<Option<DecodedMap>>,
}

/// The program and what it imports.
struct Files<'a>(Vec<File<'a>>);

impl<'a> Files<'a> {
    fn new(program: &'a Program) -> Self {
        let entry = File {
            name: &program.file_name,
            source_map: program.source_map.as_deref(),
            javascript: &program.javascript,
            source: &program.source,
            map: None,
        };
        let imported = program.modules.iter().map(|module| File {
            name: &module.name,
            source_map: module.source_map.as_deref(),
            javascript: &module.javascript,
            source: &module.source,
            map: None,
        });
        Self(std::iter::once(entry).chain(imported).collect())
    }

    /// The file that a line of a stack names, and where.
    fn place<'t>(&mut self, line: &'t str) -> Option<(&File<'a>, Place<'t>)> {
        let (index, found) = self
            .0
            .iter()
            .enumerate()
            .find_map(|(index, file)| Some((index, place(line, file.name)?)))?;
        let file = self.0.get_mut(index)?;
        file.map
            .get_or_insert_with(|| file.source_map.and_then(parse));
        Some((file, found))
    }
}

fn parse(json: &str) -> Option<DecodedMap> {
    // The map comes from the author's side of the world: no panic of the decoder may reach the job.
    catch_unwind(AssertUnwindSafe(|| decode_slice(json.as_bytes()).ok()))
        .ok()
        .flatten()
}

/// `    at name (file:line:column)`, taken apart; line and column count from 1.
struct Place<'a> {
    before: &'a str,
    line: u32,
    column: u32,
    after: &'a str,
}

fn place<'a>(text: &'a str, file_name: &str) -> Option<Place<'a>> {
    let (body, after) = match text.strip_suffix(')') {
        Some(body) => (body, ")"),
        None => (text, ""),
    };
    let (body, column) = body.rsplit_once(':')?;
    let (body, line) = body.rsplit_once(':')?;
    let before = body.strip_suffix(file_name)?;
    if !(before.ends_with('(') || before.ends_with(' ')) {
        return None;
    }
    Some(Place {
        before,
        line: line.parse().ok()?,
        column: column.parse().ok()?,
        after,
    })
}

struct Origin {
    file: String,
    text: String,
    line: u32,
    column: u32,
}

fn original(file: &File<'_>, place: &Place<'_>) -> Origin {
    let text = if file.source_map.is_some() {
        String::new()
    } else {
        file.javascript.to_owned()
    };
    let unmapped = Origin {
        file: file.name.to_owned(),
        text,
        line: place.line,
        column: place.column,
    };
    let Some(map) = file.map.as_ref().and_then(Option::as_ref) else {
        return unmapped;
    };
    let (line, column) = (place.line.saturating_sub(1), place.column.saturating_sub(1));
    let found = catch_unwind(AssertUnwindSafe(|| {
        let token = map.lookup_token(line, column)?;
        // The nearest mapping may be lines before: that is a guess, not a position.
        if token.get_dst_line() != line || !token.has_source() {
            return None;
        }
        let text = token
            .get_source_view()
            .map_or_else(|| file.source.to_owned(), |view| view.source().to_owned());
        let name = token
            .get_source()
            .filter(|name| !name.is_empty())
            .unwrap_or(file.name)
            .to_owned();
        Some(Origin {
            file: name,
            text,
            line: token.get_src_line().saturating_add(1),
            column: token.get_src_col().saturating_add(1),
        })
    }));
    found.ok().flatten().unwrap_or(unmapped)
}

/// A few lines of `text` around a position, with a caret under it; empty when the position is outside.
fn code_frame(text: &str, line: u32, column: u32) -> String {
    let Some(index) = (line as usize).checked_sub(1) else {
        return String::new();
    };
    let first = index.saturating_sub(FRAME_CONTEXT_LINES);
    let lines: Vec<(usize, &str)> = text
        .lines()
        .enumerate()
        .skip(first)
        .take(index - first + 1 + FRAME_CONTEXT_LINES)
        .collect();
    if !lines.iter().any(|(at, _)| *at == index) {
        return String::new();
    }
    let width = lines.last().map_or(0, |(at, _)| (at + 1).to_string().len());
    let mut frame = String::new();
    for (at, line) in lines {
        let shown: String = line.chars().take(FRAME_LINE_CHARS).collect();
        let mark = if at == index { '>' } else { ' ' };
        let row = format!("{mark} {:>width$} | {shown}", at + 1);
        frame.push_str(row.trim_end());
        frame.push('\n');
        let before = (column as usize).saturating_sub(1);
        if at == index && before < FRAME_LINE_CHARS {
            // Tabs stay tabs, so that the caret stands where the eye expects it.
            let pad: String = shown
                .chars()
                .take(before)
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            frame.push_str(&format!("  {:>width$} | {pad}^\n", ""));
        }
    }
    frame.truncate(frame.trim_end().len());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(javascript: &str, source_map: Option<&str>) -> Program {
        Program {
            file_name: "main.ts".into(),
            javascript: javascript.into(),
            source_map: source_map.map(Into::into),
            source: String::new(),
            modules: Vec::new(),
        }
    }

    #[test]
    fn without_a_map_the_javascript_is_the_source() {
        let mapped = map_stack(
            &program("a\nb\n  c()\nd\n", None),
            "    at f (main.ts:3:3)\n    at run (native)\n",
        );
        assert_eq!(mapped.stack, "    at f (main.ts:3:3)\n    at run (native)");
        assert_eq!(
            mapped.frame,
            "  1 | a\n  2 | b\n> 3 |   c()\n    |   ^\n  4 | d"
        );
    }

    #[test]
    fn garbage_changes_nothing_and_never_panics() {
        for map in [
            "",
            "{}",
            "[]",
            "{\"version\":3,\"sources\":[],\"names\":[],\"mappings\":\"////\"}",
            "\u{0}",
        ] {
            for stack in [
                "",
                "main.ts:1:1",
                "    at (main.ts:0:0)",
                " (main.ts:99999999999:1)",
                " (main.ts:4294967295:1)",
                ":::",
                ")",
            ] {
                let mapped = map_stack(&program("x", Some(map)), stack);
                assert_eq!(mapped.frame, "", "{map} {stack}");
            }
        }
    }

    #[test]
    fn positions_outside_the_text_have_no_frame() {
        assert_eq!(code_frame("a", 0, 0), "");
        assert_eq!(code_frame("a", 2, 1), "");
        assert_eq!(code_frame("a", u32::MAX, u32::MAX), "");
    }
}
