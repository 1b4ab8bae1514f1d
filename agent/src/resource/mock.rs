//! The built-in `mock`: versions and files as its source says, for pipelines that reach nothing outside. As the resource
//! of that name for Concourse, but without an image: `mirror_self` makes a type that is this one again.

use super::built_in::{Call, in_artifacts};
use super::settings::{decode, decode_params, text};
use super::{Artifact, Fetched, Stop, Version};
use crate::container::Volume;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

pub(super) const NAME: &str = "mock";
/// The version of a source that names none.
const FIRST_VERSION: &str = "mock";

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Source {
    /// Always this version.
    #[serde(deserialize_with = "text")]
    force_version: Option<String>,
    /// The first one.
    #[serde(deserialize_with = "text")]
    initial_version: Option<String>,
    no_initial_version: bool,
    metadata: Vec<Field>,
    mirror_self: bool,
    create_files: BTreeMap<String, String>,
    check_delay: Option<String>,
    check_failure: Option<String>,
    log: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Field {
    name: String,
    value: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct GetParams {
    create_files_via_params: BTreeMap<String, String>,
    privileged: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct PutParams {
    #[serde(deserialize_with = "text")]
    version: Option<String>,
    print_env: bool,
    /// Whose content is the version.
    file: Option<String>,
}

async fn source(call: &Call<'_>) -> Result<Source, Stop> {
    let source: Source = decode(NAME, "source", call.source)?;
    if let Some(log) = &source.log {
        call.io.say(&format!("{log}\n")).await;
    }
    Ok(source)
}

pub(super) async fn check(call: &Call<'_>, from: Option<&Version>) -> Result<Vec<Version>, Stop> {
    let source = source(call).await?;
    if let Some(delay) = &source.check_delay {
        let delay = pocketci_pipeline::duration::parse_go(delay)
            .map_err(|error| Stop::Errored(format!("mock: source.check_delay: {error}")))?;
        tokio::time::sleep(delay).await;
    }
    if let Some(failure) = &source.check_failure {
        call.io.say(&format!("check failed: {failure}\n")).await;
        return Err(Stop::Failed { exit_code: 1 });
    }
    let mut version = match (source.force_version, from) {
        (Some(forced), _) => of(forced),
        (None, Some(from)) => return Ok(vec![from.clone()]),
        (None, None) if source.no_initial_version => return Ok(Vec::new()),
        (None, None) => of(source
            .initial_version
            .unwrap_or_else(|| FIRST_VERSION.to_owned())),
    };
    if call.privileged {
        version.insert("privileged".to_owned(), "true".to_owned());
    }
    Ok(vec![version])
}

fn of(version: String) -> Version {
    Version::from([("version".to_owned(), version)])
}

fn pairs(fields: Vec<Field>) -> Vec<(String, String)> {
    fields
        .into_iter()
        .map(|field| (field.name, field.value))
        .collect()
}

pub(super) async fn get(
    call: &Call<'_>,
    version: &Version,
    params: &Value,
    into: &Volume,
) -> Result<Fetched, Stop> {
    let source = source(call).await?;
    let params: GetParams = decode_params(NAME, params)?;
    let text = version.get("version").cloned().unwrap_or_default();
    call.io.say(&format!("fetching version: {text}\n")).await;
    let mut files: Vec<(&str, &[u8], u32)> = vec![("version", text.as_bytes(), 0o644)];
    if params.privileged || call.privileged {
        files.push(("privileged", b"true", 0o644));
    }
    let given = source.create_files.iter();
    for (path, content) in given.chain(&params.create_files_via_params) {
        files.push((path, content.as_bytes(), 0o644));
    }
    call.write(into, &files).await?;
    Ok(Fetched {
        version: version.clone(),
        metadata: pairs(source.metadata),
    })
}

pub(super) async fn put(
    call: &Call<'_>,
    params: &Value,
    artifacts: &[(String, Artifact)],
    env: &BTreeMap<String, String>,
) -> Result<Fetched, Stop> {
    let source = source(call).await?;
    let params: PutParams = decode_params(NAME, params)?;
    if params.print_env {
        let lines = env.iter().map(|(name, value)| format!("{name}={value}\n"));
        call.io.say(&lines.collect::<String>()).await;
    }
    let version = match (params.version, &params.file) {
        (Some(version), None) => version,
        (_, Some(file)) => read(call, artifacts, file).await?,
        (None, None) => {
            call.io.say("no version specified\n").await;
            return Err(Stop::Failed { exit_code: 1 });
        }
    };
    call.io.say(&format!("pushing version: {version}\n")).await;
    Ok(Fetched {
        version: of(version),
        metadata: pairs(source.metadata),
    })
}

async fn read(
    call: &Call<'_>,
    artifacts: &[(String, Artifact)],
    file: &str,
) -> Result<String, Stop> {
    let (artifact, path) = in_artifacts(artifacts, "file", file)?;
    let read = call.driver.read_files(&artifact.volume, &[path]).await;
    let bytes = read
        .map_err(|error| Stop::errored(&error))?
        .into_values()
        .next();
    let text = String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
    Ok(text.trim().to_owned())
}
