//! Where pipelines may reach, and how outgoing webhooks are signed, repeated and verified.

use pocketci_tests::{Client, Server, ServerOptions, Sink, TestDatabase};
use serde_json::{Value, json};

async fn ran(client: &Client, name: &str, body: &str) -> (Value, String) {
    let id = client
        .set(
            name,
            &format!("export default async () => {{ {body} }};"),
            json!({}),
        )
        .await;
    let (_, answer) = client
        .post(&format!("/api/pipelines/{id}/trigger"), &json!({}))
        .await
        .unwrap();
    let run = answer["run_id"].as_str().unwrap().to_owned();
    let ended = client.finished(&run).await;
    let log = client.logs(&run).await;
    (ended, log)
}

#[tokio::test(flavor = "multi_thread")]
async fn private_addresses_are_out_of_reach_unless_the_operator_allows_them() {
    let sink = Sink::start().await;
    let strict = Server::start(ServerOptions::default()).await;
    let client = strict.client();
    let port = sink.url.rsplit_once(':').unwrap().1.to_owned();
    for (at, url) in [
        format!("http://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://2130706433:{port}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://[fd00:ec2::254]/".to_owned(),
        strict.url.clone(),
    ]
    .iter()
    .enumerate()
    {
        let body = format!("await fetch('{url}').then(() => {{ throw 'reached'; }}, (e) => console.log(e.name, e.message));
            await webhook.send({{ url: '{url}' }}).then(() => {{ throw 'reached'; }}, (e) => console.log(e.message));");
        let (ended, log) = ran(&client, &format!("reach-{at}"), &body).await;
        assert_eq!(ended["status"], "success", "{url}: {log}");
        assert_eq!(log.matches("--fetch-allow").count(), 2, "{url}: {log}");
    }
    assert!(sink.seen().is_empty());

    // A redirect is a new address: allowed hosts cannot lead elsewhere.
    let allowed: &'static str = Box::leak(format!("127.0.0.1:{port}").into_boxed_str());
    let lenient = Server::start(ServerOptions {
        flags: vec!["--fetch-allow", allowed],
        ..ServerOptions::default()
    })
    .await;
    let body = format!(
        "const r = await fetch('{0}/redirect'); console.log(r.redirected, r.url.endsWith('/target'), (await r.json()).method);
         console.log((await fetch('{0}/redirect', {{ redirect: 'manual' }})).status);
         await fetch('{0}/redirect', {{ redirect: 'error' }}).catch((e) => console.log(e.message));
         await fetch('{1}').catch((e) => console.log(e.message.includes('--fetch-allow')));",
        sink.url, lenient.url
    );
    let (ended, log) = ran(&lenient.client(), "redirects", &body).await;
    assert_eq!(ended["status"], "success", "{log}");
    assert_eq!(
        log,
        "true true GET\n302\nfetch failed: the answer is a redirect, and redirect is \"error\"\ntrue\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outgoing_webhook_is_anothers_verified_incoming_one() {
    let database = TestDatabase::create().await;
    let server = Server::start(ServerOptions {
        storage: Some(database.url.clone()),
        flags: vec!["--fetch-allow", "127.0.0.1"],
        ..ServerOptions::default()
    })
    .await;
    let client = server.client();
    let receiver = "export default () => { const r = http.request(); http.respond({ status: 201, body: 'got ' + JSON.parse(r.body).n + ' ' + r.headers['Webhook-Id'] }); };";
    let id = client
        .set("receiver", receiver, json!({ "webhook_secret": "shared" }))
        .await;
    let url = format!("{}/api/webhooks/{id}", server.url);
    let body = format!(
        "const sent = await webhook.send({{ url: '{url}', body: {{ n: 7 }}, secret: 'shared' }});
         console.log(sent.status, sent.attempts, sent.body === 'got 7 ' + sent.id);
         await webhook.send({{ url: '{url}', body: {{ n: 7 }}, secret: 'wrong' }}).catch((e) => console.log(e.name, e.status));"
    );
    let (ended, log) = ran(&client, "sender", &body).await;
    assert_eq!(ended["status"], "success", "{log}");
    assert_eq!(log, "201 1 true\nWebhookError 401\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outgoing_webhook_is_tried_again_with_the_same_id() {
    let sink = Sink::start().await;
    let server = Server::start(ServerOptions {
        flags: vec!["--fetch-allow", "127.0.0.1"],
        ..ServerOptions::default()
    })
    .await;
    let body = format!(
        "const sent = await webhook.send({{ url: '{0}/flaky/2', body: 'hello', secret: 'whsec_c2VjcmV0', headers: {{ 'X-More': '1' }} }});
         console.log(sent.status, sent.attempts);
         const later = await webhook.send({{ url: '{0}/later', wait: false }});
         console.log(Object.keys(later).join());",
        sink.url
    );
    let (ended, log) = ran(&server.client(), "sender", &body).await;
    assert_eq!(ended["status"], "success", "{log}");
    assert_eq!(log, "200 3\nid\n");
    let seen = sink.seen();
    let tries: Vec<_> = seen
        .iter()
        .filter(|seen| seen.line == "POST /flaky/2")
        .collect();
    assert_eq!(tries.len(), 3);
    assert!(
        tries
            .iter()
            .all(|one| one.headers["webhook-id"] == tries[0].headers["webhook-id"])
    );
    let last = tries[2];
    assert_eq!(
        (last.body.as_slice(), last.headers["x-more"].as_str()),
        (&b"hello"[..], "1")
    );
    let plain = pocketci_tests::client::sign("whsec_c2VjcmV0", b"hello");
    assert_eq!(last.headers["x-webhook-signature"], plain);
    assert!(last.headers["webhook-signature"].starts_with("v1,"));
    // Not awaited, and delivered before the run was over.
    assert!(seen.iter().any(|one| one.line == "POST /later"));
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_arrives_with_its_rendered_text() {
    let sink = Sink::start().await;
    let server = Server::start(ServerOptions {
        flags: vec!["--fetch-allow", "127.0.0.1"],
        ..ServerOptions::default()
    })
    .await;
    let body = format!(
        "notify.configure({{ backends: {{ ops: {{ type: 'smtp', smtpHost: '{}', from: 'ci@example.com', recipients: ['a@example.com', 'b@example.com'], tls: 'none', subject: 'Build' }} }} }});
         notify.updateStatus('failed');
         await notify.send({{ name: 'ops', message: '{{{{ .PipelineName }}}}: {{{{ if eq .Status \"failed\" }}}}broken{{{{ else }}}}fine{{{{ end }}}}' }});",
        sink.smtp
    );
    let (ended, log) = ran(&server.client(), "mailer", &body).await;
    assert_eq!(ended["status"], "success", "{log}");
    let mails = sink.mails();
    assert_eq!(mails.len(), 1);
    for part in ["Subject: Build", "b@example.com", "mailer: broken"] {
        assert!(mails[0].contains(part), "{}", mails[0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tries_of_webhook_send_are_in_the_log_without_secrets() {
    let sink = Sink::start().await;
    let server = Server::start(ServerOptions {
        flags: vec!["--fetch-allow", "127.0.0.1"],
        ..ServerOptions::default()
    })
    .await;
    let body = format!(
        "const sent = await webhook.send({{ url: '{}/flaky/1?token=in-the-url', body: 'hello', secret: 'a-signing-secret',
            headers: {{ Authorization: 'Bearer a-bearer-token' }} }});
         console.log(sent.id);",
        sink.url
    );
    let client = server.client();
    let (ended, log) = ran(&client, "sender", &body).await;
    assert_eq!(ended["status"], "success", "{log}");
    let (status, listed) = client.get("/api/deliveries?origin=send").await.unwrap();
    assert_eq!(status, 200);
    let found = &listed["items"][0];
    assert_eq!(found["webhook_id"], log.trim(), "{listed}");
    assert_eq!(
        (&found["state"], &found["tries"]),
        (&json!("delivered"), &json!(2))
    );
    let path = format!("/api/deliveries/{}", found["id"].as_str().unwrap());
    let (_, shown) = client.get(&path).await.unwrap();
    let statuses: Vec<&Value> = shown["log"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["response"]["status"])
        .collect();
    assert_eq!(statuses, [&json!(503), &json!(200)]);
    assert_eq!(
        shown["log"][1]["request"]["url"],
        format!("{}/flaky/1", sink.url)
    );
    assert!(
        shown["log"][1]["sender"]
            .as_str()
            .unwrap()
            .starts_with("agent ")
    );
    for secret in ["in-the-url", "a-signing-secret", "a-bearer-token"] {
        assert!(!shown.to_string().contains(secret), "{shown}");
    }
}
