//! What holds for volumes of every driver.

use futures_util::{StreamExt, TryStreamExt};
use pocketci_agent::container::{
    Driver, DriverError, Mount, NewVolume, Owner, StepExit, StepSpec, TarStream, Volume, tar_stream,
};
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A driver, and what a shell needs there.
pub struct Place<'a> {
    pub driver: &'a dyn Driver,
    pub image: String,
    pub labels: BTreeMap<String, String>,
}

impl Place<'_> {
    pub async fn volume(&self) -> Volume {
        let made = self.driver.create_volume("v", self.labels.clone()).await;
        made.unwrap()
    }

    pub async fn derive(&self, from: &Volume) -> Volume {
        self.derive_for(from, None).await.unwrap()
    }

    async fn derive_for(&self, from: &Volume, owner: Option<Owner>) -> Result<Volume, DriverError> {
        let new = NewVolume {
            name: "d",
            labels: self.labels.clone(),
            owner,
        };
        self.driver.derive_volume(from, new).await
    }

    /// What a script says, with volumes mounted below its directory.
    pub async fn shell(&self, script: &str, mounts: &[(&str, &Volume)]) -> String {
        let spec = StepSpec {
            image: self.image.clone(),
            path: "sh".into(),
            args: vec!["-ec".into(), script.into()],
            labels: self.labels.clone(),
            no_network: true,
            mounts: mounts
                .iter()
                .map(|(path, volume)| Mount {
                    path: (*path).to_owned(),
                    volume: volume.id.clone(),
                })
                .collect(),
            ..StepSpec::default()
        };
        let (sender, mut pieces) = mpsc::channel(8);
        let running = self.driver.run(spec, sender, CancellationToken::new());
        let reading = async {
            let mut said = Vec::new();
            while let Some((_, bytes)) = pieces.recv().await {
                said.extend_from_slice(&bytes);
            }
            String::from_utf8(said).unwrap()
        };
        let (exit, said) = tokio::join!(running, reading);
        let clean = StepExit::Exited {
            code: 0,
            oom: false,
        };
        assert_eq!(exit.unwrap(), clean, "{said}");
        said
    }

    async fn remove(&self, volumes: &[&Volume]) {
        for volume in volumes {
            self.driver.remove_volume(volume).await;
        }
    }
}

/// Edits of a derived volume are its own, at every depth, and go with it.
pub async fn derived_volumes_are_written_without_others_seeing_it(place: &Place<'_>) {
    let first = place.volume().await;
    place
        .shell("cd v; echo old >a; mkdir d; echo b >d/b; echo c >d/c; ln -s /etc/passwd link; ln -s a near; \
                chmod 750 d; chmod +x a", &[("v", &first)])
        .await;
    let second = place.derive(&first).await;
    place
        .shell(
            "cd v; echo new >a; rm d/b; echo e >d/e; rm -r link",
            &[("v", &second)],
        )
        .await;
    let third = place.derive(&second).await;
    let fourth = place.derive(&third).await;
    place
        .shell("cd v; rm -r d; mkdir d; echo only >d/f", &[("v", &fourth)])
        .await;
    let show = "cd v; cat a; ls d; readlink link || true; readlink near; stat -c '%a %n' a d";
    let of = async |volume: &Volume| place.shell(show, &[("v", volume)]).await;
    assert_eq!(
        of(&first).await,
        "old\nb\nc\n/etc/passwd\na\n755 a\n750 d\n"
    );
    assert_eq!(of(&second).await, "new\nc\ne\na\n755 a\n750 d\n");
    assert_eq!(of(&third).await, of(&second).await);
    assert_eq!(of(&fourth).await, "new\nf\na\n755 a\n755 d\n");
    // Two at once of one, side by side in one step.
    let (one, two) = (place.derive(&first).await, place.derive(&first).await);
    let said = place
        .shell(
            "echo 1 >one/a; echo 2 >two/a; cat one/a two/a v/a",
            &[("one", &one), ("two", &two), ("v", &first)],
        )
        .await;
    assert_eq!(said, "1\n2\nold\n");
    // A volume beneath others may be removed first: what is above stays whole.
    place.remove(&[&first, &second, &third]).await;
    assert_eq!(of(&fourth).await, "new\nf\na\n755 a\n755 d\n");
    place.remove(&[&fourth, &one, &two]).await;
    for volume in [&first, &second, &third, &fourth, &one, &two] {
        assert!(!place.driver.has_volume(volume).await, "{volume:?}");
    }
}

