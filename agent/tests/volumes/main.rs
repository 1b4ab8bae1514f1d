//! Volumes: copy-on-write, archives in and out, images of files. The Docker half needs an engine; `make test` starts one.
#![allow(clippy::unwrap_used, missing_docs)] // a test fails by panicking

mod rules;

use bollard::Docker;
use bollard::query_parameters::{ListImagesOptions, ListVolumesOptions};
use pocketci_agent::container::docker::DockerDriver;
use pocketci_agent::container::native::NativeDriver;
use pocketci_agent::container::{Driver, Output, StepSpec, tar_stream};
use rules::Place;
use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

fn host() -> String {
    std::env::var("POCKETCI_TEST_DOCKER_HOST")
        .expect("run `make test`, or set POCKETCI_TEST_DOCKER_HOST to a Docker engine")
}

fn image() -> String {
    std::env::var("POCKETCI_TEST_IMAGE").unwrap_or_else(|_| "pocketci-test/busybox:1".into())
}

fn docker() -> DockerDriver {
    DockerDriver::new(Some(host()))
}

fn labels(test: &str) -> BTreeMap<String, String> {
    let pairs = [
        ("pocketci.run", "00000000-0000-7000-8000-000000000001"),
        ("pocketci.agent", test),
        ("pocketci.test", test),
    ];
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn place<'a>(driver: &'a dyn Driver, test: &str) -> Place<'a> {
    Place {
        driver,
        image: image(),
        labels: labels(test),
    }
}

fn client() -> Docker {
    let socket = host();
    let socket = socket.strip_prefix("unix://").unwrap().to_owned();
    Docker::connect_with_unix(&socket, 30, bollard::API_DEFAULT_VERSION).unwrap()
}

fn by_label(test: &str) -> Option<HashMap<String, Vec<String>>> {
    let label = format!("pocketci.test={test}");
    Some(HashMap::from([("label".to_owned(), vec![label])]))
}

/// Volumes and images of a test.
async fn left(test: &str) -> (usize, usize) {
    let volumes = ListVolumesOptions {
        filters: by_label(test),
    };
    let volumes = client().list_volumes(Some(volumes)).await.unwrap();
    let images = ListImagesOptions {
        filters: by_label(test),
        all: true,
        ..ListImagesOptions::default()
    };
    let images = client().list_images(Some(images)).await.unwrap();
    (volumes.volumes.unwrap_or_default().len(), images.len())
}

macro_rules! rules {
    ($($rule:ident),*) => { $(
        mod $rule {
            use super::*;

            #[tokio::test]
            async fn native() {
                rules::$rule(&place(&NativeDriver::default(), stringify!($rule))).await;
            }

            #[tokio::test]
            async fn docker() {
                let driver = super::docker();
                rules::$rule(&place(&driver, stringify!($rule))).await;
                assert_eq!(left(stringify!($rule)).await, (0, 0));
            }
        }
    )* };
}

rules!(
    derived_volumes_are_written_without_others_seeing_it,
    derivation_has_no_depth_limit,
    derived_volumes_may_have_another_owner,
    archives_go_in_and_out,
    a_broken_stream_is_an_error
);

#[tokio::test]
async fn links_lead_nowhere_natively() {
    let outside = tempfile::tempdir().unwrap();
    rules::links_lead_nowhere(&place(&NativeDriver::default(), "links"), outside.path()).await;
}

#[tokio::test]
async fn links_lead_nowhere_in_docker() {
    let outside = tempfile::tempdir().unwrap();
    let driver = docker();
    rules::links_lead_nowhere(&place(&driver, "links"), outside.path()).await;
    assert_eq!(left("links").await, (0, 0));
}

#[tokio::test]
async fn a_volume_of_many_megabytes_is_derived_in_milliseconds() {
    let driver = docker();
    let place = place(&driver, "fast");
    let first = place.volume().await;
    place
        .shell(
            "dd if=/dev/zero of=v/big bs=1M count=100 2>/dev/null",
            &[("v", &first)],
        )
        .await;
    // The first one finds out whether the engine can.
    let mut derived = vec![place.derive(&first).await];
    let started = Instant::now();
    for _ in 0..10 {
        derived.push(place.derive(&first).await);
    }
    let each = started.elapsed() / 10;
    println!("a derived volume takes {each:?}");
    assert!(
        each.as_millis() < 100,
        "{each:?}: not an overlay, or a very slow engine"
    );
    for volume in derived.iter().chain([&first]) {
        driver.remove_volume(volume).await;
    }
    assert_eq!(left("fast").await, (0, 0));
}

