//! What the caller of a webhook is told: one answer for each thing that can become of a request.

use super::App;
use super::error::ApiError;
use crate::intake::accepted::{self, Accepted};
use crate::intake::{Hook, Received, What};
use crate::model::fanout::TargetState;
use crate::model::receipt::{Answer, Verdict};
use crate::model::run::{Outcome, Reply, ReplyBy, header_value};
use crate::model::{PipelineId, ReceiptId, RunId};
use crate::runs::ReplyWait;
use axum::body::Body;
use axum::http::{HeaderName, Method, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use pocketci_pipeline::multipart::Fault;
use serde_json::{Value, json};
use std::time::Instant;

/// The status under which a receipt keeps that the caller did not wait for the answer.
const CALLER_GONE: u16 = 499;

/// An answer.
pub(super) struct Told {
    /// The word for metrics.
    pub(super) verdict: &'static str,
    /// What is sent.
    pub(super) reply: Reply,
    /// Of which request.
    pub(super) receipt_id: ReceiptId,
}

/// A request that was taken and has no answer yet. If the caller hangs up, that is what its receipt says.
struct Owed<'a> {
    app: &'a App,
    receipt_id: ReceiptId,
    begun: Instant,
    answer: Option<Answer>,
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        let gone = || Answer::new(CALLER_GONE, b"the caller hung up", self.begun.elapsed());
        let answer = self.answer.take().unwrap_or_else(gone);
        self.app.intake.answered(self.receipt_id, answer);
    }
}

/// Waits for what there is to wait for, and notes the answer in the receipt.
pub(super) async fn tell(
    app: &App,
    hook: &Hook,
    received: Received,
    begun: Instant,
    unknown: ApiError,
) -> Result<Told, ApiError> {
    let receipt_id = received.receipt_id;
    // Of the first there is no receipt, that of the second has the answer.
    let is_noted = matches!(received.what, What::Unrecorded(_) | What::Accepted(_));
    let mut owed = (!is_noted).then(|| Owed {
        app,
        receipt_id,
        begun,
        answer: None,
    });
    let told = decide(app, hook, received, unknown).await;
    if let Some(owed) = &mut owed {
        owed.answer = Some(match &told {
            Ok((_, reply)) => Answer::new(reply.status, &reply.body, begun.elapsed()),
            Err(error) => {
                let (status, code) = (error.status().as_u16(), error.code());
                Answer::new(status, code.as_bytes(), begun.elapsed())
            }
        });
    }
    told.map(|(verdict, reply)| Told {
        verdict,
        reply,
        receipt_id,
    })
}

async fn decide(
    app: &App,
    hook: &Hook,
    received: Received,
    unknown: ApiError,
) -> Result<(&'static str, Reply), ApiError> {
    let Received {
        receipt_id,
        delivery_id,
        what,
    } = received;
    let what = match what {
        What::Unrecorded(what) => *what,
        what => what,
    };
    match what {
        What::Run {
            run_id,
            pipeline_id,
            wait,
        } => {
            let accepted = Accepted {
                receipt_id,
                delivery_id,
                run_id,
                pipeline_id,
            };
            run(app, hook, accepted, wait).await
        }
        What::Accepted(told) => {
            let reply = accepted_reply(&told, accepted::ACCEPTED);
            Ok(("accepted", reply))
        }
        What::Message {
            event,
            listeners,
            waits,
        } => {
            if let Some(reply) = first_reply(waits).await {
                return Ok(("answered", reply));
            }
            let body = message(receipt_id, &event, &listeners);
            Ok(("accepted", json_reply(202, Vec::new(), &body)))
        }
        What::Duplicate(first) => {
            let body = match first.run_id {
                Some(run_id) => json!({"duplicate": true, "run_id": run_id}),
                None => json!({"duplicate": true, "receipt_id": first.receipt_id}),
            };
            Ok(("duplicate", json_reply(200, Vec::new(), &body)))
        }
        What::Handshake(handshake) => {
            let headers = handshake.headers.into_iter();
            let reply = Reply {
                by: ReplyBy::Server,
                status: handshake.status,
                headers: headers
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect(),
                body: Bytes::from(handshake.body),
            };
            Ok(("handshake", reply))
        }
        What::Malformed(fault @ (Fault::TooManyParts | Fault::NamesTooLarge)) => {
            Err(ApiError::TooManyParts(fault))
        }
        What::Malformed(fault) => Err(ApiError::Invalid(fault.to_string())),
        What::TooOften(wait) => Err(ApiError::TooOften {
            seconds: wait.as_secs().saturating_add(1),
        }),
        What::Method { used, allowed } => method(&used, allowed),
        // Its receipt is looked at above; nothing is in it twice.
        What::Unrecorded(_) => Err(ApiError::Internal),
        What::Refused(verdict) => refused(hook, receipt_id, verdict, unknown),
    }
}