/// Deeper than any overlay can be, it is still right.
pub async fn derivation_has_no_depth_limit(place: &Place<'_>) {
    let mut volumes = vec![place.volume().await];
    for depth in 0..45 {
        let last = place.derive(&volumes[depth]).await;
        let archive = tar_stream::of_files([(format!("f{depth}").as_str(), &b"x"[..], 0o644)]);
        place
            .driver
            .write_tar(&last, "", tar_stream::of_bytes(archive.unwrap()))
            .await
            .unwrap();
        volumes.push(last);
    }
    let last = volumes.last().unwrap();
    assert_eq!(
        place.shell("ls v | wc -l", &[("v", last)]).await.trim(),
        "45"
    );
    for volume in &volumes {
        place.driver.remove_volume(volume).await;
    }
}

/// Where the process may, all files become the owner's.
pub async fn derived_volumes_may_have_another_owner(place: &Place<'_>) {
    let first = place.volume().await;
    place
        .shell("cd v; mkdir d; echo a >d/a; ln -s a d/l", &[("v", &first)])
        .await;
    let owner = Owner {
        uid: 1234,
        gid: 2345,
    };
    let second = place.derive_for(&first, Some(owner)).await.unwrap();
    let empty = place.volume().await;
    place.driver.own_volume(&empty, owner).await.unwrap();
    let said = place
        .shell(
            "stat -c '%u:%g' v/. v/d v/d/a v/d/l e/.; cat v/d/l; stat -c '%u:%g' f/d",
            &[("v", &second), ("e", &empty), ("f", &first)],
        )
        .await;
    assert_eq!(said, format!("{}a\n0:0\n", "1234:2345\n".repeat(5)));
    place.remove(&[&first, &second, &empty]).await;
}

async fn names(stream: TarStream) -> BTreeSet<String> {
    let list = tar_stream::consume("list", stream, |from| {
        let mut names = BTreeSet::new();
        for entry in tar::Archive::new(&mut *from).entries()? {
            let entry = entry?;
            let link = entry
                .link_name()?
                .map(|link| format!("->{}", link.display()));
            names.insert(format!(
                "{}{}",
                entry.path()?.display(),
                link.unwrap_or_default()
            ));
        }
        Ok(names)
    });
    list.await.unwrap()
}

