//! The built-in `registry-image`: images by name and tag, through the engine.
//!
//! What the engine alone has, because it was built there or no registry can be reached, is a version too: its id. The
//! artifact is known to the engine as an image, so its files are written out only if `format` asks for them.

mod load;
mod push;

use super::built_in::{Call, in_artifacts};
use super::settings::{decode, decode_params, text};
use super::{Artifact, Fetched, Stop, Version};
use crate::container::docker::DockerDriver;
use crate::container::{RegistryLogin, Rewrite, Volume, tar_stream};
use serde::Deserialize;
use serde_json::{Value, json};

pub(super) const NAME: &str = "registry-image";
const DEFAULT_TAG: &str = "latest";

#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, default)]
struct Source {
    repository: String,
    #[serde(deserialize_with = "text")]
    tag: Option<String>,
    #[serde(deserialize_with = "text")]
    username: Option<String>,
    #[serde(deserialize_with = "text")]
    password: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct GetParams {
    format: Option<Format>,
    /// Only its name and digest.
    skip_download: bool,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// `rootfs/`.
    Rootfs,
    /// `image.tar`, as `docker load` takes it.
    Oci,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct PutParams {
    /// An archive of the image.
    image: String,
    /// A file with further tags.
    additional_tags: Option<String>,
}

fn wrong(place: &str, what: impl std::fmt::Display) -> Stop {
    Stop::Errored(format!("registry-image: {place}: {what}"))
}

fn source(call: &Call<'_>) -> Result<Source, Stop> {
    let source: Source = decode(NAME, "source", call.source)?;
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '@';
    if source.repository.is_empty() || source.repository.contains(odd) {
        return Err(wrong(
            "source.repository",
            "expected a name such as registry.example.com/team/image",
        ));
    }
    check_tag("source.tag", source.tag())?;
    Ok(source)
}

fn check_tag(place: &str, tag: &str) -> Result<(), Stop> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    match !tag.is_empty() && tag.chars().all(plain) && !tag.starts_with(['.', '-']) {
        true => Ok(()),
        false => Err(wrong(place, format!("{tag:?} cannot be a tag"))),
    }
}

impl Source {
    fn tag(&self) -> &str {
        self.tag.as_deref().unwrap_or(DEFAULT_TAG)
    }

    fn named(&self) -> String {
        format!("{}:{}", self.repository, self.tag())
    }

    fn login(&self) -> Option<RegistryLogin> {
        let password = self.password.clone()?;
        Some(RegistryLogin {
            username: self.username.clone().unwrap_or_default(),
            password,
            registry: String::new(),
        })
    }
}

fn engine<'a>(call: &'a Call<'_>) -> Result<&'a DockerDriver, Stop> {
    call.driver.engine().ok_or_else(needs_engine)
}

fn needs_engine() -> Stop {
    Stop::Errored(
        "registry-image needs a container engine, which the native driver is not; set the pipeline with --driver docker"
            .to_owned(),
    )
}

fn of(digest: String) -> Version {
    Version::from([("digest".to_owned(), digest)])
}

fn digest(version: &Version) -> Result<&str, Stop> {
    let digest = version
        .get("digest")
        .map(String::as_str)
        .unwrap_or_default();
    let hex = digest.strip_prefix("sha256:").unwrap_or_default();
    match hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(digest),
        false => Err(wrong("version.digest", "expected sha256: and 64 digits")),
    }
}

pub(super) async fn check(call: &Call<'_>, _from: Option<&Version>) -> Result<Vec<Version>, Stop> {
    let source = source(call)?;
    let engine = engine(call)?;
    let named = source.named();
    let why = match engine
        .registry_digest(&named, source.login().as_ref())
        .await
    {
        Ok(Some(digest)) => return Ok(vec![of(digest)]),
        Ok(None) => wrong(&named, "the registry does not tell its digest"),
        Err(error) => Stop::errored(&error),
    };
    let local = engine.local_image(&named).await;
    let Some(local) = local.map_err(|error| Stop::errored(&error))? else {
        return Err(why);
    };
    call.io
        .say(&format!(
            "{named} is not to be had from its registry; it is taken as the engine has it\n"
        ))
        .await;
    let prefix = format!("{}@", source.repository);
    let pulled = local.repo_digests.unwrap_or_default();
    let pulled = pulled
        .iter()
        .find_map(|digest| digest.strip_prefix(&prefix));
    let digest = pulled.map(str::to_owned).or(local.id);
    Ok(digest.map(of).into_iter().collect())
}

