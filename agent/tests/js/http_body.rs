//! What is made of the webhook's body when a program looks: bytes, JSON, forms, files.

use crate::support::Case;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use pocketci_agent::js::host::{FileMount, WebhookRequest};
use pocketci_agent::webhook_body::{MAX_WHOLE_BYTES, Pieces, Source, WebhookBody, WebhookFile};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A server that counts how often it is asked for the body.
struct Server {
    body: Bytes,
    asked: AtomicUsize,
}

#[async_trait]
impl Source for Server {
    async fn pieces(&self) -> Result<Pieces, String> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let pieces: Vec<_> = self.body.chunks(7).map(Bytes::copy_from_slice).collect();
        Ok(stream::iter(pieces.into_iter().map(Ok)).boxed())
    }
}

fn changed(case: Case, change: impl FnOnce(&mut WebhookRequest)) -> Case {
    let mut case = case;
    change(case.job.webhook.as_mut().unwrap());
    case
}

const TYPE: &str = "multipart/form-data; boundary=b";
const FORM: &[u8] = b"--b\r\n\r\na\r\n--b\r\n\r\n\0\xffbytes\r\n--b\r\n\r\n{\"n\":1}\r\n--b--";

/// A form of a field and two files, as a server describes it.
fn upload(script: &str) -> Case {
    let case = Case::body(script).webhook(&[("content-type", TYPE)], FORM);
    changed(case, |webhook| {
        webhook.form = vec![
            ("f".into(), "a".into()),
            ("f".into(), "b".into()),
            ("payload".into(), "{\"p\":2}".into()),
        ];
        let file = |index, name: &str, size| WebhookFile {
            index,
            name: name.into(),
            filename: "../../x".into(),
            content_type: "text/plain".into(),
            size,
            sha256: "00".into(),
        };
        webhook.files = vec![file(1, "one", 7), file(2, "two", 7)];
    })
}

#[test]
fn bytes_that_are_no_text_come_three_ways() {
    let ran = Case::body(
        "const r = http.request();
         const bytes = new Uint8Array(await r.arrayBuffer());
         console.log(r.bodyEncoding, r.body.length, r.bodyBase64.length, atob(r.bodyBase64) === r.body);
         console.log(bytes.length, bytes[0], bytes[255], r.payload, r.form);",
    )
    .webhook(&[], &(0..=255).collect::<Vec<u8>>())
    .run()
    .succeeded();
    assert_eq!(ran.stdout(), "binary 256 344 true\n256 0 255 null null\n");
}

#[test]
fn a_payload_is_parsed_from_json_and_from_forms() {
    let script = "const r = http.request(); console.log(JSON.stringify([r.payload, r.form, r.bodyEncoding]))";
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let none: [(&str, &str); 0] = [];
    for (headers, body, expected) in [
        (&none[..], "{\"a\":[1]}", "[{\"a\":[1]},null,\"utf-8\"]"),
        (&none[..], "no json", "[null,null,\"utf-8\"]"),
        (
            &form[..],
            "a=1&a=b+c&payload=%7B%22x%22%3A1%7D",
            "[{\"x\":1},{\"a\":[\"1\",\"b c\"],\"payload\":\"{\\\"x\\\":1}\"},\"utf-8\"]",
        ),
    ] {
        let ran = Case::body(script)
            .webhook(headers, body.as_bytes())
            .run()
            .succeeded();
        assert_eq!(ran.stdout().trim(), expected);
    }
}