/// What goes in comes out; paths lead below the volume only.
pub async fn archives_go_in_and_out(place: &Place<'_>) {
    let volume = place.volume().await;
    let long = "n".repeat(60);
    let long = format!("{long}/{long}/{long}");
    let files = [
        ("run.sh", &b"#!/bin/sh\n"[..], 0o755),
        ("d/", &[][..], 0o755),
        ("d/x", &b"x"[..], 0o600),
        (long.as_str(), &b"long"[..], 0o644),
    ];
    let archive = tar_stream::of_files(files).unwrap();
    // In pieces that cut everything.
    let pieces: Vec<_> = archive.chunks(100).map(<[u8]>::to_vec).collect();
    let stream = futures_util::stream::iter(pieces)
        .map(|piece| Ok(piece.into()))
        .boxed();
    place
        .driver
        .write_tar(&volume, "in/ner", stream)
        .await
        .unwrap();
    let read = async |path: &str| names(place.driver.read_tar(&volume, path).await.unwrap()).await;
    let plain = |names: BTreeSet<String>| -> BTreeSet<String> {
        names
            .iter()
            .map(|name| {
                name.trim_start_matches("./")
                    .trim_end_matches('/')
                    .to_owned()
            })
            .filter(|name| !name.is_empty())
            .collect()
    };
    let inner = plain(read("/in/ner").await);
    assert!(
        inner.contains("run.sh") && inner.contains("d/x") && inner.contains(&long),
        "{inner:?}"
    );
    assert_eq!(read("in/ner/d/x").await, BTreeSet::from(["x".to_owned()]));
    assert_eq!(plain(read("in").await).len(), inner.len() + 1);
    let said = place
        .shell(
            "cat v/in/ner/*/*/*; stat -c %a v/in/ner/run.sh v/in/ner/d/x",
            &[("v", &volume)],
        )
        .await;
    assert_eq!(said, "long755\n600\n");
    for path in ["none", "in/none"] {
        let error = place.driver.read_tar(&volume, path).await.err().unwrap();
        assert!(matches!(error, DriverError::File { .. }), "{error}");
    }
    for path in ["..", "in/../../x"] {
        assert!(place.driver.read_tar(&volume, path).await.is_err());
        let empty = tar_stream::of_bytes(tar_stream::of_files([]).unwrap());
        assert!(place.driver.write_tar(&volume, path, empty).await.is_err());
    }
    place.remove(&[&volume]).await;
}

/// Links out of the volume are kept as links, and neither read nor written through.
pub async fn links_lead_nowhere(place: &Place<'_>, outside: &std::path::Path) {
    let volume = place.volume().await;
    std::fs::write(outside.join("secret"), "secret").unwrap();
    let target = outside.display();
    place
        .shell(
            &format!("cd v; ln -s {target} out; ln -s {target}/secret file; ln -s / root"),
            &[("v", &volume)],
        )
        .await;
    let found = names(place.driver.read_tar(&volume, "").await.unwrap()).await;
    assert!(
        found
            .iter()
            .any(|name| name.ends_with(&format!("out->{target}"))),
        "{found:?}"
    );
    for path in ["out", "out/secret", "file", "root/etc"] {
        if let Ok(stream) = place.driver.read_tar(&volume, path).await {
            let bytes: Vec<bytes::Bytes> = stream.try_collect().await.unwrap_or_default();
            assert!(
                !bytes
                    .concat()
                    .windows(6)
                    .any(|part| part == b"secret" && !path.contains("secret")),
                "{path}"
            );
        }
        assert!(
            place
                .driver
                .read_files(&volume, &[path.to_owned()])
                .await
                .is_err()
        );
    }
    let file =
        || tar_stream::of_bytes(tar_stream::of_files([("pwned", &b"x"[..], 0o644)]).unwrap());
    let _ = place.driver.write_tar(&volume, "out", file()).await;
    // By the names of entries as well.
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "hop", outside).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    builder
        .append_data(&mut header, "hop/pwned", &b"x"[..])
        .unwrap();
    let archive = builder.into_inner().unwrap();
    let _ = place
        .driver
        .write_tar(&volume, "", tar_stream::of_bytes(archive.into()))
        .await;
    assert!(!outside.join("pwned").exists());
    let derived = place.derive(&volume).await;
    let said = place
        .shell("readlink v/out; readlink v/root", &[("v", &derived)])
        .await;
    assert_eq!(said, format!("{target}\n/\n"));
    place.remove(&[&derived, &volume]).await;
}

/// A stream that breaks off is an error with its own words, and the volume can still be removed.
pub async fn a_broken_stream_is_an_error(place: &Place<'_>) {
    let volume = place.volume().await;
    let broken = DriverError::Invalid("the upload broke off".into());
    let archive = tar_stream::of_files([("a", &[7; 4000][..], 0o644)]).unwrap();
    let stream = futures_util::stream::iter([Ok(archive.slice(..2000)), Err(broken)]).boxed();
    let error = place
        .driver
        .write_tar(&volume, "", stream)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("the upload broke off"),
        "{error}"
    );
    place.remove(&[&volume]).await;
    assert!(!place.driver.has_volume(&volume).await);
}
