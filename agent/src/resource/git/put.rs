//! Pushing what a container committed: HEAD of its repository to the branch, and a tag.

use super::metadata::commit;
use super::program::Program;
use super::untrusted;
use super::{check_name, program, source, wrong};
use crate::resource::built_in::{Call, in_artifacts};
use crate::resource::settings::decode_params;
use crate::resource::{Artifact, Fetched, Stop, Version};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// How often a push is tried again on top of what others pushed meanwhile.
const MAX_REBASES: u32 = 10;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Params {
    /// The artifact, or a directory of it.
    repository: String,
    /// On top of what is there.
    rebase: bool,
    force: bool,
    /// A file with the tag's name.
    tag: Option<String>,
    tag_prefix: String,
    /// A file with the tag's message.
    annotate: Option<String>,
    only_tag: bool,
    branch: Option<String>,
}

pub(in crate::resource) async fn put(
    call: &Call<'_>,
    params: &Value,
    artifacts: &[(String, Artifact)],
) -> Result<Fetched, Stop> {
    let source = source(call)?;
    let params: Params = decode_params(super::NAME, params)?;
    if params.repository.is_empty() {
        return Err(wrong(
            "params.repository",
            "it is missing: name the artifact to push",
        ));
    }
    if params.only_tag && params.tag.is_none() {
        return Err(wrong("params.tag", "only_tag needs it"));
    }
    let branch = params.branch.clone().or_else(|| source.branch.clone());
    if let Some(branch) = &branch {
        check_name("params.branch", branch)?;
    }
    let tag = match &params.tag {
        Some(file) => Some(tag(call, &params, artifacts, file).await?),
        None => None,
    };
    let git = program(call, &source).await?;
    let (artifact, path) = in_artifacts(artifacts, "repository", &params.repository)?;
    let bare = git.place("push.git");
    untrusted::take(call, artifact, &path, bare.clone()).await?;
    if !params.only_tag {
        let branch = branch
            .as_deref()
            .ok_or_else(|| wrong("source.branch", "it is missing: a put needs it"))?;
        push(&git, &bare, &params, branch).await?;
    }
    if let Some((tag, message)) = &tag {
        push_tag(&git, &bare, &params, tag, message.as_deref()).await?;
    }
    let found = commit(&git, &bare, "HEAD").await?;
    let mut version = Version::new();
    match (&source.tag_filter, &tag) {
        (Some(_), Some((tag, _))) => {
            version.insert("ref".to_owned(), tag.clone());
            version.insert("commit".to_owned(), found.id.clone());
        }
        _ => drop(version.insert("ref".to_owned(), found.id.clone())),
    }
    Ok(found.fetched(version, branch.as_deref(), &git))
}

async fn read(
    call: &Call<'_>,
    artifacts: &[(String, Artifact)],
    param: &str,
    file: &str,
) -> Result<String, Stop> {
    let (artifact, path) = in_artifacts(artifacts, param, file)?;
    let read = call.driver.read_files(&artifact.volume, &[path]).await;
    let bytes = read
        .map_err(|error| Stop::errored(&error))?
        .into_values()
        .next();
    Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
}

/// The tag's name and message.
async fn tag(
    call: &Call<'_>,
    params: &Params,
    artifacts: &[(String, Artifact)],
    file: &str,
) -> Result<(String, Option<String>), Stop> {
    let name = read(call, artifacts, "tag", file).await?;
    let name = format!("{}{}", params.tag_prefix, name.trim());
    check_name("params.tag", &name)?;
    let message = match &params.annotate {
        Some(file) => Some(read(call, artifacts, "annotate", file).await?),
        None => None,
    };
    Ok((name, message))
}

async fn push(git: &Program<'_>, bare: &Path, params: &Params, branch: &str) -> Result<(), Stop> {
    let target = format!("HEAD:refs/heads/{branch}");
    let mut args = vec!["push", "--quiet"];
    if params.force {
        args.push("--force");
    }
    args.extend(["--", &git.uri.shown, &target]);
    if !params.rebase {
        return git.run(bare, &args).await.map(drop);
    }
    for _ in 1..MAX_REBASES {
        rebase(git, bare, branch).await?;
        if git.ask(bare, &args).await?.is_some() {
            return Ok(());
        }
        git.say("the branch has moved on; rebasing again\n").await;
    }
    rebase(git, bare, branch).await?;
    git.run(bare, &args).await.map(drop)
}

/// HEAD, on top of the branch as it is now.
async fn rebase(git: &Program<'_>, bare: &Path, branch: &str) -> Result<(), Stop> {
    let work = git.place("rebase");
    tokio::fs::create_dir_all(&work)
        .await
        .map_err(|error| wrong("a directory for it", error))?;
    let from = format!("+refs/heads/{branch}:refs/pocketci/target");
    let fetch = [
        "fetch",
        "--quiet",
        "--no-tags",
        "--update-shallow",
        "--",
        &git.uri.shown,
        &from,
    ];
    if git.ask(bare, &fetch).await?.is_none() {
        // A branch that is not there yet has nothing to be put on top of; another reason shows when it is pushed.
        return Ok(());
    }
    let dir = format!("--git-dir={}", bare.display());
    let tree = format!("--work-tree={}", work.display());
    let at = ["-c", "core.bare=false", &dir, &tree];
    let checkout = ["checkout", "--quiet", "--force", "--detach", "HEAD"];
    git.run(&work, &[&at[..], &checkout].concat()).await?;
    let onto = ["rebase", "--quiet", "refs/pocketci/target"];
    git.run(&work, &[&at[..], &onto].concat()).await.map(drop)
}

async fn push_tag(
    git: &Program<'_>,
    bare: &Path,
    params: &Params,
    tag: &str,
    message: Option<&str>,
) -> Result<(), Stop> {
    let mut args = vec!["tag", "--force"];
    let message = message.map(|message| format!("--message={message}"));
    if let Some(message) = &message {
        args.extend(["--annotate", message]);
    }
    args.extend(["--", tag, "HEAD"]);
    git.run(bare, &args).await?;
    let reference = format!("refs/tags/{tag}:refs/tags/{tag}");
    let mut args = vec!["push", "--quiet"];
    if params.force {
        args.push("--force");
    }
    args.extend(["--", &git.uri.shown, &reference]);
    git.run(bare, &args).await.map(drop)
}