#[test]
fn files_are_read_one_by_one_and_fields_are_texts() {
    let ran = upload(
        "const r = http.request();
         console.log(JSON.stringify([r.files, r.form, r.payload]));
         const bytes = await r.files[0].bytes();
         console.log(bytes.length, bytes[0], bytes[1], (await r.files[0].arrayBuffer()).byteLength);
         console.log(await r.files[1].text(), (await r.files[1].json()).n, r.bodyFile.size);",
    )
    .run()
    .succeeded();
    let file = |name: &str| {
        format!(
            "{{\"name\":\"{name}\",\"filename\":\"../../x\",\"contentType\":\"text/plain\",\"size\":7,\"sha256\":\"00\"}}"
        )
    };
    let expected = format!(
        "[[{},{}],{{\"f\":[\"a\",\"b\"],\"payload\":\"{{\\\"p\\\":2}}\"}},{{\"p\":2}}]\n7 0 255 7\n{{\"n\":1}} 1 {}\n",
        file("one"),
        file("two"),
        FORM.len()
    );
    assert_eq!(ran.stdout(), expected);
}

#[test]
fn a_file_is_mounted_by_its_handle_and_needs_a_folder_without_a_volume() {
    let ran = upload(
        "const [one, two] = http.request().files;
         await runtime.run({ command: { path: 'x' }, mounts: { '/in/a': one, 'in/b': two, '/in/raw': http.request().bodyFile, data: 'v' } });
         for (const mounts of [{ '/in': 'v', '/in/a': one }, { '../a': one }]) {
           await runtime.run({ command: { path: 'x' }, mounts }).catch((error) => console.log(error.message));
         }",
    )
    .run()
    .succeeded();
    let files = &ran.requests()[0].files;
    assert_eq!(files["/in/a"], FileMount::Part(1));
    assert_eq!(files["in/b"], FileMount::Part(2));
    assert_eq!(files["/in/raw"], FileMount::Body);
    assert_eq!(ran.requests()[0].mounts["data"], "v");
    assert!(ran.stdout().contains("give the file a folder of its own"));
    assert!(ran.stdout().contains("without \"..\""));
}

#[test]
fn a_large_body_is_fetched_when_it_is_looked_at_and_not_before() {
    let server = Arc::new(Server {
        body: Bytes::from_static(b"{\"a\":1}"),
        asked: AtomicUsize::new(0),
    });
    let run = |script: &str, len: u64| {
        let source = server.clone();
        let case = Case::body(script).webhook(&[("a", "1"), ("b", "x, y")], b"");
        changed(case, |webhook| {
            webhook.body = WebhookBody::there(len, source);
            webhook.repeated_headers = vec![("b".into(), "x".into()), ("b".into(), "y".into())];
        })
        .run()
        .succeeded()
        .stdout()
    };
    let said = run(
        "const r = http.request(); console.log(Object.keys(r).slice(4, 7).join(), JSON.stringify(r.headersAll))",
        7,
    );
    assert_eq!(
        said,
        "headers,body,query {\"a\":[\"1\"],\"b\":[\"x\",\"y\"]}\n"
    );
    assert_eq!(server.asked.load(Ordering::Relaxed), 0);
    let said = run(
        "const r = http.request(); console.log(r.body, r.body, r.payload.a)",
        7,
    );
    assert_eq!(said, "{\"a\":1} {\"a\":1} 1\n");
    assert_eq!(server.asked.load(Ordering::Relaxed), 2);
    let said = run(
        "try { http.request().body } catch (error) { console.log(error.message) }",
        MAX_WHOLE_BYTES + 1,
    );
    assert!(said.contains("mount it into a step instead"), "{said}");
}

#[test]
fn a_reply_may_be_given_as_base64() {
    let ran = Case::body("http.respond({ bodyBase64: btoa('\\xff\\0') })")
        .webhook(&[], b"")
        .run()
        .succeeded();
    assert_eq!(ran.reply().body, &b"\xff\0"[..]);
    let ran = Case::body(
        "for (const wrong of [{ bodyBase64: '*' }, { bodyBase64: 'AA==', body: 'x' }, { bodyBase64: 1 }]) {
           try { http.respond(wrong) } catch (error) { console.log(error.name) }
         }",
    )
    .webhook(&[], b"")
    .run()
    .succeeded();
    assert_eq!(ran.stdout(), "TypeError\nTypeError\nTypeError\n");
}
