//! The documentation's own examples, types stripped by hand where there are any.

use crate::support::Case;

const MINIMAL: &str = r#"const pipeline = async () => {
  const req = http.request();
  if (req) {
    http.respond({ status: 200, body: "ok" });
  }
  // Continue processing...
};
export { pipeline };"#;

const READ_AND_RESPOND: &str = r#"const pipeline = async () => {
  const req = http.request();
  if (req) {
    const data = JSON.parse(req.body);
    http.respond({
      status: 200,
      body: JSON.stringify({ received: true, keys: Object.keys(data) }),
      headers: { "Content-Type": "application/json" },
    });
  }
  // Run containers in the background after responding
  await runtime.run({
    name: "process",
    image: "alpine",
    command: { path: "echo", args: ["processing webhook"] },
  });
};
export { pipeline };"#;

const GITHUB: &str = r#"const pipeline = async () => {
  const req = http.request();
  if (!req) return;
  // req.provider === "github", req.eventType === "push" | "pull_request" | ...
  http.respond({
    status: 200,
    body: JSON.stringify({ accepted: true, event: req.eventType }),
    headers: { "Content-Type": "application/json" },
  });
  const payload = JSON.parse(req.body);
  if (req.eventType === "push") {
    await runtime.run({
      name: "build",
      image: "golang:1.22",
      command: { path: "go", args: ["build", "./..."] },
    });
  }
};
export { pipeline };"#;

const SLACK: &str = r#"const pipeline = async () => {
  const req = http.request();
  if (!req) return;
  // Handle Slack's url_verification challenge
  if (req.eventType === "url_verification") {
    const { challenge } = JSON.parse(req.body);
    http.respond({
      status: 200,
      body: JSON.stringify({ challenge }),
      headers: { "Content-Type": "application/json" },
    });
    return;
  }
  http.respond({ status: 200, body: "ok" });
  const payload = JSON.parse(req.body);
  console.log("Slack event:", payload.event?.type);
};
export { pipeline };"#;

const BOTH_WAYS: &str = r#"const pipeline = async () => {
  const req = http.request();
  if (req) {
    // Triggered via webhook
    http.respond({ status: 200, body: "acknowledged" });
    console.log(`Webhook: ${req.method} from ${req.headers["User-Agent"]}`);
  } else {
    // Triggered manually via /api/pipelines/:id/trigger
    console.log("Manual trigger");
  }
  // Same logic regardless of trigger method
  await runtime.run({
    name: "test",
    image: "golang:1.22",
    command: { path: "go", args: ["test", "./..."] },
  });
};
export { pipeline };"#;

const CONDITIONAL: &str = r#"const pipeline = async () => {
  const req = http.request();
  if (req) {
    http.respond({ status: 200, body: "acknowledged" });
  }
  // Only deploy on GitHub push events to main
  if (
    !webhookTrigger(
      'provider == "github" && eventType == "push" && payload.ref == "refs/heads/main"',
    )
  ) {
    return;
  }
  await runtime.run({
    name: "deploy",
    image: "alpine",
    command: { path: "sh", args: ["-c", "echo deploying"] },
  });
};
export { pipeline };"#;

fn body(reply: &pocketci_agent::js::host::Reply) -> &str {
    std::str::from_utf8(&reply.body).unwrap()
}

#[test]
fn minimal_webhook() {
    let ran = Case::new(MINIMAL).webhook(&[], b"").run().succeeded();
    assert_eq!((ran.reply().status, body(&ran.reply())), (200, "ok"));
    let ran = Case::new(MINIMAL).run().succeeded();
    assert!(ran.host.replies.lock().unwrap().is_empty());
}

#[test]
fn read_body_and_respond_with_data() {
    let ran = Case::new(READ_AND_RESPOND)
        .webhook(&[], br#"{"event":"push","ref":"x"}"#)
        .run()
        .succeeded();
    let reply = ran.reply();
    assert_eq!(body(&reply), r#"{"received":true,"keys":["event","ref"]}"#);
    assert_eq!(
        reply.headers,
        [("Content-Type".to_owned(), "application/json".to_owned())]
    );
    let request = &ran.requests()[0];
    assert_eq!(
        (
            request.name.as_str(),
            request.image.as_str(),
            request.path.as_str()
        ),
        ("process", "alpine", "echo")
    );
    assert_eq!(request.args, ["processing webhook"]);
}

#[test]
fn github_webhook() {
    let ran = Case::new(GITHUB).webhook(&[], b"{}").run().succeeded();
    assert_eq!(body(&ran.reply()), r#"{"accepted":true,"event":"push"}"#);
    assert_eq!(ran.requests()[0].args, ["build", "./..."]);
    assert!(Case::new(GITHUB).run().succeeded().requests().is_empty());
}

#[test]
fn slack_webhook() {
    let mut case = Case::new(SLACK).webhook(&[], br#"{"challenge":"c"}"#);
    case.job.webhook.as_mut().unwrap().event_type = "url_verification".into();
    assert_eq!(
        body(&case.run().succeeded().reply()),
        r#"{"challenge":"c"}"#
    );
    let ran = Case::new(SLACK)
        .webhook(&[], br#"{"event":{"type":"app_mention"}}"#)
        .run()
        .succeeded();
    assert_eq!(
        (body(&ran.reply()), ran.stdout().as_str()),
        ("ok", "Slack event: app_mention\n")
    );
}

#[test]
fn pipeline_that_works_both_ways() {
    let ran = Case::new(BOTH_WAYS)
        .webhook(&[("user-agent", "curl/8")], b"")
        .run()
        .succeeded();
    assert_eq!(ran.stdout(), "Webhook: POST from curl/8\n");
    assert_eq!(
        Case::new(BOTH_WAYS).run().succeeded().stdout(),
        "Manual trigger\n"
    );
}

#[test]
fn conditional_execution() {
    for (trigger, runs) in [
        (Ok(true), 1),
        (Ok(false), 0),
        (Err("unknown name foo".to_owned()), 0),
    ] {
        let mut case = Case::new(CONDITIONAL).webhook(&[], b"{}");
        let is_error = trigger.is_err();
        case.host.trigger = trigger;
        let ran = case.run().succeeded();
        assert_eq!(ran.requests().len(), runs);
        assert_eq!(
            ran.system()
                .contains("webhookTrigger: unknown name foo; the result is false"),
            is_error
        );
        assert!(ran.host.expressions.lock().unwrap()[0].starts_with("provider == \"github\""));
    }
    let mut case = Case::new(CONDITIONAL);
    case.host.trigger = Ok(false);
    assert_eq!(
        case.run().succeeded().requests().len(),
        1,
        "manual runs always pass"
    );
}

#[test]
fn triggered_by_tells_webhooks_from_manual_runs() {
    let body = "if (pipelineContext.triggeredBy === \"webhook\") { console.log('w') } else { console.log(pipelineContext.triggeredBy) }";
    assert_eq!(
        Case::body(body)
            .webhook(&[], b"")
            .run()
            .succeeded()
            .stdout(),
        "w\n"
    );
    assert_eq!(Case::body(body).run().succeeded().stdout(), "manual\n");
}
