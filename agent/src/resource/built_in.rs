//! The types that need no image: they run in the agent, with any driver.

use super::{Artifact, Fetched, StepIo, Stop, Version, git, mock, registry, time};
use crate::container::{Driver, Volume};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BuiltIn {
    Git,
    Time,
    RegistryImage,
    Mock,
}

/// What every action of such a type is given.
pub(super) struct Call<'a> {
    pub(super) driver: &'a Arc<dyn Driver>,
    pub(super) labels: &'a BTreeMap<String, String>,
    pub(super) source: &'a Map<String, Value>,
    pub(super) io: &'a StepIo,
    /// Whether its resource runs privileged, for what shows it.
    pub(super) privileged: bool,
    /// Whether the operator trusts pipelines with the machine.
    pub(super) allow_privileged: bool,
}

impl BuiltIn {
    /// As pipelines name it.
    pub(super) fn named(name: &str) -> Option<Self> {
        // The older name, which many types are still built on.
        if name == "docker-image" {
            return Some(Self::RegistryImage);
        }
        [Self::Git, Self::Time, Self::RegistryImage, Self::Mock]
            .into_iter()
            .find(|one| one.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Git => git::NAME,
            Self::Time => time::NAME,
            Self::RegistryImage => registry::NAME,
            Self::Mock => mock::NAME,
        }
    }

    pub(super) async fn check(
        self,
        call: &Call<'_>,
        from: Option<&Version>,
    ) -> Result<Vec<Version>, Stop> {
        match self {
            Self::Git => git::check(call, from).await,
            Self::Time => time::check(call, from),
            Self::RegistryImage => registry::check(call, from).await,
            Self::Mock => mock::check(call, from).await,
        }
    }

    /// Writes the version's files into an empty volume.
    pub(super) async fn get(
        self,
        call: &Call<'_>,
        version: &Version,
        params: &Value,
        into: &Volume,
    ) -> Result<Fetched, Stop> {
        match self {
            Self::Git => git::get(call, version, params, into).await,
            Self::Time => time::get(call, version, params, into).await,
            Self::RegistryImage => registry::get(call, version, params, into).await,
            Self::Mock => mock::get(call, version, params, into).await,
        }
    }

    pub(super) async fn put(
        self,
        call: &Call<'_>,
        params: &Value,
        artifacts: &[(String, Artifact)],
        env: &BTreeMap<String, String>,
    ) -> Result<Fetched, Stop> {
        match self {
            Self::Git => git::put(call, params, artifacts).await,
            Self::Time => time::put(call, params),
            Self::RegistryImage => registry::put(call, params, artifacts).await,
            Self::Mock => mock::put(call, params, artifacts, env).await,
        }
    }
}

impl Call<'_> {
    /// Writes small files into a volume.
    pub(super) async fn write(
        &self,
        into: &Volume,
        files: &[(&str, &[u8], u32)],
    ) -> Result<(), Stop> {
        let archive = crate::container::tar_stream::of_files(files.iter().copied())
            .map_err(|error| Stop::Errored(format!("a file cannot be named so: {error}")))?;
        let archive = crate::container::tar_stream::of_bytes(archive);
        let written = self.driver.write_tar(into, "", archive).await;
        written.map_err(|error| Stop::errored(&error))
    }
}

/// An artifact and the path in it that a param such as `artifact/dir/file` names.
pub(super) fn in_artifacts<'a>(
    artifacts: &'a [(String, Artifact)],
    param: &str,
    path: &str,
) -> Result<(&'a Artifact, String), Stop> {
    let trimmed = path.trim_start_matches("./").trim_matches('/');
    // The longest name first: a name may begin another.
    let found = artifacts
        .iter()
        .filter_map(|(name, artifact)| {
            let rest = trimmed.strip_prefix(name.as_str())?;
            let inner = match rest {
                "" => "",
                rest => rest.strip_prefix('/')?,
            };
            Some((name.len(), artifact, inner.to_owned()))
        })
        .max_by_key(|(length, ..)| *length);
    let (_, artifact, inner) = found.ok_or_else(|| {
        let names: Vec<&str> = artifacts.iter().map(|(name, _)| name.as_str()).collect();
        Stop::Errored(format!(
            "params.{param}: {path:?} is in no artifact that this put is given; it has: {}",
            match names.as_slice() {
                [] => "none".to_owned(),
                names => names.join(", "),
            }
        ))
    })?;
    Ok((artifact, inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_an_artifact_by_its_first_parts() {
        let artifact = |id: &str| {
            let volume = Volume {
                id: id.to_owned(),
                path: id.to_owned(),
            };
            (
                id.to_owned(),
                Artifact {
                    volume,
                    image: None,
                },
            )
        };
        let artifacts = [artifact("repo"), artifact("repo-two")];
        let of = |path: &str| {
            let (found, inner) = in_artifacts(&artifacts, "file", path)?;
            Ok::<_, Stop>((found.volume.id.clone(), inner))
        };
        let is = |id: &str, inner: &str| Ok((id.to_owned(), inner.to_owned()));
        assert_eq!(of("repo"), is("repo", ""));
        assert_eq!(of("./repo/a/b"), is("repo", "a/b"));
        assert_eq!(of("repo-two/x"), is("repo-two", "x"));
        assert!(of("repo-three/x").is_err());
        assert!(of("").is_err());
    }
}
