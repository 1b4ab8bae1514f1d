//! Pulling an image that the engine does not have.

use crate::container::RegistryLogin;
use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt;

pub(super) enum PullError {
    /// The engine says that it cannot be had.
    Refused(String),
    /// The engine itself cannot be used.
    Engine(Error),
}

/// The registry that a reference names, Docker's own if it names none.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => "docker.io",
    }
}

/// The reference with `:latest` where it names neither tag nor digest.
pub(super) fn with_tag(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    if name.contains(':') || name.contains('@') {
        image.to_owned()
    } else {
        format!("{image}:latest")
    }
}

/// A login as the engine takes it.
pub(super) fn credentials(image: &str, login: Option<&RegistryLogin>) -> Option<DockerCredentials> {
    login.map(|login| DockerCredentials {
        username: Some(login.username.clone()),
        password: Some(login.password.clone()),
        serveraddress: Some(match login.registry.as_str() {
            "" => registry(image).to_owned(),
            registry => registry.to_owned(),
        }),
        ..DockerCredentials::default()
    })
}

/// Pulls, anonymously without a login; dropping the future ends the pull.
pub(super) async fn pull(
    docker: &Docker,
    image: &str,
    login: Option<&RegistryLogin>,
) -> Result<(), PullError> {
    let credentials = credentials(image, login);
    let options = CreateImageOptions {
        from_image: Some(with_tag(image)),
        ..CreateImageOptions::default()
    };
    let mut progress = docker.create_image(Some(options), None, credentials);
    while let Some(step) = progress.next().await {
        match step {
            Ok(info) => {
                if let Some(detail) = info.error_detail.and_then(|detail| detail.message) {
                    return Err(PullError::Refused(detail));
                }
            }
            Err(Error::DockerResponseServerError { message, .. }) => {
                return Err(PullError::Refused(message));
            }
            Err(Error::DockerStreamError { error }) => return Err(PullError::Refused(error)),
            Err(error) => return Err(PullError::Engine(error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::with_tag;

    #[test]
    fn an_image_without_tag_is_its_latest() {
        for (given, meant) in [
            ("alpine", "alpine:latest"),
            ("golang:1.22", "golang:1.22"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            ("a@sha256:00", "a@sha256:00"),
        ] {
            assert_eq!(with_tag(given), meant);
        }
    }
}
