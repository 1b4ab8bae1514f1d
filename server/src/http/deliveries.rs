//! Deliveries: list, show with their tries, send again, replay.

use super::App;
use super::error::ApiError;
use super::extract::{ApiJson, ApiQuery, PathId};
use super::subscriptions::{sending, unknown};
use crate::deliveries::payload::{self, Head};
use crate::deliveries::terms;
use crate::model::delivery::{
    Delivery, DeliveryFilter, DeliveryState, DeliveryTry, Origin, Replay, ReplayFilter, ReplayWhich,
};
use crate::model::subscription::EventName;
use crate::model::{DeliveryId, EventId, ReplayId, RunId};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use pocketci_proto::api::{
    self, DeliveryDetail, Page, ReplayDeliveries, Sending, TryRequest, TryResponse,
};
use serde::Deserialize;
use std::str::FromStr;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Entries of a page unless asked otherwise.
const PAGE: i64 = 50;
/// Entries of a page at most.
const MAX_PAGE: i64 = 200;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    subscription: Option<String>,
    pipeline: Option<String>,
    run: Option<String>,
    event_id: Option<String>,
    event: Option<String>,
    state: Option<String>,
    origin: Option<String>,
    since: Option<String>,
    until: Option<String>,
    after: Option<String>,
    limit: Option<i64>,
}

fn no_delivery(id: &str) -> ApiError {
    ApiError::NotFound {
        what: "delivery",
        name: id.to_owned(),
    }
}

fn id<T: FromStr>(what: &str, text: Option<&String>) -> Result<Option<T>, ApiError> {
    text.map(|text| {
        text.parse().map_err(|_| {
            ApiError::Invalid(format!(
                "{what}: {text:?} is not an id (a UUID is expected)"
            ))
        })
    })
    .transpose()
}

fn word<T: Copy>(
    what: &str,
    text: Option<&String>,
    all: &[T],
    shown: fn(T) -> &'static str,
) -> Result<Option<T>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let found = all
        .iter()
        .copied()
        .find(|word| shown(*word) == text.as_str());
    found.map(Some).ok_or_else(|| {
        let known: Vec<&str> = all.iter().copied().map(shown).collect();
        ApiError::Invalid(format!(
            "{what} {text:?} is unknown; there are {}",
            known.join(", ")
        ))
    })
}

fn instant(what: &str, text: Option<&String>) -> Result<Option<OffsetDateTime>, ApiError> {
    text.map(|text| {
        OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
            ApiError::Invalid(format!(
                "{what}: {text:?} is not a time such as 2026-03-01T10:00:00Z"
            ))
        })
    })
    .transpose()
}

