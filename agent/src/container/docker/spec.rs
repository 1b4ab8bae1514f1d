//! A step as the engine's API wants it.

use super::super::{DriverError, StepSpec};
use super::image::with_tag;
use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType, MountVolumeOptions};
use bollard::query_parameters::CreateContainerOptions;
use std::path::Path;

/// What the engine would refuse with words that do not help.
pub(super) fn check(spec: &StepSpec) -> Result<(), DriverError> {
    check_image(spec)?;
    if spec.path.is_empty() {
        return Err(DriverError::Invalid(
            "command.path is missing: name the program to run".into(),
        ));
    }
    Ok(())
}

/// The part of [`check`] that holds for what runs no program.
pub(super) fn check_image(spec: &StepSpec) -> Result<(), DriverError> {
    if spec.image.is_empty() {
        return Err(DriverError::Invalid(
            "image is missing: name a container image, or set the pipeline with --driver native"
                .into(),
        ));
    }
    Ok(())
}

pub(super) fn options(spec: &StepSpec) -> CreateContainerOptions {
    let label = |name: &str| spec.labels.get(name).map(String::as_str).unwrap_or("0");
    // The end of a version 7 UUID is its random part.
    let run = label("pocketci.run");
    let run = &run[run.len().saturating_sub(12)..];
    CreateContainerOptions {
        name: Some(format!(
            "pocketci-{run}-{}-{:08x}",
            label("pocketci.step"),
            rand::random::<u32>()
        )),
        ..CreateContainerOptions::default()
    }
}

/// Where relative mounts are, unless the step names a working directory.
const WORKSPACE: &str = "/workspace";

/// The step's working directory; empty is the image's own.
pub(super) fn work_dir(spec: &StepSpec) -> String {
    let relative = spec.mounts.iter().any(|mount| !mount.path.starts_with('/'));
    match (spec.work_dir.as_str(), relative) {
        ("", true) => WORKSPACE.to_owned(),
        ("", false) => String::new(),
        (dir, _) if dir.starts_with('/') => dir.to_owned(),
        (dir, _) => format!("{WORKSPACE}/{dir}"),
    }
}

fn mounts(spec: &StepSpec) -> Vec<Mount> {
    let work_dir = work_dir(spec);
    let mounts = spec.mounts.iter().map(|mount| Mount {
        typ: Some(MountType::VOLUME),
        source: Some(mount.volume.clone()),
        target: Some(if mount.path.starts_with('/') {
            mount.path.clone()
        } else {
            format!("{work_dir}/{}", mount.path.trim_start_matches("./"))
        }),
        volume_options: spec.no_copy.then(|| MountVolumeOptions {
            no_copy: Some(true),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    });
    mounts
        .chain(spec.host_certificates.then(certificates))
        .collect()
}

/// Where a machine keeps the certificates that it trusts.
pub(super) const CERTIFICATES: &str = "/etc/ssl/certs";
/// All of them in one file, by the names that distributions give it.
const BUNDLES: [&str; 3] = ["ca-certificates.crt", "ca-bundle.crt", "cert.pem"];

/// Whether a directory of certificates is of use elsewhere. On some distributions it has nothing but links out of itself:
/// in a container they would lead nowhere, and hide what the image has.
pub(super) fn has_bundle(directory: &Path) -> bool {
    BUNDLES.iter().any(|bundle| {
        let found = std::fs::symlink_metadata(directory.join(bundle));
        found.is_ok_and(|found| found.is_file())
    })
}

fn certificates() -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(CERTIFICATES.to_owned()),
        target: Some(CERTIFICATES.to_owned()),
        read_only: Some(true),
        ..Mount::default()
    }
}

/// Exactly the program and arguments given, whatever the image's own entry point.
pub(super) fn body(spec: &StepSpec) -> ContainerCreateBody {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let limit = |value: u64| i64::try_from(value).ok().filter(|value| *value > 0);
    let stdin = spec.stdin.is_some();
    ContainerCreateBody {
        image: Some(with_tag(&spec.image)),
        entrypoint: Some(vec![spec.path.clone()]),
        cmd: Some(spec.args.clone()),
        env: Some(
            spec.env
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
        ),
        user: some(&spec.user),
        working_dir: some(&work_dir(spec)),
        labels: Some(spec.labels.clone().into_iter().collect()),
        attach_stdin: Some(stdin),
        open_stdin: Some(stdin),
        stdin_once: Some(stdin),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(false),
        host_config: Some(HostConfig {
            cpu_shares: limit(spec.cpu_shares),
            memory: limit(spec.memory_bytes),
            // No swap beyond it: a limit that can be swapped around is none.
            memory_swap: limit(spec.memory_bytes),
            privileged: Some(spec.privileged),
            mounts: Some(mounts(spec)),
            network_mode: spec.no_network.then(|| "none".to_owned()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

#[cfg(test)]
mod tests {
    use super::has_bundle;
    use std::os::unix::fs::symlink;

    #[test]
    fn certificates_that_are_links_out_of_their_directory_are_not_mounted() {
        let place = tempfile::tempdir().unwrap();
        let certs = place.path().join("certs");
        std::fs::create_dir(&certs).unwrap();
        assert!(!has_bundle(&certs));
        std::fs::write(place.path().join("extracted.pem"), "x").unwrap();
        symlink("../extracted.pem", certs.join("ca-bundle.crt")).unwrap();
        assert!(!has_bundle(&certs));
        std::fs::write(certs.join("ca-certificates.crt"), "x").unwrap();
        assert!(has_bundle(&certs));
        assert!(!has_bundle(&place.path().join("none")));
    }
}
