//! Bodies byte by byte: what is in `golden/` is what a receiver gets.

use super::load::of_run;
use super::{Head, body};
use crate::model::delivery::OutgoingEvent;
use crate::model::receipt::{BodyPlace, Receipt, Verdict};
use crate::model::run::{BuildNumber, End, Job, JobState, Outcome, QueueTerms, Run, RunState};
use crate::model::run::{Trigger, TriggerKind};
use crate::model::subscription::EventName;
use crate::model::{EventId, JobId, PipelineId, ReceiptId, RevisionId, RunId};
use crate::store::RunView;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;
use uuid::Uuid;

const URL: Option<&str> = Some("https://ci.example/");

fn id(number: u128) -> Uuid {
    Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0000 | number)
}

fn end(outcome: Outcome, reason: &str) -> End {
    End {
        outcome,
        reason: reason.into(),
        actor: String::new(),
        message: "never told: it may hold what the program printed".into(),
    }
}

fn job(number: u128, name: &str, end: End) -> Job {
    Job {
        id: JobId(id(number)),
        run_id: RunId(id(2)),
        name: name.into(),
        build: None,
        state: JobState::Finished,
        end: Some(end),
        attempt: 1,
        lost: 0,
        lease: None,
        agent_id: None,
        labels: Default::default(),
        driver: None,
        terms: QueueTerms::default(),
        hold: None,
        queue_until: None,
        report_seq: 0,
        log_seq: 0,
        queued_at: datetime!(2026-03-01 10:00:00 UTC),
        started_at: Some(datetime!(2026-03-01 10:00:01.2345 UTC)),
        finished_at: Some(datetime!(2026-03-01 10:00:09 UTC)),
    }
}

pub(super) fn view(kind: TriggerKind, end: End) -> RunView {
    RunView {
        run: Run {
            id: RunId(id(2)),
            pipeline_id: PipelineId(id(1)),
            revision_id: RevisionId(id(3)),
            state: RunState::Finished,
            end: Some(end.clone()),
            trigger: Trigger::new(kind),
            receipt_id: None,
            wants_reply: false,
            replied: false,
            event_seq: 0,
            cancel: None,
            group: None,
            created_at: datetime!(2026-03-01 10:00:00.5 UTC),
            started_at: Some(datetime!(2026-03-01 10:00:01 UTC)),
            finished_at: Some(datetime!(2026-03-01 10:00:10.0009 UTC)),
        },
        pipeline_name: "deploy".into(),
        jobs: vec![(job(4, "pipeline", end), None)],
        reply: None,
    }
}

pub(super) fn receipt(provider: &str, event: &str, body: &str) -> Receipt {
    Receipt {
        id: ReceiptId(id(5)),
        pipeline_id: Some(PipelineId(id(1))),
        endpoint_id: None,
        event_key: None,
        method: "POST".into(),
        url: "/api/webhooks/x".into(),
        headers: Vec::new(),
        body: body.to_owned().into(),
        body_place: BodyPlace::Inline,
        files: Vec::new(),
        form: Vec::new(),
        body_bytes: 0,
        body_sha256: [0; 32],
        remote_addr: String::new(),
        provider: provider.into(),
        event_type: event.into(),
        delivery_id: None,
        attempt: None,
        verified: true,
        secret_id: None,
        verdict: Verdict::Accepted,
        reason: String::new(),
        received_at: datetime!(2026-03-01 10:00:00.25 UTC),
        run_id: None,
        redelivery_of: None,
        replay_of: None,
        answer: None,
    }
}

fn event(name: EventName, data: Value) -> OutgoingEvent {
    OutgoingEvent {
        id: EventId(id(6)),
        seq: 1,
        name,
        pipeline_id: Some(PipelineId(id(1))),
        run_id: Some(RunId(id(2))),
        job_id: Some(JobId(id(4))),
        attempt: 1,
        at: datetime!(2026-03-01 10:00:10.0016 UTC),
        status: "succeeded".into(),
        data,
        payload: None,
    }
}

fn sent(event: &OutgoingEvent, view: &RunView, receipt: Option<&Receipt>) -> String {
    let entities = of_run(event, view, receipt, URL).expect("it is about a run and a job of it");
    whole(event.name, event.at, &entities)
}