/// The engine's name for a version, which it has then.
pub(super) async fn image(
    call: &Call<'_>,
    version: &Version,
    _params: &Value,
) -> Result<String, Stop> {
    let source = source(call)?;
    let engine = engine(call)?;
    let digest = digest(version)?;
    let pinned = format!("{}@{digest}", source.repository);
    for name in [&pinned, digest] {
        let found = engine.local_image(name).await;
        if found.map_err(|error| Stop::errored(&error))?.is_some() {
            return Ok(name.to_owned());
        }
    }
    call.io.say(&format!("pulling {pinned}\n")).await;
    let pulled = engine.pull_image(&pinned, source.login().as_ref()).await;
    pulled.map_err(|error| Stop::errored(&error))?;
    Ok(pinned)
}

/// Whether a get with these params leaves the image where it is.
pub(super) fn skips_download(params: &Value) -> Result<bool, Stop> {
    let params: GetParams = decode_params(NAME, params)?;
    Ok(params.skip_download)
}

pub(super) async fn get(
    call: &Call<'_>,
    version: &Version,
    params: &Value,
    into: &Volume,
) -> Result<Fetched, Stop> {
    let source = source(call)?;
    let params: GetParams = decode_params(NAME, params)?;
    let digest = digest(version)?;
    let files = [
        ("repository", source.repository.as_bytes(), 0o644),
        ("tag", source.tag().as_bytes(), 0o644),
        ("digest", digest.as_bytes(), 0o644),
    ];
    call.write(into, &files).await?;
    if !params.skip_download {
        let image = image(call, version, &Value::Null).await?;
        write_image(call, &image, params.format, into).await?;
    }
    Ok(Fetched {
        version: version.clone(),
        metadata: vec![
            ("repository".to_owned(), source.repository.clone()),
            ("tag".to_owned(), source.tag().to_owned()),
        ],
    })
}

async fn write_image(
    call: &Call<'_>,
    image: &str,
    format: Option<Format>,
    into: &Volume,
) -> Result<(), Stop> {
    let engine = engine(call)?;
    let stopped = |error| Stop::errored(&error);
    let config = engine.image_config(image, None).await.map_err(stopped)?;
    let metadata = json!({
        "env": config.env,
        "user": config.user,
        "entrypoint": config.entrypoint,
        "cmd": config.cmd,
    });
    let metadata = metadata.to_string();
    call.write(into, &[("metadata.json", metadata.as_bytes(), 0o644)])
        .await?;
    match format {
        None => Ok(()),
        Some(Format::Rootfs) => {
            let files = engine.export_files(image, call.labels).await;
            let change = Rewrite {
                below: Some("rootfs"),
                owner: None,
            };
            let files = tar_stream::rewrite(files.map_err(stopped)?, change);
            let written = call.driver.write_tar(into, "", files).await;
            written.map_err(stopped)
        }
        Some(Format::Oci) => load::save(call, engine, image, into).await,
    }
}

pub(super) async fn put(
    call: &Call<'_>,
    params: &Value,
    artifacts: &[(String, Artifact)],
) -> Result<Fetched, Stop> {
    let source = source(call)?;
    let params: PutParams = decode_params(NAME, params)?;
    engine(call)?;
    if params.image.is_empty() {
        return Err(wrong(
            "params.image",
            "it is missing: name the archive of the image",
        ));
    }
    let mut tags = vec![source.tag().to_owned()];
    if let Some(file) = &params.additional_tags {
        tags.extend(more_tags(call, artifacts, file).await?);
    }
    let (artifact, path) = in_artifacts(artifacts, "image", &params.image)?;
    let digests = push::push(call, &source, &tags, (&artifact.volume, path)).await?;
    // That of the source's own tag.
    let digest = digests.into_iter().next();
    let digest = digest.ok_or_else(|| wrong("source.tag", "nothing was pushed"))?;
    Ok(Fetched {
        version: of(digest),
        metadata: vec![
            ("repository".to_owned(), source.repository.clone()),
            ("tags".to_owned(), tags.join(" ")),
        ],
    })
}

async fn more_tags(
    call: &Call<'_>,
    artifacts: &[(String, Artifact)],
    file: &str,
) -> Result<Vec<String>, Stop> {
    let (artifact, path) = in_artifacts(artifacts, "additional_tags", file)?;
    let read = call.driver.read_files(&artifact.volume, &[path]).await;
    let read = read.map_err(|error| Stop::errored(&error))?;
    let bytes = read.into_values().next().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let tags: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    for tag in &tags {
        check_tag("params.additional_tags", tag)?;
    }
    Ok(tags)
}
