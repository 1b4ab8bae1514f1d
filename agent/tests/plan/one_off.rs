//! Tasks without a pipeline: files come with them, and go back.

use crate::bench::{Bench, Server, Wanted, image};
use bytes::Bytes;
use pocketci_proto::agent as pb;
use std::io::Read;
use std::sync::Arc;

on_both!(
    a_one_off_task_gets_its_uploads_and_sends_its_outputs_back_though_it_failed,
    a_one_off_task_whose_upload_is_missing_does_not_run,
    a_one_off_task_whose_upload_breaks_off_does_not_run,
);

fn tar(files: &[(&str, &str)]) -> Bytes {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        archive
            .append_data(&mut header, name, text.as_bytes())
            .unwrap();
    }
    archive.into_inner().unwrap().into()
}

fn wanted(script: &str, uploads: &[&str]) -> Wanted<'static> {
    let config = serde_json::json!({
        "platform": "linux", "image": image(), "inputs": [{ "name": "in" }], "outputs": [{ "name": "out" }],
        "caches": [{ "path": "cache" }], "params": { "A": "1" },
        "run": { "path": "sh", "args": ["-ec", script] }
    });
    let mut wanted = Wanted::of("");
    wanted.more.work = Some(pb::yaml_job::Work::OneOff(pb::OneOff {
        config_json: config.to_string(),
        uploads: uploads.iter().map(|name| (*name).to_owned()).collect(),
        outputs: vec!["out".to_owned()],
        ..pb::OneOff::default()
    }));
    wanted
}

async fn a_one_off_task_gets_its_uploads_and_sends_its_outputs_back_though_it_failed(bench: Bench) {
    let server = Arc::new(Server {
        uploads: [("in".to_owned(), tar(&[("dir/file", "hello")]))].into(),
        ..Server::default()
    });
    let script = "cat in/dir/file; echo $A; echo made > out/made; ls cache; touch cache/x; exit 5";
    for _ in 0..2 {
        let ran = bench.run_at(&server, wanted(script, &["in"])).await;
        assert_eq!(ran.outcome, "failed", "{ran:#?}");
        assert_eq!(ran.stdout("one-off"), "hello1", "a cache is not kept");
    }
    let sent = server.outputs.lock().unwrap()["out"].clone();
    let mut archive = tar::Archive::new(&sent[..]);
    let mut found = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        found.push((entry.path().unwrap().display().to_string(), text));
    }
    let made = found
        .iter()
        .find(|(name, _)| name.ends_with("made"))
        .unwrap();
    assert_eq!(made.1, "made\n");
}

async fn a_one_off_task_whose_upload_is_missing_does_not_run(bench: Bench) {
    let ran = bench
        .run_at(&Arc::default(), wanted("echo ran", &["in"]))
        .await;
    assert_eq!(
        (ran.outcome.as_str(), ran.message.as_str()),
        ("errored", "input \"in\": not uploaded")
    );
    assert!(ran.steps.is_empty());
    let ran = bench.run_at(&Arc::default(), wanted("echo ran", &[])).await;
    assert_eq!(ran.message, "task \"one-off\": missing inputs: in");
}

async fn a_one_off_task_whose_upload_breaks_off_does_not_run(bench: Bench) {
    let server = Arc::new(Server {
        uploads: [("in".to_owned(), tar(&[("file", &"x".repeat(9000))]))].into(),
        breaks_off: true,
        ..Server::default()
    });
    let ran = bench.run_at(&server, wanted("echo ran", &["in"])).await;
    assert_eq!(ran.outcome, "errored", "{ran:#?}");
    assert!(ran.message.contains("the line is cut"), "{}", ran.message);
    assert!(ran.steps.is_empty());
}