fn whole(name: EventName, at: OffsetDateTime, entities: &str) -> String {
    let head = Head {
        id: id(6),
        kind: name.as_str(),
        happened_at: at,
        webhook_id: id(7),
        webhook_name: "Sample \"Webhook\"",
    };
    let body = body(&head, entities);
    serde_json::from_str::<Value>(&body).expect("it is JSON");
    body
}

#[track_caller]
fn same(got: &str, golden: &str) {
    assert_eq!(got, golden.trim_end(), "\n{got}\n");
}

fn github_push(reference: &str) -> String {
    json!({
        "ref": reference,
        "after": "1dc6aa69429bff4806ad6afe58d3d8f57e25973e",
        "repository": { "html_url": "https://github.com/octo/site", "clone_url": "https://github.com/octo/site.git" },
        "sender": { "id": 583231, "login": "octocat" },
        "head_commit": {
            "id": "1dc6aa69429bff4806ad6afe58d3d8f57e25973e",
            "message": "Description of change\n\nMore details about the change\n",
            "timestamp": "2026-03-01T11:59:53+02:00",
            "author": { "name": "Ann Author", "email": "ann@example.com" },
            "committer": { "name": "GitHub", "email": "noreply@github.com" },
        },
    })
    .to_string()
}

#[test]
fn a_workflow_of_a_push_has_every_entity() {
    let view = view(TriggerKind::Webhook, end(Outcome::Succeeded, ""));
    let receipt = receipt("github", "push", &github_push("refs/heads/main"));
    let event = event(EventName::WorkflowCompleted, Value::Null);
    same(
        &sent(&event, &view, Some(&receipt)),
        include_str!("golden/workflow-completed.json"),
    );
}

#[test]
fn a_job_of_a_tag_has_no_branch_and_its_workflow_no_status() {
    let view = view(TriggerKind::Webhook, end(Outcome::Errored, "agent_lost"));
    let receipt = receipt("github", "push", &github_push("refs/tags/v1.2"));
    let event = event(EventName::JobCompleted, Value::Null);
    same(
        &sent(&event, &view, Some(&receipt)),
        include_str!("golden/job-completed.json"),
    );
}

#[test]
fn what_does_not_apply_is_left_out() {
    let mut view = view(TriggerKind::Manual, end(Outcome::Aborted, "user"));
    let mut build = job(4, "build", end(Outcome::Aborted, "user"));
    build.started_at = None;
    build.build = Some(BuildNumber {
        number: 12,
        rerun: 1,
        rerun_of: None,
    });
    view.jobs = vec![
        (job(9, "first", end(Outcome::Succeeded, "")), None),
        (build, None),
    ];
    // The first job of a run that goes on: the run is not over.
    view.run.finished_at = None;
    let event = event(EventName::JobCompleted, Value::Null);
    same(
        &sent(&event, &view, None),
        include_str!("golden/job-completed-manual.json"),
    );
}

#[test]
fn a_push_of_gitlab_has_trigger_parameters_as_well() {
    let push = json!({
        "object_kind": "push",
        "ref": "refs/heads/main",
        "checkout_sha": "850a1519f25d14e968649cc420d1bd381715c05c",
        "after": "850a1519f25d14e968649cc420d1bd381715c05c",
        "user_id": 9534789, "user_name": "User name", "user_username": "username",
        "user_avatar": "https://secure.gravatar.com/avatar",
        "project_id": 33852820,
        "project": { "name": "hello-world", "web_url": "https://gitlab.com/octo/hello-world",
            "git_ssh_url": "git@gitlab.com:octo/hello-world.git" },
        "total_commits_count": 1,
        "commits": [{
            "id": "850a1519f25d14e968649cc420d1bd381715c05c", "message": "Update README.md",
            "timestamp": "2026-03-01T09:59:16+00:00",
            "author": { "name": "Commit Author", "email": "committer.email@example.com" },
        }],
    });
    let view = view(TriggerKind::Webhook, end(Outcome::Failed, ""));
    let receipt = receipt("gitlab", "Push Hook", &push.to_string());
    let event = event(EventName::WorkflowCompleted, Value::Null);
    same(
        &sent(&event, &view, Some(&receipt)),
        include_str!("golden/workflow-completed-gitlab.json"),
    );
}

