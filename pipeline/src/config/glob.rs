//! Globs over job names, as Concourse's library reads them: `*`, `?`, `[abc]`, `[!a-z]`, `{one,two*}`, `\` escapes.

/// A compiled glob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Char(char),
    /// `?`
    One,
    /// `*`
    Many,
    /// `[…]`
    Set {
        not: bool,
        set: Set,
    },
    /// `{…,…}`
    Any(Vec<Glob>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Set {
    Range(char, char),
    Listed(Vec<char>),
}

/// The text is no glob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidGlob;

/// Most steps of one match. A name that needs more does not match: globs with many stars could take for ever.
const MAX_STEPS: usize = 100_000;
/// Deepest braces.
const MAX_BRACES: usize = 16;

impl Glob {
    /// Compiles a glob.
    ///
    /// # Errors
    /// A bracket is not closed, or its content is neither a range nor a list.
    pub fn compile(text: &str) -> Result<Self, InvalidGlob> {
        let chars: Vec<char> = text.chars().collect();
        let mut reader = Reader {
            chars: &chars,
            at: 0,
        };
        reader.glob(0)
    }

    /// The one text it matches, if it has no wildcards.
    pub fn literal(&self) -> Option<String> {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Char(c) => Some(*c),
                Part::One | Part::Many | Part::Set { .. } | Part::Any(_) => None,
            })
            .collect()
    }

    /// Whether a whole text matches.
    pub fn matches(&self, text: &str) -> bool {
        let chars: Vec<char> = text.chars().collect();
        let parts: Vec<&Part> = self.parts.iter().collect();
        let mut steps = MAX_STEPS;
        matches(&parts, &chars, &mut steps)
    }
}

fn matches(parts: &[&Part], text: &[char], steps: &mut usize) -> bool {
    let Some(left) = steps.checked_sub(1) else {
        return false;
    };
    *steps = left;
    let Some((part, rest)) = parts.split_first() else {
        return text.is_empty();
    };
    match part {
        Part::Many => (0..=text.len()).any(|n| matches(rest, &text[n..], steps)),
        Part::Any(choices) => choices.iter().any(|choice| {
            let joined: Vec<&Part> = choice.parts.iter().chain(rest.iter().copied()).collect();
            matches(&joined, text, steps)
        }),
        Part::Char(_) | Part::One | Part::Set { .. } => match text.split_first() {
            Some((c, after)) => part.takes(*c) && matches(rest, after, steps),
            None => false,
        },
    }
}

impl Part {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Char(own) => *own == c,
            Self::One => true,
            Self::Set { not, set } => {
                let inside = match set {
                    Set::Range(low, high) => (*low..=*high).contains(&c),
                    Set::Listed(chars) => chars.contains(&c),
                };
                inside != *not
            }
            Self::Many | Self::Any(_) => false,
        }
    }
}

struct Reader<'a> {
    chars: &'a [char],
    at: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.chars.get(self.at).copied();
        self.at += usize::from(c.is_some());
        c
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn glob(&mut self, braces: usize) -> Result<Glob, InvalidGlob> {
        let mut parts = Vec::new();
        while let Some(c) = self.next() {
            parts.push(match c {
                '*' if parts.last() == Some(&Part::Many) => continue,
                '*' => Part::Many,
                '?' => Part::One,
                '[' => self.set()?,
                '{' => self.choices(braces + 1)?,
                ',' | '}' if braces > 0 => {
                    self.at -= 1;
                    break;
                }
                '\\' => match self.next() {
                    Some(c) => Part::Char(c),
                    None => continue,
                },
                c => Part::Char(c),
            });
        }
        Ok(Glob { parts })
    }

    fn choices(&mut self, braces: usize) -> Result<Part, InvalidGlob> {
        if braces > MAX_BRACES {
            return Err(InvalidGlob);
        }
        let mut choices = Vec::new();
        loop {
            choices.push(self.glob(braces)?);
            match self.next() {
                Some(',') => {}
                // An open brace at the end is taken as closed.
                Some(_) | None => return Ok(Part::Any(choices)),
            }
        }
    }

    fn set(&mut self) -> Result<Part, InvalidGlob> {
        let not = self.peek() == Some('!');
        self.at += usize::from(not);
        let first = self.next().ok_or(InvalidGlob)?;
        if self.peek() == Some('-') && first != ']' {
            self.at += 1;
            let last = self.next().ok_or(InvalidGlob)?;
            if self.next() != Some(']') || last < first {
                return Err(InvalidGlob);
            }
            let set = Set::Range(first, last);
            return Ok(Part::Set { not, set });
        }
        let mut listed = Vec::new();
        let mut c = first;
        while c != ']' {
            if c == '\\' {
                c = self.next().ok_or(InvalidGlob)?;
            }
            listed.push(c);
            c = self.next().ok_or(InvalidGlob)?;
        }
        if listed.is_empty() {
            return Err(InvalidGlob);
        }
        let set = Set::Listed(listed);
        Ok(Part::Set { not, set })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_names() {
        for (glob, yes, no) in [
            ("t-*", "t-a.b", "x-t-a"),
            ("*", "", "-"),
            ("{build,x}*", "xyz", "abuild"),
            ("a?c", "abc", "ac"),
            ("[abc]d", "bd", "dd"),
            ("[!a-c]d", "xd", "bd"),
            ("[0-9]", "7", "x"),
            ("{a,{b,c}d}", "cd", "d"),
            ("a\\*", "a*", "ab"),
            ("a,b", "a,b", "a"),
            ("**b", "ab", "ba"),
        ] {
            let compiled = Glob::compile(glob).unwrap();
            assert!(compiled.matches(yes), "{glob} {yes}");
            assert!(!compiled.matches(no) || no == "-", "{glob} {no}");
        }
    }

    #[test]
    fn what_is_not_closed_is_no_glob() {
        for glob in ["b[0-9", "[", "[]", "[a-zA]", "[z-a]", "[ab"] {
            assert_eq!(Glob::compile(glob), Err(InvalidGlob), "{glob}");
        }
    }

    #[test]
    fn a_glob_of_stars_ends() {
        let glob = Glob::compile(&"*a".repeat(40)).unwrap();
        assert!(!glob.matches(&"a".repeat(200).replace("aa", "ab")));
    }
}
