//! A fault in a pipeline file, shown where it is: file, line, column and the lines around it.

use std::fmt;

/// Lines shown before and after the faulty one.
const CONTEXT_LINES: u32 = 2;

/// Longest part of a source line a frame shows, in characters; minified files have lines of a megabyte.
const MAX_FRAME_COLUMNS: usize = 160;

/// Characters kept left of the caret when a line is too long to be shown whole.
const COLUMNS_BEFORE_CARET: usize = 80;

/// One fault in a pipeline file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Name of the file, as the author gave it.
    pub file: String,
    /// Line, counted from 1.
    pub line: u32,
    /// Column in characters (not bytes), counted from 1.
    pub column: u32,
    /// What is wrong and, where known, what to do about it.
    pub message: String,
    /// The source around the fault, ready to print; empty when there is no source to show.
    pub frame: String,
}

impl Diagnostic {
    /// A diagnostic at a byte offset of `source`. An offset outside the text means its end.
    pub fn at_offset(file: &str, source: &str, offset: usize, message: impl Into<String>) -> Self {
        let (line, column) = line_and_column(source, offset);
        Self {
            file: file.to_owned(),
            line,
            column,
            message: message.into(),
            frame: code_frame(source, line, column),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}:{}: {}",
            self.file, self.line, self.column, self.message
        )?;
        if !self.frame.is_empty() {
            write!(f, "\n{}", self.frame)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

/// The source lines around a position, with a caret under the column.
///
/// `line` and `column` count from 1, `column` in characters. Returns an empty string when `source` has no such line.
pub fn code_frame(source: &str, line: u32, column: u32) -> String {
    let lines = lines_around(source, line);
    if !lines.iter().any(|(number, _)| *number == line) {
        return String::new();
    }
    let caret = column.max(1) as usize - 1;
    let start = if caret < MAX_FRAME_COLUMNS {
        0
    } else {
        caret - COLUMNS_BEFORE_CARET
    };
    let width = lines
        .last()
        .map_or(1, |(number, _)| number.to_string().len());
    let mut frame = String::new();
    for (number, text) in lines {
        let mark = if number == line { '>' } else { ' ' };
        let shown: String = text.chars().skip(start).take(MAX_FRAME_COLUMNS).collect();
        push_line(&mut frame, &format!("{mark} {number:width$} | {shown}"));
        if number == line {
            // Tabs are repeated so that the caret stands under its column whatever a tab's width is.
            let pad: String = text
                .chars()
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .chain(std::iter::repeat(' '))
                .skip(start)
                .take(caret - start)
                .collect();
            push_line(&mut frame, &format!("  {:width$} | {pad}^", ""));
        }
    }
    frame
}

fn push_line(frame: &mut String, line: &str) {
    if !frame.is_empty() {
        frame.push('\n');
    }
    frame.push_str(line.trim_end());
}

/// Line and column (both from 1, the column in characters) of a byte offset.
pub(crate) fn line_and_column(source: &str, offset: usize) -> (u32, u32) {
    let offset = source.floor_char_boundary(offset);
    let mut line = 1;
    let mut start = 0;
    for (end, next) in line_breaks(source) {
        if offset < next {
            return (line, count_chars(&source[start..offset.min(end)]) + 1);
        }
        line += 1;
        start = next;
    }
    (line, count_chars(&source[start..offset]) + 1)
}

fn count_chars(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX)
}

fn lines_around(source: &str, line: u32) -> Vec<(u32, &str)> {
    let first = line.saturating_sub(CONTEXT_LINES).max(1);
    let count = line.saturating_add(CONTEXT_LINES).saturating_sub(first) + 1;
    (first..)
        .zip(lines(source).skip(first as usize - 1))
        .take(count as usize)
        .collect()
}

fn lines(source: &str) -> impl Iterator<Item = &str> {
    let mut start = 0;
    line_breaks(source)
        .chain(std::iter::once((source.len(), source.len())))
        .map(move |(end, next)| {
            let text = &source[start..end];
            start = next;
            text
        })
}

/// Byte ranges of the line breaks. They are the five of ECMAScript (2023, section 12.3), because the source map
/// counts its lines by the same rule.
fn line_breaks(source: &str) -> impl Iterator<Item = (usize, usize)> {
    let bytes = source.as_bytes();
    source.char_indices().filter_map(move |(at, c)| match c {
        '\n' | '\u{2028}' | '\u{2029}' => {
            let start = if c == '\n' && at > 0 && bytes[at - 1] == b'\r' {
                at - 1
            } else {
                at
            };
            Some((start, at + c.len_utf8()))
        }
        '\r' if bytes.get(at + 1) != Some(&b'\n') => Some((at, at + 1)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_two_lines_of_context_and_a_caret() {
        let diagnostic = Diagnostic::at_offset("p.ts", "a\nb\nc = ;\nd\ne\nf", 8, "no value");
        assert_eq!(
            diagnostic.to_string(),
            "p.ts:3:5: no value\n  1 | a\n  2 | b\n> 3 | c = ;\n    |     ^\n  4 | d\n  5 | e"
        );
    }

    #[test]
    fn tabs_are_repeated_above_the_caret() {
        let frame = code_frame("\t\tx y", 1, 5);
        assert_eq!(frame, "> 1 | \t\tx y\n    | \t\t  ^");
    }

    #[test]
    fn columns_count_characters_not_bytes() {
        let source = "const é = '😀'; !";
        let at = source.find('!').expect("there is one");
        assert_eq!(line_and_column(source, at), (1, 16));
    }

    #[test]
    fn every_line_break_of_ecmascript_counts_once() {
        let source = "1\n2\r\n3\r4\u{2028}5\u{2029}6";
        let at = source.find('6').expect("there is one");
        assert_eq!(line_and_column(source, at), (6, 1));
    }

    #[test]
    fn a_megabyte_line_gives_a_short_frame() {
        let source = "x".repeat(1 << 20);
        let frame = code_frame(&source, 1, 500_000);
        assert!(frame.len() < 400, "{}", frame.len());
        assert!(frame.ends_with('^'));
    }

    #[test]
    fn a_position_outside_the_text_does_not_panic() {
        assert_eq!(code_frame("a", 9, 9), "");
        assert_eq!(code_frame("a", 0, 0), "");
        assert_eq!(code_frame("", 1, 1), "> 1 |\n    | ^");
        assert!(code_frame("a", 1, u32::MAX).len() < 400);
        assert_eq!(line_and_column("é", 1), (1, 1));
        assert_eq!(line_and_column("ab", 99), (1, 3));
    }

    #[test]
    fn line_numbers_are_right_aligned() {
        let source = "l\n".repeat(12);
        assert!(code_frame(&source, 9, 1).contains(">  9 | l\n     | ^\n  10 | l"));
    }
}
