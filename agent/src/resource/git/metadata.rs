//! What a commit says of itself.

use super::program::Program;
use crate::resource::{Fetched, Stop, Version};
use std::path::Path;

/// Between the fields of a commit; no name or date has it.
const SEPARATOR: char = '\u{1f}';

/// See the module.
pub(super) struct Commit {
    pub(super) id: String,
    pub(super) committer_email: String,
    pub(super) committed: String,
    pub(super) message: String,
    author: String,
    author_date: String,
}

/// Reads the commit that a name means.
pub(super) async fn commit(git: &Program<'_>, dir: &Path, name: &str) -> Result<Commit, Stop> {
    let format = ["%H", "%ce", "%ct", "%an", "%ai", "%B"].join(&SEPARATOR.to_string());
    let format = format!("--format={format}");
    let said = git.run(dir, &["log", "-1", &format, name, "--"]).await?;
    let mut fields = said
        .splitn(6, SEPARATOR)
        .map(|field| field.trim().to_owned());
    let mut next = || fields.next().unwrap_or_default();
    Ok(Commit {
        id: next(),
        committer_email: next(),
        committed: next(),
        author: next(),
        author_date: next(),
        message: next(),
    })
}

impl Commit {
    /// As it is shown with a version.
    pub(super) fn fetched(
        &self,
        version: Version,
        branch: Option<&str>,
        git: &Program<'_>,
    ) -> Fetched {
        let mut metadata = vec![
            ("commit", self.id.clone()),
            ("author", self.author.clone()),
            ("author_date", self.author_date.clone()),
        ];
        metadata.extend(branch.map(|branch| ("branch", branch.to_owned())));
        metadata.push(("message", self.message.clone()));
        metadata.push(("url", self.url(&git.uri.shown)));
        Fetched {
            version,
            metadata: metadata
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        }
    }

    /// Where a browser shows it; elsewhere the repository.
    fn url(&self, uri: &str) -> String {
        let host = |host: &str, path: &str| -> Option<String> {
            let prefixes = [
                format!("https://{host}/"),
                format!("git@{host}:"),
                format!("ssh://git@{host}/"),
            ];
            let rest = prefixes
                .iter()
                .find_map(|prefix| uri.strip_prefix(prefix))?;
            let rest = rest.trim_end_matches('/').trim_end_matches(".git");
            Some(format!("https://{host}/{rest}/{path}/{}", self.id))
        };
        host("github.com", "commit")
            .or_else(|| host("gitlab.com", "-/commit"))
            .unwrap_or_else(|| uri.to_owned())
    }
}
