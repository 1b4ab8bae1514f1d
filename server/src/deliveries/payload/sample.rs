//! A whole sample of each event, for those who try a subscription out: nothing in it exists.

use super::events::{By, Disabled};
use super::vcs::{Commit, Person, Reference, Vcs};
use super::{
    Actor, Gate, GateWaiting, Job, JobCompleted, Organization, Pipeline, Project, RunStarted,
    Status, SubscriptionDisabled, Trigger, Workflow, WorkflowCompleted, run_url, text, workflow_id,
};
use crate::model::subscription::EventName;
use crate::model::{PipelineId, RunId};
use serde::Serialize;
use uuid::Uuid;

/// The pipeline of samples, which does not exist.
const PIPELINE: u128 = 0x0000_0000_0000_4000_8000_0000_0000_0001;
/// The run of samples, which does not exist.
const RUN: u128 = 0x0000_0000_0000_4000_8000_0000_0000_0002;
/// The job of samples, which does not exist.
const JOB: u128 = 0x0000_0000_0000_4000_8000_0000_0000_0003;
/// The gate of samples, which does not exist.
const GATE: u128 = 0x0000_0000_0000_4000_8000_0000_0000_0004;
/// The subscription of samples, which does not exist.
const SUBSCRIPTION: u128 = 0x0000_0000_0000_4000_8000_0000_0000_0005;
/// Where samples come from.
const REPOSITORY: &str = "https://github.com/octo-org/sample";

/// A sample's entities and who asked for it: `ping` tells it from the real thing.
#[derive(Serialize)]
struct Sampled<T> {
    #[serde(flatten)]
    entities: T,
    ping: By,
}

/// The entities of a sample, as the text of one JSON object.
pub fn sample(name: EventName, ping: By, external_url: Option<&str>) -> String {
    let project = Project::of(PipelineId(Uuid::from_u128(PIPELINE)), "sample");
    let organization = Organization::default();
    let done = workflow(external_url);
    let running = Workflow {
        stopped_at: None,
        status: Some(Status::Running),
        ..done.clone()
    };
    let pipeline = pipeline();
    match name {
        EventName::WorkflowCompleted => sampled(
            ping,
            WorkflowCompleted {
                project,
                organization,
                workflow: done,
                pipeline,
            },
        ),
        EventName::JobCompleted => sampled(
            ping,
            JobCompleted {
                project,
                organization,
                pipeline,
                workflow: done.without_status(),
                job: job(),
            },
        ),
        EventName::RunStarted => sampled(
            ping,
            RunStarted {
                project,
                organization,
                workflow: running,
                pipeline,
            },
        ),
        EventName::GateWaiting => sampled(
            ping,
            GateWaiting {
                project,
                organization,
                workflow: running,
                pipeline,
                gate: gate(external_url),
            },
        ),
        EventName::SubscriptionDisabled => sampled(ping, disabled(organization)),
        EventName::Ping => text(&super::Ping { organization, ping }),
    }
}

fn sampled<T: Serialize>(ping: By, entities: T) -> String {
    text(&Sampled { entities, ping })
}

fn workflow(external_url: Option<&str>) -> Workflow {
    let run = RunId(Uuid::from_u128(RUN));
    Workflow {
        id: workflow_id(run),
        name: "sample".into(),
        created_at: "2021-09-01T22:49:03.616Z".into(),
        stopped_at: Some("2021-09-01T22:49:34.170Z".into()),
        url: run_url(run, external_url),
        status: Some(Status::Success),
    }
}

fn pipeline() -> Pipeline {
    let person = Person::of(Some("Octo Cat"), Some("octocat@example.com"));
    let at = Some("2021-09-01T22:48:53Z".to_owned());
    Pipeline {
        id: Uuid::from_u128(RUN),
        number: 1,
        created_at: "2021-09-01T22:49:03.544Z".into(),
        trigger: Trigger {
            kind: "webhook",
            actor: Some(Actor::of("github", "583231")),
        },
        trigger_parameters: None,
        vcs: Some(Vcs {
            provider_name: "github".into(),
            origin_repository_url: Some(REPOSITORY.into()),
            target_repository_url: Some(REPOSITORY.into()),
            revision: Some("1dc6aa69429bff4806ad6afe58d3d8f57e25973e".into()),
            commit: Some(Commit {
                author: person.clone(),
                authored_at: at.clone(),
                committer: person,
                committed_at: at,
                ..Commit::with_message(Some("A sample commit\n\nIt does not exist."))
            }),
            reference: Some(Reference::branch("main")),
        }),
    }
}

fn job() -> Job {
    Job {
        id: Uuid::from_u128(JOB),
        name: "test".into(),
        started_at: Some("2021-09-01T22:49:28.841Z".into()),
        stopped_at: Some("2021-09-01T22:49:34.170Z".into()),
        status: Status::Success,
        number: 1,
        rerun: None,
    }
}

fn gate(external_url: Option<&str>) -> Gate {
    Gate {
        expires_at: Some("2021-09-02T22:49:03.616Z".into()),
        ..Gate::of(
            Uuid::from_u128(GATE),
            "production",
            "Deploy the sample?",
            None,
            external_url,
        )
    }
}

fn disabled(organization: Organization) -> SubscriptionDisabled {
    SubscriptionDisabled {
        organization,
        subscription: Disabled {
            id: Uuid::from_u128(SUBSCRIPTION),
            name: "sample".into(),
            url: "https://receiver.example/hook".into(),
            reason: "failing".into(),
            failures: 120,
            failing_since: Some("2021-08-27T22:49:03.616Z".into()),
        },
    }
}
