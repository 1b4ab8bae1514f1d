//! Doing stored requests again: one, or those that a filter finds, a page at a time.

use super::App;
use super::error::ApiError;
use super::extract::{ApiJson, PathId, RawBody, parse};
use super::trigger::refusal;
use crate::model::receipt::Receipt;
use crate::runs::{Replay, ReplayError, Replayed};
use crate::store::ReceiptFilter;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use pocketci_proto::api;
use uuid::Uuid;

/// Counting stops here.
const MAX_COUNT: i64 = 100_000;
/// Most requests that are done again in one call: it shall be answered within a minute.
const MAX_AT_ONCE: i64 = 50;

impl From<ReplayError> for ApiError {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Store(error) => error.into(),
            ReplayError::BodyGone => Self::Gone(error.to_string()),
            ReplayError::Paused(name) => Self::Paused { name },
            ReplayError::QueueFull => Self::QueueFull,
            ReplayError::Refused(refused) => refusal(&refused),
            ReplayError::Changing => Self::Unavailable,
            ReplayError::NotTaken(_)
            | ReplayError::NoPipeline
            | ReplayError::NoRevision(_)
            | ReplayError::RevisionOfEvent => Self::Conflict(error.to_string()),
        }
    }
}

/// Ids of what is started carry the wish's time.
fn wish(given: Option<Uuid>) -> Result<Uuid, ApiError> {
    match given {
        None => Ok(Uuid::now_v7()),
        Some(wish) if wish.get_version_num() == 7 => Ok(wish),
        Some(_) => Err(ApiError::Invalid("wish must be a version 7 UUID".into())),
    }
}

fn replayed(of: &Receipt, replayed: Replayed) -> api::Replayed {
    api::Replayed {
        replay_of: of.id,
        receipt_id: replayed.receipt_id,
        decisions: replayed
            .decisions
            .into_iter()
            .map(|decision| api::ReplayDecision {
                pipeline_id: decision.pipeline_id,
                pipeline: decision.pipeline,
                starts: decision.reason.is_empty() || decision.run_id.is_some(),
                run_id: decision.run_id,
                reason: decision.reason,
            })
            .collect(),
        error: None,
    }
}

#[utoipa::path(post, path = "/api/receipts/{id}/replay", tag = "receipts", params(("id" = String, Path)), request_body = api::ReplayRequest, responses((status = 200, body = api::Replayed, description = "a dry run, or a filter lets it out"), (status = 202, body = api::Replayed, description = "the same bytes, new runs"), (status = 404), (status = 409), (status = 410, description = "the body is not kept"), (status = 429)))]
pub(super) async fn one(
    State(app): State<App>,
    PathId(id): PathId,
    RawBody(body): RawBody,
) -> Result<(StatusCode, Json<api::Replayed>), ApiError> {
    let asked: api::ReplayRequest = match body.is_empty() {
        true => api::ReplayRequest::default(),
        false => parse(&body)?,
    };
    let receipt = app.find_receipt(&id).await?;
    let replay = Replay {
        receipt: receipt.clone(),
        wish: wish(asked.wish)?,
        revision: asked.revision,
    };
    let done = match asked.dry_run {
        true => app.runs.rehearse(&replay).await?,
        false => app.runs.replay(replay).await?,
    };
    let status = match done.receipt_id {
        Some(_) => StatusCode::ACCEPTED,
        None => StatusCode::OK,
    };
    Ok((status, Json(replayed(&receipt, done))))
}

#[utoipa::path(post, path = "/api/receipts/replay", tag = "receipts", request_body = api::ReplayMany, responses((status = 200, body = api::ReplayedMany, description = "one page, oldest first; send it again with filter.after = next and the same wish"), (status = 400), (status = 404)))]
pub(super) async fn many(
    State(app): State<App>,
    ApiJson(asked): ApiJson<api::ReplayMany>,
) -> Result<Json<api::ReplayedMany>, ApiError> {
    let wish = wish(asked.wish)?;
    let filter = app.receipt_filter(&asked.filter).await?;
    let limit = filter.limit.min(MAX_AT_ONCE);
    let filter = ReceiptFilter {
        oldest_first: true,
        without_replays: filter.replay_of.is_none(),
        limit,
        ..filter
    };
    let store = app.runs.store();
    let count = store.count_receipts(filter.clone(), MAX_COUNT).await?;
    let page = store.receipts(filter.clone()).await?;
    let more = page.len() as i64 == limit;
    let mut last = filter.after;
    let mut items = Vec::new();
    let mut stopped = None;
    for found in page {
        let id = found.id;
        // Listed without its body, and perhaps forgotten meanwhile.
        let Some(receipt) = store.receipt(id).await? else {
            last = Some(id);
            continue;
        };
        let replay = Replay {
            receipt: receipt.clone(),
            wish,
            revision: None,
        };
        let done = match asked.dry_run {
            true => app.runs.rehearse(&replay).await,
            false => app.runs.replay(replay).await,
        };
        let item = match done {
            Ok(done) => replayed(&receipt, done),
            Err(ReplayError::Store(error)) => return Err(error.into()),
            Err(error) => {
                // Later requests must not overtake this one.
                if matches!(error, ReplayError::QueueFull | ReplayError::Changing) {
                    stopped = Some(error.to_string());
                }
                api::Replayed {
                    replay_of: id,
                    receipt_id: None,
                    decisions: Vec::new(),
                    error: Some(error.to_string()),
                }
            }
        };
        items.push(item);
        if stopped.is_some() {
            break;
        }
        last = Some(id);
    }
    Ok(Json(api::ReplayedMany {
        count,
        wish,
        items,
        next: last.filter(|_| more || stopped.is_some()),
        stopped,
    }))
}
