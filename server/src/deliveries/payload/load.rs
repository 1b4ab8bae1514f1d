//! From the store to a payload: everything an event is about, as it is stored now.

use super::events::{By, Disabled};
use super::{
    Gate, GateWaiting, Job, JobCompleted, Organization, Pipeline, Project, RunStarted,
    SubscriptionDisabled, Workflow, WorkflowCompleted, sample, text,
};
use crate::model::delivery::OutgoingEvent;
use crate::model::receipt::Receipt;
use crate::model::subscription::EventName;
use crate::store::{Result, RunView, Store};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

/// The entities of an event, as the text of one JSON object ([`super::body`] makes the body of it); `None` if what it is
/// about is gone. `external_url` is where users reach the server, if it is known.
pub async fn build(
    store: &dyn Store,
    event: &OutgoingEvent,
    external_url: Option<&str>,
) -> Result<Option<String>> {
    let run_id = match (event.name, event.run_id) {
        (EventName::Ping, _) => {
            let by = By {
                by: word(&event.data, "by").to_owned(),
            };
            return Ok(Some(sample(event.told_as(), by, external_url)));
        }
        (EventName::SubscriptionDisabled, _) => {
            let id = id_at(&event.data, "subscription_id");
            return Ok(id.map(|id| disabled(id, &event.data)));
        }
        (_, Some(run_id)) => run_id,
        (_, None) => return Ok(None),
    };
    let Some(view) = store.run(run_id).await? else {
        return Ok(None);
    };
    let receipt = match view.run.receipt_id {
        Some(id) => store.receipt(id).await?,
        None => None,
    };
    Ok(of_run(event, &view, receipt.as_ref(), external_url))
}

/// Of an event about a run; `None` if it has no such job.
pub(super) fn of_run(
    event: &OutgoingEvent,
    view: &RunView,
    receipt: Option<&Receipt>,
    external_url: Option<&str>,
) -> Option<String> {
    let project = Project::of(view.run.pipeline_id, &view.pipeline_name);
    let organization = Organization::default();
    let workflow = Workflow::of(view, external_url);
    let pipeline = Pipeline::of(view, receipt);
    Some(match event.name {
        EventName::WorkflowCompleted => text(&WorkflowCompleted {
            project,
            organization,
            workflow,
            pipeline,
        }),
        EventName::JobCompleted => text(&JobCompleted {
            project,
            organization,
            pipeline,
            workflow: workflow.without_status(),
            job: Job::of(view, event.job_id?)?,
        }),
        EventName::RunStarted => text(&RunStarted {
            project,
            organization,
            workflow: workflow.running(),
            pipeline,
        }),
        EventName::GateWaiting => text(&GateWaiting {
            project,
            organization,
            workflow: workflow.running(),
            pipeline,
            gate: gate(&event.data, external_url)?,
        }),
        // These two are about no run.
        EventName::SubscriptionDisabled | EventName::Ping => return None,
    })
}

fn gate(data: &Value, external_url: Option<&str>) -> Option<Gate> {
    Some(Gate::of(
        id_at(data, "gate_id")?,
        word(data, "name"),
        word(data, "message"),
        OffsetDateTime::parse(word(data, "expires_at"), &Rfc3339).ok(),
        external_url,
    ))
}

fn disabled(id: Uuid, data: &Value) -> String {
    let since = OffsetDateTime::parse(word(data, "failing_since"), &Rfc3339);
    text(&SubscriptionDisabled {
        organization: Organization::default(),
        subscription: Disabled {
            id,
            name: word(data, "name").to_owned(),
            url: word(data, "url").to_owned(),
            reason: word(data, "reason").to_owned(),
            failures: data.get("failures").and_then(Value::as_i64).unwrap_or(0),
            failing_since: since.ok().map(super::iso_ms),
        },
    })
}

fn word<'a>(data: &'a Value, name: &str) -> &'a str {
    data.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn id_at(data: &Value, name: &str) -> Option<Uuid> {
    Uuid::parse_str(word(data, name)).ok()
}
