//! A clone at a commit or tag.

use super::metadata::{Commit, commit};
use super::program::Program;
use super::{Source, program, reference, source, wrong};
use crate::container::{Volume, tar_stream};
use crate::resource::built_in::Call;
use crate::resource::settings::decode_params;
use crate::resource::{Fetched, Stop, Version};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Params {
    /// Commits of history; 0 is all.
    depth: u32,
    fetch_tags: bool,
    submodules: Submodules,
    submodule_recursive: Option<bool>,
    short_ref_format: Option<String>,
    /// Accepted: large files are never fetched.
    disable_git_lfs: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Submodules {
    /// `all` or `none`.
    Word(String),
    Paths(Vec<String>),
}

impl Default for Submodules {
    fn default() -> Self {
        Self::Word("all".to_owned())
    }
}

pub(in crate::resource) async fn get(
    call: &Call<'_>,
    version: &Version,
    params: &Value,
    into: &Volume,
) -> Result<Fetched, Stop> {
    let source = source(call)?;
    let params: Params = decode_params(super::NAME, params)?;
    let _ = params.disable_git_lfs;
    let git = program(call, &source).await?;
    let name = reference(version)?;
    let work = git.place("work");
    clone(&git, &source, &params, &work, name).await?;
    git.run(
        &work,
        &["checkout", "--quiet", "--detach", "--force", name, "--"],
    )
    .await?;
    submodules(&git, &params, &work).await?;
    let found = commit(&git, &work, "HEAD").await?;
    if version
        .get("commit")
        .is_some_and(|commit| *commit != found.id)
    {
        return Err(wrong(
            "version",
            format!("tag {name:?} is another commit by now"),
        ));
    }
    let fetched = found.fetched(version.clone(), source.branch.as_deref(), &git);
    notes(&source, &params, &work, &found, &fetched).map_err(|error| wrong("write .git", error))?;
    git.say(&format!(
        "HEAD is now at {} {}\n",
        &found.id[..found.id.len().min(7)],
        found.message.lines().next().unwrap_or_default()
    ))
    .await;
    let archive = pack(&work);
    let written = call.driver.write_tar(into, "", archive).await;
    written.map_err(|error| Stop::errored(&error))?;
    Ok(fetched)
}

async fn clone(
    git: &Program<'_>,
    source: &Source,
    params: &Params,
    work: &Path,
    name: &str,
) -> Result<(), Stop> {
    let place = work.to_string_lossy().into_owned();
    let depth = format!("--depth={}", params.depth);
    let is_tag = source.tag_filter.is_some();
    let with_tags = is_tag || source.fetch_tags || params.fetch_tags;
    let mut args = vec![
        "clone",
        "--quiet",
        "--no-local",
        "--no-checkout",
        "--template=",
    ];
    args.push(match with_tags {
        true if source.branch.is_none() => "--no-single-branch",
        _ => "--single-branch",
    });
    if !with_tags {
        args.push("--no-tags");
    }
    if let Some(branch) = &source.branch {
        args.extend(["--branch", branch]);
    }
    if params.depth > 0 {
        args.push(&depth);
    }
    args.extend(["--", &git.uri.shown, &place]);
    git.run(&git.place(""), &args).await?;
    if with_tags && params.depth == 0 && !is_tag {
        git.run(work, &["fetch", "--quiet", "--tags", "origin"])
            .await?;
    }
    fetch_missing(git, params, work, name).await
}

/// A version that is older than the clone is deep, or on no branch any more.
async fn fetch_missing(
    git: &Program<'_>,
    params: &Params,
    work: &Path,
    name: &str,
) -> Result<(), Stop> {
    let commit = format!("{name}^{{commit}}");
    let is_there = async || {
        git.ask(work, &["rev-parse", "--quiet", "--verify", &commit])
            .await
    };
    if is_there().await?.is_some() {
        return Ok(());
    }
    let depth = format!("--depth={}", params.depth);
    let mut args = vec!["fetch", "--quiet", "--no-tags"];
    if params.depth > 0 {
        args.push(&depth);
    }
    args.extend(["origin", name]);
    // Some servers give what no branch has, others do not.
    git.ask(work, &args).await?;
    if params.depth > 0 && is_there().await?.is_none() {
        git.run(work, &["fetch", "--quiet", "--unshallow", "origin"])
            .await?;
    }
    Ok(())
}

async fn submodules(git: &Program<'_>, params: &Params, work: &Path) -> Result<(), Stop> {
    let paths = match &params.submodules {
        Submodules::Word(word) if word == "none" => return Ok(()),
        Submodules::Word(word) if word == "all" => &[][..],
        Submodules::Word(_) => {
            return Err(wrong(
                "params.submodules",
                "expected all, none or a list of paths",
            ));
        }
        Submodules::Paths(paths) => paths.as_slice(),
    };
    if !work.join(".gitmodules").is_file() {
        return Ok(());
    }
    let depth = format!("--depth={}", params.depth);
    let mut args = vec!["submodule", "--quiet", "update", "--init"];
    if params.submodule_recursive.unwrap_or(true) {
        args.push("--recursive");
    }
    if params.depth > 0 {
        args.push(&depth);
    }
    args.push("--");
    args.extend(paths.iter().map(String::as_str));
    git.run(work, &args).await.map(drop)
}

/// The files below `.git` that tasks of Concourse's users read.
fn notes(
    source: &Source,
    params: &Params,
    work: &Path,
    found: &Commit,
    fetched: &Fetched,
) -> std::io::Result<()> {
    let format = params
        .short_ref_format
        .as_ref()
        .or(source.short_ref_format.as_ref());
    let format = format.map_or("%s", String::as_str);
    let short = format.replacen("%s", &found.id[..found.id.len().min(7)], 1);
    let reference = fetched
        .version
        .get("ref")
        .map(String::as_str)
        .unwrap_or_default();
    let metadata: Vec<Value> = fetched
        .metadata
        .iter()
        .map(|(name, value)| json!({ "name": name, "value": value }))
        .collect();
    let files = [
        ("ref", format!("{reference}\n")),
        ("short_ref", format!("{short}\n")),
        ("commit_message", format!("{}\n", found.message)),
        ("committer", format!("{}\n", found.committer_email)),
        ("commit_timestamp", format!("{}\n", found.committed)),
        (
            "branch",
            format!("{}\n", source.branch.as_deref().unwrap_or_default()),
        ),
        ("metadata.json", Value::Array(metadata).to_string()),
    ];
    for (name, text) in files {
        std::fs::write(work.join(".git").join(name), text)?;
    }
    Ok(())
}

/// The clone as an archive, everything in it root's: the agent's own user means nothing in a container.
fn pack(work: &Path) -> crate::container::TarStream {
    let work = work.to_owned();
    let packed = tar_stream::produce("pack the clone", move |out| {
        let mut builder = tar::Builder::new(out);
        builder.follow_symlinks(false);
        builder.sparse(false);
        builder.append_dir_all("", &work)?;
        builder.finish()
    });
    let owner = crate::container::Owner { uid: 0, gid: 0 };
    let change = crate::container::Rewrite {
        owner: Some(owner),
        below: None,
    };
    tar_stream::rewrite(packed, change)
}
