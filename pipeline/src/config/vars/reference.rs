//! What stands between the parentheses: `source:path.field.field`, segments `"quoted"` where they hold `.` or `:`.

use super::VarError;
use std::fmt;

/// A var that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Reference {
    /// The named source; `.` for local vars; empty for none.
    pub source: String,
    /// The var.
    pub path: String,
    /// Fields of its value.
    pub fields: Vec<String>,
}

impl Reference {
    /// Reads the text between the parentheses.
    ///
    /// # Errors
    /// [`VarError::Invalid`].
    pub fn parse(name: &str) -> Result<Self, VarError> {
        let invalid = |why| VarError::Invalid {
            name: name.to_owned(),
            why,
        };
        if !name.matches('"').count().is_multiple_of(2) {
            return Err(invalid("contains unclosed quotes"));
        }
        let (source, rest) = match unquoted(name, ':') {
            Some(at) => (segment(&name[..at]), &name[at + 1..]),
            None => (String::new(), name),
        };
        let mut segments = Vec::new();
        let mut rest = Some(rest);
        while let Some(text) = rest {
            let (own, after) = match unquoted(text, '.') {
                Some(at) => (&text[..at], Some(&text[at + 1..])),
                None => (text, None),
            };
            let own = segment(own);
            if own.is_empty() {
                return Err(invalid("empty field"));
            }
            segments.push(own);
            rest = after;
        }
        let path = segments.remove(0);
        Ok(Self {
            source,
            path,
            fields: segments,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.source.is_empty() {
            write!(f, "{}:", self.source)?;
        }
        write_segment(f, &self.path)?;
        for field in &self.fields {
            f.write_str(".")?;
            write_segment(f, field)?;
        }
        Ok(())
    }
}

fn write_segment(f: &mut fmt::Formatter<'_>, segment: &str) -> fmt::Result {
    if segment.contains([',', '.', ':', '/', ' ']) {
        write!(f, "{segment:?}")
    } else {
        f.write_str(segment)
    }
}

fn segment(text: &str) -> String {
    text.trim().replace('"', "")
}

fn unquoted(text: &str, wanted: char) -> Option<usize> {
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        if c == '"' {
            quoted = !quoted;
        } else if c == wanted && !quoted {
            return Some(at);
        }
    }
    None
}
