//! A repository that a container wrote, made safe: only its objects and references are taken out, never its configuration,
//! hooks or links, with which it would run programs or read files here.

use crate::container::{DriverError, tar_stream};
use crate::resource::built_in::Call;
use crate::resource::{Artifact, Stop};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A repository's configuration of our own.
const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n";

/// What of `.git` is data and nothing else.
fn is_data(path: &Path) -> bool {
    let mut parts = path
        .components()
        .map(|part| part.as_os_str().to_string_lossy());
    let (first, second) = (parts.next(), parts.next());
    match (first.as_deref(), second.as_deref()) {
        (Some("HEAD" | "packed-refs" | "shallow"), None) => true,
        (Some("refs"), _) => true,
        // `objects/info/alternates` names other directories of this machine.
        (Some("objects"), Some("info")) => false,
        (Some("objects"), _) => true,
        _ => false,
    }
}

/// Takes a repository out of an artifact, into a bare one.
pub(super) async fn take(
    call: &Call<'_>,
    artifact: &Artifact,
    path: &str,
    into: PathBuf,
) -> Result<(), Stop> {
    let inner = match path {
        "" => ".git".to_owned(),
        path => format!("{path}/.git"),
    };
    let archive = call.driver.read_tar(&artifact.volume, &inner).await;
    let archive = archive.map_err(|error| match error {
        DriverError::File { .. } => Stop::Errored(format!(
            "git: params.repository: {inner:?} is not there: it must be a directory that git made"
        )),
        error => Stop::errored(&error),
    })?;
    let took = tar_stream::consume("take out the repository", archive, move |from| {
        fs::create_dir_all(into.join("objects"))?;
        fs::create_dir_all(into.join("refs"))?;
        let mut has_head = false;
        for entry in tar::Archive::new(&mut *from).entries()? {
            let mut entry = entry?;
            let path = tar_stream::plain(&entry.path()?);
            if !entry.header().entry_type().is_file() || !is_data(&path) {
                continue;
            }
            let target = into.join(&path);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)?;
            }
            // Never through something that is there: nothing is, but for what came before it.
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(target)?;
            io::copy(&mut entry, &mut file)?;
            has_head |= path == Path::new("HEAD");
        }
        fs::write(into.join("config"), CONFIG)?;
        Ok(has_head)
    });
    let has_head = took.await.map_err(|error| Stop::errored(&error))?;
    if !has_head {
        return Err(Stop::Errored(format!(
            "git: params.repository: {inner:?} has no HEAD: it must be a directory that git made"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_runs_or_leads_elsewhere_is_data() {
        for (path, is) in [
            ("HEAD", true),
            ("refs/heads/main", true),
            ("objects/ab/cdef", true),
            ("objects/pack/p.pack", true),
            ("objects/info/alternates", false),
            ("objects/info/http-alternates", false),
            ("config", false),
            ("config.worktree", false),
            ("hooks/pre-push", false),
            ("commondir", false),
            ("info/attributes", false),
            ("modules/x/config", false),
            ("", false),
        ] {
            assert_eq!(is_data(Path::new(path)), is, "{path}");
        }
    }
}