fn view(delivery: Delivery) -> api::Delivery {
    api::Delivery {
        id: delivery.id,
        origin: delivery.origin.as_str().to_owned(),
        subscription_id: delivery.subscription_id,
        receiver: delivery.receiver,
        event_id: delivery.event_id,
        event: delivery.event.map(|event| event.as_str().to_owned()),
        webhook_id: delivery.webhook_id,
        pipeline_id: delivery.pipeline_id,
        run_id: delivery.run_id,
        state: delivery.state.as_str().to_owned(),
        reason: delivery.reason,
        tries: delivery.tries,
        next_at: delivery.next_at,
        resend_of: delivery.resend_of,
        replay_id: delivery.replay_id,
        created_at: delivery.created_at,
        finished_at: delivery.finished_at,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn view_try(tried: DeliveryTry) -> api::DeliveryTry {
    let state = tried.state().as_str().to_owned();
    let end = tried.end.as_ref();
    api::DeliveryTry {
        number: tried.number,
        state,
        began_at: tried.began_at,
        error: end.map(|end| end.error.clone()).unwrap_or_default(),
        duration_ms: end.map(|end| millis(end.duration)),
        first_byte_ms: end.and_then(|end| end.first_byte).map(millis),
        peer: end.and_then(|end| end.peer.clone()),
        response: end.and_then(|end| {
            Some(TryResponse {
                status: end.status?,
                headers: end.headers.clone(),
                body: String::from_utf8_lossy(&end.body).into_owned(),
            })
        }),
        sender: tried.sender,
        request: TryRequest {
            method: tried.request.method,
            url: tried.request.url,
            headers: tried.request.headers,
            body_bytes: tried.request.body_bytes,
            body_sha256: tried.request.body_sha256,
        },
    }
}

#[utoipa::path(get, path = "/api/deliveries", tag = "subscriptions", params(("subscription" = Option<String>, Query, description = "name or id"), ("pipeline" = Option<String>, Query, description = "name or id"), ("run" = Option<String>, Query), ("event_id" = Option<String>, Query), ("event" = Option<String>, Query), ("state" = Option<String>, Query), ("origin" = Option<String>, Query), ("since" = Option<String>, Query), ("until" = Option<String>, Query), ("after" = Option<String>, Query), ("limit" = Option<i64>, Query)), responses((status = 200, body = Page<api::Delivery>, description = "newest first")))]
pub(super) async fn list(
    State(app): State<App>,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> Result<Json<Page<api::Delivery>>, ApiError> {
    let subscription_id = match &query.subscription {
        Some(name) => Some(app.find_subscription(name).await?.id),
        None => None,
    };
    let pipeline_id = match &query.pipeline {
        Some(name) => Some(app.find_pipeline(name).await?.id),
        None => None,
    };
    let limit = query.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE);
    let filter = DeliveryFilter {
        subscription_id,
        pipeline_id,
        run_id: id::<RunId>("run", query.run.as_ref())?,
        event_id: id::<EventId>("event_id", query.event_id.as_ref())?,
        event: word(
            "event",
            query.event.as_ref(),
            EventName::ALL,
            EventName::as_str,
        )?,
        state: word(
            "state",
            query.state.as_ref(),
            DeliveryState::ALL,
            DeliveryState::as_str,
        )?,
        origin: word("origin", query.origin.as_ref(), Origin::ALL, Origin::as_str)?,
        since: instant("since", query.since.as_ref())?,
        until: instant("until", query.until.as_ref())?,
        after: id::<DeliveryId>("after", query.after.as_ref())?,
        limit,
    };
    let found = app.runs.store().deliveries(filter).await?;
    let next = (found.len() as i64 == limit)
        .then(|| found.last().map(|last| last.id.to_string()))
        .flatten();
    let items = found.into_iter().map(view).collect();
    Ok(Json(Page { items, next }))
}

#[utoipa::path(get, path = "/api/deliveries/{id}", tag = "subscriptions", params(("id" = String, Path)), responses((status = 200, body = DeliveryDetail), (status = 404)))]
pub(super) async fn show(
    State(app): State<App>,
    PathId(text): PathId,
) -> Result<Json<DeliveryDetail>, ApiError> {
    let delivery_id: DeliveryId = text.parse().map_err(|_| no_delivery(&text))?;
    let found = app.runs.store().delivery(delivery_id).await?;
    let (delivery, tries) = found.ok_or_else(|| no_delivery(&text))?;
    let body = app.body_of(&delivery).await?;
    Ok(Json(DeliveryDetail {
        delivery: view(delivery),
        body,
        log: tries.into_iter().map(view_try).collect(),
    }))
}

impl App {
    /// The bytes that every try of a delivery sends; `None` if they were not built yet.
    async fn body_of(&self, delivery: &Delivery) -> Result<Option<String>, ApiError> {
        let (Some(event_id), Some(webhook_id)) = (delivery.event_id, delivery.subscription_id)
        else {
            return Ok(None);
        };
        let event = self.runs.store().outgoing_event(event_id).await?;
        Ok(event.and_then(|event| {
            let head = Head {
                id: event.id.0,
                kind: event.told_as().as_str(),
                happened_at: event.at,
                webhook_id: webhook_id.0,
                webhook_name: &delivery.receiver,
            };
            Some(payload::body(&head, event.payload.as_deref()?))
        }))
    }
}

#[utoipa::path(post, path = "/api/deliveries/{id}/resend", tag = "subscriptions", params(("id" = String, Path)), responses((status = 202, body = Sending, description = "a new delivery of the same event"), (status = 404), (status = 409, description = "the subscription is disabled")))]
pub(super) async fn resend(
    State(app): State<App>,
    PathId(text): PathId,
) -> Result<(StatusCode, Json<Sending>), ApiError> {
    let delivery_id: DeliveryId = text.parse().map_err(|_| no_delivery(&text))?;
    let queued = app.runs.store().resend(delivery_id).await?;
    sending(queued, || no_delivery(&text))
}

fn view_replay(replay: &Replay, id: Option<ReplayId>) -> api::Replay {
    api::Replay {
        id,
        subscription_id: replay.filter.subscription_id,
        which: replay.filter.which.as_str().to_owned(),
        expected: replay.expected,
        created: replay.created,
        done: replay.done,
    }
}

#[utoipa::path(post, path = "/api/deliveries/replay", tag = "subscriptions", request_body = ReplayDeliveries, responses((status = 200, body = api::Replay, description = "of a dry run: how many there are"), (status = 202, body = api::Replay), (status = 404), (status = 409, description = "the subscription is disabled")))]
pub(super) async fn replay(
    State(app): State<App>,
    ApiJson(body): ApiJson<ReplayDeliveries>,
) -> Result<(StatusCode, Json<api::Replay>), ApiError> {
    let subscription = app.find_subscription(&body.subscription).await?;
    let now = OffsetDateTime::now_utc();
    let which = word(
        "which",
        body.which.as_ref(),
        ReplayWhich::ALL,
        ReplayWhich::as_str,
    )?;
    let filter = ReplayFilter {
        subscription_id: subscription.id,
        which: which.unwrap_or(ReplayWhich::Failed),
        since: body.since,
        until: body.until.unwrap_or(now).min(now),
        events: match body.events.is_empty() {
            true => Vec::new(),
            false => terms::events(&body.events)?,
        },
    };
    if filter.since >= filter.until {
        return Err(ApiError::Invalid(
            "since must be before until, and in the past".into(),
        ));
    }
    if body.dry_run {
        let counted = api::Replay {
            id: None,
            subscription_id: subscription.id,
            which: filter.which.as_str().to_owned(),
            expected: app.runs.store().count_replay(&filter).await?,
            created: 0,
            done: false,
        };
        return Ok((StatusCode::OK, Json(counted)));
    }
    if !subscription.is_enabled() {
        return Err(ApiError::Conflict(
            "the subscription is disabled; enable it first".into(),
        ));
    }
    let id = ReplayId::new();
    let begun = app.runs.store().begin_replay(id, filter).await?;
    let begun = begun.ok_or_else(|| unknown(&body.subscription))?;
    Ok((StatusCode::ACCEPTED, Json(view_replay(&begun, Some(id)))))
}

#[utoipa::path(get, path = "/api/deliveries/replay/{id}", tag = "subscriptions", params(("id" = String, Path)), responses((status = 200, body = api::Replay, description = "how far it is"), (status = 404)))]
pub(super) async fn show_replay(
    State(app): State<App>,
    PathId(text): PathId,
) -> Result<Json<api::Replay>, ApiError> {
    let none = || ApiError::NotFound {
        what: "replay",
        name: text.clone(),
    };
    let id: ReplayId = text.parse().map_err(|_| none())?;
    let found = app.runs.store().replay(id).await?.ok_or_else(none)?;
    Ok(Json(view_replay(&found, Some(id))))
}
