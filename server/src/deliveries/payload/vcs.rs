//! `pipeline.vcs`: a commit and where it lies, cut to what belongs into a notification.

use serde::Serialize;

/// Longest first line of a commit message, in characters.
pub const MAX_SUBJECT_CHARS: usize = 256;
/// Longest rest of a commit message, in characters.
pub const MAX_BODY_CHARS: usize = 4096;
/// Longest name, address, branch, tag or revision, in characters.
const MAX_NAME_CHARS: usize = 256;
/// Longest URL of a repository, in characters; a longer one is left out, as half of a URL is none.
const MAX_URL_CHARS: usize = 2048;

/// Everything about the commit; every field may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Vcs {
    /// `github`, `gitlab`, `bitbucket`, `gitea`…
    pub provider_name: String,
    /// Where the commit was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin_repository_url: Option<String>,
    /// Where it is built; another one only for pull requests of forks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_repository_url: Option<String>,
    /// The commit's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// What is known of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<Commit>,
    /// `branch` or `tag`, never both.
    #[serde(flatten)]
    pub reference: Option<Reference>,
}

/// What was pushed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reference {
    /// A branch; `pull/N` for a pull request of a fork.
    Branch(String),
    /// A tag.
    Tag(String),
}

impl Reference {
    /// Of `refs/heads/main` or `refs/tags/v1`; `None` for anything else.
    pub fn of(text: &str) -> Option<Self> {
        if let Some(branch) = text.strip_prefix("refs/heads/") {
            return Some(Self::branch(branch));
        }
        text.strip_prefix("refs/tags/").map(Self::tag)
    }

    /// A branch.
    pub fn branch(name: &str) -> Self {
        Self::Branch(cut(name, MAX_NAME_CHARS))
    }

    /// A tag.
    pub fn tag(name: &str) -> Self {
        Self::Tag(cut(name, MAX_NAME_CHARS))
    }
}

/// A commit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Commit {
    /// First line of its message, at most [`MAX_SUBJECT_CHARS`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The rest, at most [`MAX_BODY_CHARS`]; left out if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Who wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<Person>,
    /// When it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authored_at: Option<String>,
    /// Who committed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub committer: Option<Person>,
    /// When it was committed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub committed_at: Option<String>,
}

impl Commit {
    /// With this message.
    pub fn with_message(message: Option<&str>) -> Self {
        let Some(message) = message else {
            return Self::default();
        };
        let (subject, body) = message.split_once('\n').unwrap_or((message, ""));
        let some = |text: &str, limit| {
            let text = text.trim();
            (!text.is_empty()).then(|| cut(text, limit))
        };
        Self {
            subject: some(subject, MAX_SUBJECT_CHARS),
            body: some(body, MAX_BODY_CHARS),
            ..Self::default()
        }
    }

    /// `None` if nothing is known of it.
    pub fn known(self) -> Option<Self> {
        (self != Self::default()).then_some(self)
    }
}

/// Somebody in a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Person {
    /// Their name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Their address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

impl Person {
    /// `None` if neither is there.
    pub fn of(name: Option<&str>, email: Option<&str>) -> Option<Self> {
        let some = |text: Option<&str>| {
            let text = text?.trim();
            (!text.is_empty()).then(|| cut(text, MAX_NAME_CHARS))
        };
        let person = Self {
            name: some(name),
            email: some(email),
        };
        (person.name.is_some() || person.email.is_some()).then_some(person)
    }

    /// Of `Name <address>`, as git writes it.
    pub fn of_line(line: &str) -> Option<Self> {
        match line.split_once('<') {
            Some((name, rest)) => Self::of(Some(name), rest.split('>').next()),
            None => Self::of(Some(line), None),
        }
    }
}

/// A commit's id, cut; `None` for none and for git's null id, which stands for a deleted branch.
pub fn revision(text: Option<&str>) -> Option<String> {
    let text = text?.trim();
    let none = text.is_empty() || text.bytes().all(|byte| byte == b'0');
    (!none).then(|| cut(text, MAX_NAME_CHARS))
}

/// A repository's address, without user name and password; `None` if it is none or too long.
pub fn repository_url(text: Option<&str>) -> Option<String> {
    let text = text?.trim();
    if text.is_empty() || text.chars().count() > MAX_URL_CHARS {
        return None;
    }
    match url::Url::parse(text) {
        Ok(mut url) if matches!(url.scheme(), "http" | "https") => {
            if url.username().is_empty() && url.password().is_none() {
                return Some(text.to_owned());
            }
            let _ = url.set_username("");
            let _ = url.set_password(None);
            Some(url.into())
        }
        // `git@host:path` and the like carry no password.
        _ => Some(text.to_owned()),
    }
}

/// At most so many characters; what was cut ends in an ellipsis.
pub fn cut(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some(_) => {
            let mut kept: String = text.chars().take(limit.saturating_sub(1)).collect();
            kept.push('…');
            kept
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_its_first_line_and_the_rest_and_both_are_cut() {
        let of = |message: &str| {
            let commit = Commit::with_message(Some(message));
            (commit.subject, commit.body)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(of("one"), (some("one"), None));
        assert_eq!(
            of("one\r\n\r\ntwo\nthree\n"),
            (some("one"), some("two\nthree"))
        );
        assert_eq!(of(""), (None, None));
        let long = format!("{}\n\n{}", "ä".repeat(300), "ö".repeat(5000));
        let (subject, body) = of(&long);
        assert_eq!(
            subject.map(|text| text.chars().count()),
            Some(MAX_SUBJECT_CHARS)
        );
        let body = body.unwrap();
        assert_eq!(body.chars().count(), MAX_BODY_CHARS);
        assert!(body.ends_with("ö…"));
    }

    #[test]
    fn people_urls_and_revisions_are_taken_as_they_are_or_not_at_all() {
        let ann = Person::of_line("Ann Other <ann@example.com>").unwrap();
        assert_eq!(
            (ann.name.as_deref(), ann.email.as_deref()),
            (Some("Ann Other"), Some("ann@example.com"))
        );
        assert_eq!(Person::of_line("  "), None);
        assert_eq!(revision(Some(&"0".repeat(40))), None);
        assert_eq!(
            repository_url(Some("https://me:token@git.example/a/b")).as_deref(),
            Some("https://git.example/a/b")
        );
        assert_eq!(
            repository_url(Some(&format!("https://x/{}", "a".repeat(3000)))),
            None
        );
    }
}