#[test]
fn a_custom_webhook_passes_its_body_on_if_it_is_not_too_long() {
    let view = view(TriggerKind::Webhook, end(Outcome::Succeeded, ""));
    let event = event(EventName::WorkflowCompleted, Value::Null);
    let short = receipt("generic", "", "{\"branch\": \"main\"}");
    same(
        &sent(&event, &view, Some(&short)),
        include_str!("golden/workflow-completed-custom.json"),
    );
    let long = receipt("generic", "", &"x".repeat(super::MAX_PASSED_BODY_BYTES + 1));
    let got: Value = serde_json::from_str(&sent(&event, &view, Some(&long))).unwrap();
    let parameters = &got["pipeline"]["trigger_parameters"];
    assert!(parameters.get("webhook").is_none(), "{parameters}");
    assert_eq!(parameters["circleci"]["trigger_type"], "webhook");
    for provider in ["token", "url-secret"] {
        let mut form = receipt(provider, "", "token=letmein&branch=main");
        let json = sent(&event, &view, Some(&form));
        assert!(json.contains("branch=main"), "{json}");
        let kind = b"Application/x-www-form-urlencoded; charset=utf-8".to_vec();
        form.headers.push(("Content-Type".into(), kind));
        let told = sent(&event, &view, Some(&form));
        assert!(!told.contains("letmein"), "{told}");
    }
    let mut elsewhere = receipt("generic", "", "");
    elsewhere.body_bytes = 1 << 20;
    let got: Value = serde_json::from_str(&sent(&event, &view, Some(&elsewhere))).unwrap();
    let parameters = &got["pipeline"]["trigger_parameters"];
    assert!(parameters.get("webhook").is_none(), "{parameters}");
}

#[test]
fn our_own_events_have_the_same_manner() {
    let mut view = view(TriggerKind::Schedule, end(Outcome::Succeeded, ""));
    let started = event(EventName::RunStarted, Value::Null);
    let told = sent(&started, &view, None);
    // Built late, when the run is over already: it still tells of the beginning.
    view.run.end = None;
    view.run.finished_at = None;
    assert_eq!(told, sent(&started, &view, None));
    same(&told, include_str!("golden/run-started.json"));

    let data = json!({ "gate_id": id(8), "name": "production", "message": "Deploy?",
        "expires_at": "2026-03-02T10:00:00Z" });
    let waiting = event(EventName::GateWaiting, data);
    same(
        &sent(&waiting, &view, None),
        include_str!("golden/gate-waiting.json"),
    );
}

#[test]
fn an_event_about_a_job_that_is_gone_is_no_body() {
    let view = view(TriggerKind::Webhook, end(Outcome::Succeeded, ""));
    let mut event = event(EventName::JobCompleted, Value::Null);
    event.job_id = Some(JobId(id(99)));
    assert_eq!(of_run(&event, &view, None, URL), None);
}

#[test]
fn samples_have_the_members_of_the_real_thing_and_say_that_they_are_none() {
    let view = view(TriggerKind::Webhook, end(Outcome::Succeeded, ""));
    let push = receipt("github", "push", &github_push("refs/heads/main"));
    for name in [EventName::WorkflowCompleted, EventName::JobCompleted] {
        let by = super::By { by: "ann".into() };
        let sample = super::sample(name, by, URL);
        let real = of_run(&event(name, Value::Null), &view, Some(&push), URL).unwrap();
        let mut sample: Value = serde_json::from_str(&sample).unwrap();
        let ping = sample.as_object_mut().unwrap().remove("ping");
        assert_eq!(ping, Some(json!({ "by": "ann" })));
        let mut paths = members(&sample, "");
        // A push of GitHub tells one instant only.
        paths.retain(|path| path != "/pipeline/vcs/commit/authored_at");
        let real = serde_json::from_str(&real).unwrap();
        assert_eq!(paths, members(&real, ""), "{name:?}");
    }
}

fn members(value: &Value, path: &str) -> Vec<String> {
    match value {
        Value::Object(map) => map
            .iter()
            .flat_map(|(name, value)| members(value, &format!("{path}/{name}")))
            .collect(),
        _ => vec![path.to_owned()],
    }
}

#[test]
fn a_body_without_entities_is_its_head() {
    let at = datetime!(2026-03-01 10:00:00 UTC);
    let got = whole(EventName::Ping, at, "{}");
    assert!(
        got.ends_with("\"name\":\"Sample \\\"Webhook\\\"\"}}"),
        "{got}"
    );
}
