//! Quotes, brackets and line breaks of shown values.

/// Characters of a string inside an object.
const MAX_STRING_CHARS: usize = 10_000;
/// An object that fits is shown on one line.
const ONE_LINE_CHARS: usize = 72;

/// A string as source text.
pub(super) fn quote(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_STRING_CHARS).collect();
    let cut = if shown.len() < text.len() { "…" } else { "" };
    shown = shown
        .replace('\\', "\\\\")
        .replace('\n', "\\n")
        .replace('\r', "\\r")
        .replace('\t', "\\t");
    let quote = if !shown.contains('\'') {
        '\''
    } else if !shown.contains('"') {
        '"'
    } else {
        '`'
    };
    format!("{quote}{shown}{quote}{cut}")
}

/// Whether a property's name needs no quotes.
pub(super) fn is_identifier(key: &str) -> bool {
    !key.starts_with(|c: char| c.is_ascii_digit())
        && !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_alphanumeric() || c == '_' || c == '$')
}

/// Entries in brackets: on one line when they fit, else one a line.
pub(super) fn layout(prefix: &str, open: char, entries: Vec<String>, close: char) -> String {
    if entries.is_empty() {
        return format!("{prefix}{open}{close}");
    }
    let chars: usize = entries.iter().map(|entry| entry.len() + 2).sum();
    if chars + prefix.len() <= ONE_LINE_CHARS && !entries.iter().any(|entry| entry.contains('\n')) {
        return format!("{prefix}{open} {} {close}", entries.join(", "));
    }
    let entries: Vec<String> = entries
        .iter()
        .map(|entry| entry.replace('\n', "\n  "))
        .collect();
    format!("{prefix}{open}\n  {}\n{close}", entries.join(",\n  "))
}