fn refused(
    hook: &Hook,
    receipt_id: ReceiptId,
    verdict: Verdict,
    unknown: ApiError,
) -> Result<(&'static str, Reply), ApiError> {
    match verdict {
        Verdict::Unauthorized => Err(ApiError::BadSignature),
        // That of a body says more, see `What::Malformed`.
        Verdict::Malformed => Err(ApiError::Invalid(
            "a header or field that decides about trust came more than once".into(),
        )),
        // Nobody is told that there is something.
        Verdict::Disabled => Err(unknown),
        Verdict::Paused => Err(ApiError::Paused {
            name: hook.name.clone(),
        }),
        Verdict::QueueFull => Err(ApiError::Overloaded),
        Verdict::Conflict => Err(ApiError::Conflict(
            "a delivery with this id came before with another body".into(),
        )),
        Verdict::Filtered => {
            let body = json!({"filtered": true, "receipt_id": receipt_id});
            Ok(("filtered", json_reply(200, Vec::new(), &body)))
        }
        Verdict::Unrouted if hook.settings.on_unrouted == Some(404) => Err(unknown),
        Verdict::Unrouted => {
            let body = json!({"unrouted": true, "receipt_id": receipt_id});
            Ok(("unrouted", json_reply(202, Vec::new(), &body)))
        }
        // The others are told with what they need.
        Verdict::Accepted
        | Verdict::Duplicate
        | Verdict::Handshake
        | Verdict::Method
        | Verdict::TooLarge
        | Verdict::RateLimited => Err(ApiError::Internal),
    }
}

fn method(used: &Method, allowed: Option<Vec<Method>>) -> Result<(&'static str, Reply), ApiError> {
    let allowed = allowed.unwrap_or_else(|| {
        vec![
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ]
    });
    let mut names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    names.extend(["HEAD", "OPTIONS"]);
    let allow = names.join(", ");
    let empty = |status, headers| Reply {
        by: ReplyBy::Server,
        status,
        headers,
        body: Bytes::new(),
    };
    match *used {
        Method::HEAD => Ok(("method", empty(200, Vec::new()))),
        Method::OPTIONS => Ok(("method", empty(204, vec![("allow".into(), allow)]))),
        _ => Err(ApiError::MethodNotHere { allow }),
    }
}

async fn run(
    app: &App,
    hook: &Hook,
    accepted: Accepted,
    wait: Option<ReplyWait>,
) -> Result<(&'static str, Reply), ApiError> {
    let mut status = accepted::ACCEPTED;
    if let Some(wait) = wait {
        let replied = wait.reply().await;
        match replied.reply.by {
            ReplyBy::Pipeline => return Ok(("answered", replied.reply)),
            ReplyBy::Server => {}
        }
        // Asked for only if it is worth a query: most callers are gone by then.
        if replied.finished
            && let Some(outcome) = app.intake.outcome(accepted.run_id).await?
        {
            let failed = matches!(outcome, Outcome::Failed | Outcome::Errored);
            if failed && hook.settings.on_error == Some(500) {
                let body = json!({"run_id": accepted.run_id, "status": word(outcome)});
                return Ok(("failed", json_reply(500, Vec::new(), &body)));
            }
            status = word(outcome);
        }
    }
    Ok(("accepted", accepted_reply(&accepted, status)))
}

fn accepted_reply(accepted: &Accepted, status: &str) -> Reply {
    let location = format!("/api/runs/{}", accepted.run_id);
    let headers = vec![("location".to_owned(), location)];
    json_reply(accepted::STATUS, headers, &accepted.body(status))
}

/// The first reply of a pipeline; `None` when all have ended or their time is over.
async fn first_reply(waits: Vec<ReplyWait>) -> Option<Reply> {
    let mut replies: FuturesUnordered<_> = waits.into_iter().map(ReplyWait::reply).collect();
    while let Some(replied) = replies.next().await {
        if replied.reply.by == ReplyBy::Pipeline {
            return Some(replied.reply);
        }
    }
    None
}

fn message(
    receipt_id: ReceiptId,
    event: &str,
    listeners: &[(PipelineId, RunId, TargetState)],
) -> Value {
    let runs: Vec<Value> = listeners
        .iter()
        .map(|(pipeline_id, run_id, state)| match state {
            TargetState::Started | TargetState::Pending => json!({
                "pipeline_id": pipeline_id, "state": state.as_str(), "run_id": run_id,
            }),
            TargetState::Filtered | TargetState::Dropped => json!({
                "pipeline_id": pipeline_id, "state": state.as_str(),
            }),
        })
        .collect();
    json!({"receipt_id": receipt_id, "event": event, "runs": runs})
}

fn json_reply(status: u16, mut headers: Vec<(String, String)>, body: &Value) -> Reply {
    headers.push(("content-type".into(), "application/json".into()));
    Reply {
        by: ReplyBy::Server,
        status,
        headers,
        body: Bytes::from(body.to_string()),
    }
}

/// Headers that the connection decides, not the pipeline.
const OWN_HEADERS: &[HeaderName] = &[
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TRAILER,
    header::TE,
];

/// A reply as a response.
pub(super) fn respond(reply: Reply) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let bodyless = matches!(
        status,
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::RESET_CONTENT
    );
    let mut response = Response::new(if bodyless {
        Body::empty()
    } else {
        Body::from(reply.body)
    });
    *response.status_mut() = status;
    for (name, value) in reply.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        // Checked when the reply was taken; what HTTP forbids is not there any more.
        if let (Ok(name), Some(value)) = (name, header_value(&value))
            && !OWN_HEADERS.contains(&name)
        {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// An outcome in the words that runs have in the API.
fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "success",
        other => other.as_str(),
    }
}
