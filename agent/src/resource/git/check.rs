//! Which commits or tags there are since the last one.

use super::program::Program;
use super::{Source, program, reference, source, wrong};
use crate::resource::built_in::Call;
use crate::resource::{Stop, Version};
use std::path::{Path, PathBuf};

/// The last versions that one check answers with.
const MAX_VERSIONS: usize = 1000;

pub(in crate::resource) async fn check(
    call: &Call<'_>,
    from: Option<&Version>,
) -> Result<Vec<Version>, Stop> {
    let source = source(call)?;
    let git = program(call, &source).await?;
    let from = from.map(|version| reference(version)).transpose()?;
    if source.tag_filter.is_some() {
        return tags(&git, &source, from).await;
    }
    if let Some(from) = from
        && head(&git, &source).await?.as_deref() == Some(from)
    {
        return Ok(vec![version(from)]);
    }
    let bare = history(&git, &source).await?;
    let found = commits(&git, &bare, &source, from).await?;
    Ok(found.iter().map(|commit| version(commit)).collect())
}

fn version(commit: &str) -> Version {
    Version::from([("ref".to_owned(), commit.to_owned())])
}

/// The branch's newest commit, without fetching anything.
async fn head(git: &Program<'_>, source: &Source) -> Result<Option<String>, Stop> {
    let wanted = match &source.branch {
        Some(branch) => format!("refs/heads/{branch}"),
        None => "HEAD".to_owned(),
    };
    let here = git.place("");
    let listed = git
        .run(&here, &["ls-remote", "--", &git.uri.shown, &wanted])
        .await?;
    let commit = listed.lines().find_map(|line| line.split_once('\t'));
    match (commit, &source.branch) {
        (Some((commit, _)), _) => Ok(Some(commit.to_owned())),
        (None, Some(branch)) => Err(wrong(
            "source.branch",
            format!("there is no branch {branch:?}"),
        )),
        (None, None) => Ok(None),
    }
}

/// The history without files, and without directories unless they are asked for.
async fn history(git: &Program<'_>, source: &Source) -> Result<PathBuf, Stop> {
    let bare = git.place("history.git");
    let place = bare.to_string_lossy().into_owned();
    let by_path = !(source.paths.is_empty() && source.ignore_paths.is_empty());
    let filter = match by_path {
        true => "--filter=blob:none",
        false => "--filter=tree:0",
    };
    let mut args = vec!["clone", "--quiet", "--bare", "--no-local", filter];
    if source.tag_filter.is_none() {
        args.extend(["--single-branch", "--no-tags"]);
    }
    if let Some(branch) = &source.branch {
        args.extend(["--branch", branch]);
    }
    args.extend(["--", &git.uri.shown, &place]);
    git.run(&git.place(""), &args).await?;
    Ok(bare)
}

async fn commits(
    git: &Program<'_>,
    bare: &Path,
    source: &Source,
    from: Option<&str>,
) -> Result<Vec<String>, Stop> {
    let from = match from {
        Some(from) if is_behind(git, bare, from).await? => Some(from),
        // It was rewritten away: there is nothing to go on from.
        _ => None,
    };
    let range = match from {
        Some(from) => format!("{from}..HEAD"),
        None => "HEAD".to_owned(),
    };
    let limit = match from {
        Some(_) => format!("--max-count={MAX_VERSIONS}"),
        None => "--max-count=1".to_owned(),
    };
    let mut args = vec!["log", "--format=%H", "--first-parent", &limit];
    if !source.disable_ci_skip {
        args.extend([
            "--invert-grep",
            "--fixed-strings",
            "--grep=[ci skip]",
            "--grep=[skip ci]",
        ]);
    }
    args.extend([&range, "--"]);
    // Exclusions alone exclude from everything.
    let ignored = source.ignore_paths.iter();
    let ignored: Vec<String> = ignored.map(|path| format!(":(exclude){path}")).collect();
    args.extend(source.paths.iter().map(String::as_str));
    if source.paths.is_empty() && !ignored.is_empty() {
        args.push(".");
    }
    args.extend(ignored.iter().map(String::as_str));
    let listed = git.run(bare, &args).await?;
    let newest_last = listed.lines().rev().map(str::to_owned);
    Ok(from
        .map(str::to_owned)
        .into_iter()
        .chain(newest_last)
        .collect())
}

async fn is_behind(git: &Program<'_>, bare: &Path, commit: &str) -> Result<bool, Stop> {
    let args = ["merge-base", "--is-ancestor", commit, "HEAD"];
    Ok(git.ask(bare, &args).await?.is_some())
}

/// Tags by the time they were made.
async fn tags(
    git: &Program<'_>,
    source: &Source,
    from: Option<&str>,
) -> Result<Vec<Version>, Stop> {
    let bare = history(git, source).await?;
    let filter = source.tag_filter.as_deref().unwrap_or_default();
    let mut args = vec![
        "tag",
        "--sort=creatordate",
        "--format=%(refname:strip=2)%09%(objectname)%09%(*objectname)",
    ];
    if source.branch.is_some() {
        args.push("--merged=HEAD");
    }
    args.extend(["--list", "--", filter]);
    let listed = git.run(&bare, &args).await?;
    let mut found: Vec<Version> = listed
        .lines()
        .filter_map(|line| {
            let mut parts = line.split('\t');
            let (tag, object, commit) = (parts.next()?, parts.next()?, parts.next()?);
            let commit = if commit.is_empty() { object } else { commit };
            let pairs = [("ref", tag), ("commit", commit)];
            Some(
                pairs
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .into(),
            )
        })
        .collect();
    let known = found
        .iter()
        .position(|version| version.get("ref").map(String::as_str) == from && from.is_some());
    let first = known.unwrap_or(found.len().saturating_sub(1));
    let first = first.max(found.len().saturating_sub(MAX_VERSIONS));
    Ok(found.split_off(first))
}