#[tokio::test]
async fn the_sweep_takes_every_layer_whatever_the_order() {
    let driver = docker();
    let place = place(&driver, "sweep");
    let mut last = place.volume().await;
    for _ in 0..5 {
        last = place.derive(&last).await;
    }
    assert!(left("sweep").await.0 >= 6);
    let swept = docker()
        .sweep(&|labels| {
            labels
                .get("pocketci.test")
                .is_some_and(|test| test == "sweep")
        })
        .await;
    assert!(swept.is_some_and(|count| count >= 6), "{swept:?}");
    assert_eq!(left("sweep").await, (0, 0));
}

#[tokio::test]
async fn files_become_an_image_with_its_user_environment_and_labels() {
    let driver = docker();
    let place = place(&driver, "rootfs");
    let volume = place.volume().await;
    let metadata = br#"{"env": ["A=x $HOME \"q\" 'y'\\", "PATH=/bin"], "user": "nobody:0", "cmd": ["sh", "-c", "echo hi"]}"#;
    let archive = tar_stream::of_files([("metadata.json", &metadata[..], 0o644)]).unwrap();
    driver
        .write_tar(&volume, "", tar_stream::of_bytes(archive))
        .await
        .unwrap();
    place
        .shell(
            "mkdir v/rootfs; cp -a /bin /etc v/rootfs/",
            &[("v", &volume)],
        )
        .await;
    let image = driver
        .import_image(&volume, &labels("rootfs"))
        .await
        .unwrap();
    let config = driver.image_config(&image, None).await.unwrap();
    assert_eq!(config.env, ["A=x $HOME \"q\" 'y'\\", "PATH=/bin"]);
    assert_eq!(
        (
            config.user.as_str(),
            config.cmd.len(),
            config.entrypoint.len()
        ),
        ("nobody:0", 3, 0)
    );
    let owner = driver
        .image_owner(&image, &config.user, &labels("rootfs"))
        .await
        .unwrap();
    assert_eq!(owner.map(|owner| (owner.uid, owner.gid)), Some((65534, 0)));
    let inside = Place {
        image: image.clone(),
        ..place
    };
    assert_eq!(
        inside.shell("echo \"$A\"; id -u", &[]).await,
        "x $HOME \"q\" 'y'\\\n65534\n"
    );
    // By the sweep as well as by name.
    let again = driver
        .import_image(&volume, &labels("rootfs"))
        .await
        .unwrap();
    driver.remove_image(&again).await;
    driver.remove_volume(&volume).await;
    driver
        .sweep(&|labels| {
            labels
                .get("pocketci.test")
                .is_some_and(|test| test == "rootfs")
        })
        .await;
    assert_eq!(left("rootfs").await, (0, 0));
}

#[tokio::test]
async fn an_artifact_that_is_no_image_says_what_is_missing() {
    let driver = docker();
    let place = place(&driver, "norootfs");
    let volume = place.volume().await;
    let error = driver
        .import_image(&volume, &labels("norootfs"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("metadata.json"), "{error}");
    let archive = tar_stream::of_files([("metadata.json", &b"{}"[..], 0o644)]).unwrap();
    driver
        .write_tar(&volume, "", tar_stream::of_bytes(archive))
        .await
        .unwrap();
    let error = driver
        .import_image(&volume, &labels("norootfs"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("rootfs"), "{error}");
    driver.remove_volume(&volume).await;
    assert_eq!(left("norootfs").await, (0, 0));
}

#[tokio::test]
async fn certificates_of_the_machine_are_mounted_where_it_has_some() {
    let driver = docker();
    let spec = StepSpec {
        host_certificates: true,
        path: "sh".into(),
        args: vec![
            "-c".into(),
            "ls /etc/ssl/certs; touch /etc/ssl/certs/x".into(),
        ],
        image: image(),
        ..StepSpec::default()
    };
    let (sender, mut pieces) = tokio::sync::mpsc::channel::<Output>(8);
    let reading = async {
        let mut said = Vec::new();
        while let Some((_, bytes)) = pieces.recv().await {
            said.extend_from_slice(&bytes);
        }
        String::from_utf8(said).unwrap()
    };
    let (exit, said) = tokio::join!(driver.run(spec, sender, Default::default()), reading);
    assert!(exit.is_ok(), "{exit:?}");
    let bundle = "ca-certificates.crt";
    let here = std::path::Path::new("/etc/ssl/certs").join(bundle);
    if here.symlink_metadata().is_ok_and(|found| found.is_file()) {
        assert!(said.contains(bundle), "{said}");
        assert!(said.contains("Read-only"), "{said}");
    }
}
