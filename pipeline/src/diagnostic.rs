//! A fault in an author's file: where, what, and the lines around it.

use std::fmt;

/// Lines shown before the faulty one.
const CONTEXT_LINES: usize = 2;
/// Longest part of a line shown, in characters; minified files have very long lines.
const MAX_LINE_CHARS: usize = 160;

/// A fault in an author's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The author's name of the file.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong, and the way out where there is one.
    pub message: String,
    /// The faulty line with those before it, and a caret.
    pub frame: String,
}

impl Diagnostic {
    /// A fault at a byte offset of `source`.
    pub(crate) fn at(file: &str, source: &str, offset: usize, message: impl Into<String>) -> Self {
        let offset = source.floor_char_boundary(offset.min(source.len()));
        let before = &source[..offset];
        let line = before.matches('\n').count() + 1;
        let column = before[before.rfind('\n').map_or(0, |at| at + 1)..]
            .chars()
            .count()
            + 1;
        Self {
            file: file.to_owned(),
            line,
            column,
            message: message.into(),
            frame: frame(source, line, column),
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

/// The line (from 1) with those before it and a caret under the column (from 1, in characters); empty if there is no
/// such line.
pub fn frame(source: &str, line: usize, column: usize) -> String {
    let lines: Vec<&str> = source.lines().collect();
    if line == 0 || line > lines.len().max(1) {
        return String::new();
    }
    let width = line.to_string().len();
    let mut frame = String::new();
    for number in line.saturating_sub(CONTEXT_LINES).max(1)..=line {
        let text = lines.get(number - 1).copied().unwrap_or_default();
        let mark = if number == line { '>' } else { ' ' };
        frame.push_str(&format!("{mark} {number:width$} | {}\n", shown(text)));
    }
    // Tabs stay tabs, so that the caret stands under its character whatever their width.
    let text = lines.get(line - 1).copied().unwrap_or_default();
    let indent: String = text
        .chars()
        .chain(std::iter::repeat(' '))
        .take(column.saturating_sub(1).min(MAX_LINE_CHARS))
        .map(|c| if c == '\t' { '\t' } else { ' ' })
        .collect();
    frame.push_str(&format!("  {:width$} | {indent}^", ""));
    frame
}

fn shown(line: &str) -> String {
    let mut text: String = line.chars().take(MAX_LINE_CHARS).collect();
    if text.len() < line.len() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_points_at_the_character() {
        let fault = Diagnostic::at(
            "a.ts",
            "const a = 1;\n\tconst é = ;\n",
            24,
            "expected an expression",
        );
        assert_eq!((fault.line, fault.column), (2, 11));
        assert_eq!(
            fault.to_string(),
            "a.ts:2:11: expected an expression\n  1 | const a = 1;\n> 2 | \tconst é = ;\n    | \t         ^"
        );
    }

    #[test]
    fn odd_places_do_not_panic() {
        for (source, offset) in [("", 0), ("", 9), ("é", 1), ("\n\n", 2), ("a", 1)] {
            let _ = Diagnostic::at("x", source, offset, "m").to_string();
        }
        assert_eq!(frame("a", 0, 0), "");
        assert_eq!(frame("a", 5, 1), "");
    }
}
