//! The built-in `git`: commits of a branch, or tags, by the `git` program of the agent.
//!
//! The program never works on a repository that a container could write: what is pushed is taken out of it file by file
//! (`untrusted`), as its configuration and hooks would run here. Keys and passwords go by files and environment, never on
//! a command line (`program`).

mod check;
mod get;
mod metadata;
mod program;
mod put;
mod untrusted;
mod uri;

use super::built_in::Call;
use super::settings::{decode, text};
use super::{Stop, Version};
use program::Program;
use serde::Deserialize;

pub(super) use check::check;
pub(super) use get::get;
pub(super) use put::put;

pub(super) const NAME: &str = "git";

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Source {
    uri: String,
    #[serde(deserialize_with = "text")]
    branch: Option<String>,
    /// Only commits that touch one of these.
    paths: Vec<String>,
    /// Not commits that touch only these.
    ignore_paths: Vec<String>,
    #[serde(deserialize_with = "text")]
    tag_filter: Option<String>,
    private_key: Option<String>,
    private_key_user: Option<String>,
    #[serde(deserialize_with = "text")]
    username: Option<String>,
    #[serde(deserialize_with = "text")]
    password: Option<String>,
    /// Commits that say `[ci skip]` are versions as well.
    disable_ci_skip: bool,
    fetch_tags: bool,
    skip_ssl_verification: bool,
    short_ref_format: Option<String>,
}

fn wrong(place: &str, what: impl std::fmt::Display) -> Stop {
    Stop::Errored(format!("git: {place}: {what}"))
}

fn source(call: &Call<'_>) -> Result<Source, Stop> {
    let source: Source = decode(NAME, "source", call.source)?;
    if source.uri.is_empty() {
        return Err(wrong("source.uri", "it is missing"));
    }
    if let Some(branch) = &source.branch {
        check_name("source.branch", branch)?;
    }
    Ok(source)
}

/// A name that git could take for an option, or for more than one name, is refused.
fn check_name(place: &str, name: &str) -> Result<(), Stop> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c);
    if name.is_empty() || name.starts_with('-') || name.contains("..") || name.contains(odd) {
        return Err(wrong(
            place,
            format!("{name:?} cannot be the name of a branch, tag or commit"),
        ));
    }
    Ok(())
}

async fn program<'a>(call: &'a Call<'_>, source: &Source) -> Result<Program<'a>, Stop> {
    Program::new(call, source).await
}

/// The commit or tag that a version names.
fn reference(version: &Version) -> Result<&str, Stop> {
    let name = version.get("ref").map(String::as_str).unwrap_or_default();
    check_name("version.ref", name)?;
    Ok(name)
}
