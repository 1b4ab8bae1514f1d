//! Subscriptions: set, list, show, remove, enable, disable, rotate, ping. Secrets go in and never come out.

use super::App;
use super::error::ApiError;
use super::extract::{ApiJson, ApiQuery, PathId, RawBody, by, parse};
use crate::deliveries::terms::{self, Agreed, TermsError, Wanted};
use crate::model::SubscriptionId;
use crate::model::subscription::{DisabledReason, EventName, Subscription, SubscriptionTerms};
use crate::store::{Queued, SubscriptionFilter, SubscriptionPut};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use pocketci_proto::api::{
    self, Page, PutSubscription, PutSubscriptionResult, RotateSubscription, RotatedSubscription,
    SecretInfo, Sending,
};
use serde::Deserialize;
use time::OffsetDateTime;

/// Entries of a page unless asked otherwise, and at most.
const PAGE: i64 = 100;
/// Tries to change a subscription that others change meanwhile.
const MAX_CHANGES: usize = 5;
/// What is shown instead of a secret.
pub(super) const MASK: &str = "****";
/// What is shown instead of a header's value.
const HEADER_MASK: &str = "***";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    pipeline: Option<String>,
    after: Option<String>,
    limit: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PingQuery {
    event: Option<String>,
}

impl From<TermsError> for ApiError {
    fn from(error: TermsError) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// In the words of the API.
pub(super) fn view(subscription: &Subscription) -> api::Subscription {
    let terms = &subscription.terms;
    let secrets = terms.secrets.iter().map(|key| SecretInfo {
        id: key.id.clone(),
        secret: MASK.to_owned(),
        not_after: key.not_after,
    });
    let masked = |name: &String| (name.clone(), HEADER_MASK.to_owned());
    let seconds = |waits: &Vec<std::time::Duration>| {
        waits.iter().map(std::time::Duration::as_secs_f64).collect()
    };
    api::Subscription {
        id: subscription.id,
        name: terms.name.clone(),
        url: terms.url.clone(),
        events: names(&terms.events),
        pipeline_id: terms.pipeline_id,
        secrets: secrets.collect(),
        verify_tls: terms.verify_tls,
        ca_pem: terms.ca_pem.clone(),
        headers: terms
            .headers
            .iter()
            .map(|header| masked(&header.name))
            .collect(),
        filter: terms.filter.clone(),
        concurrency: terms.concurrency,
        rate_per_second: terms.rate_per_second,
        schedule_seconds: terms.schedule.as_ref().map(seconds),
        ordered: terms.ordered,
        state: subscription.state().to_owned(),
        disabled_reason: subscription
            .disabled
            .map(|why| why.reason.as_str().to_owned()),
        disabled_at: subscription.disabled.map(|why| why.since),
        failures: subscription.health.failures,
        failing_since: subscription.health.failing_since,
        succeeded_at: subscription.health.succeeded_at,
        paused_until: subscription.health.paused_until,
        created_at: subscription.created_at,
        updated_at: subscription.updated_at,
    }
}

pub(super) fn names(events: &[EventName]) -> Vec<String> {
    events
        .iter()
        .map(|event| event.as_str().to_owned())
        .collect()
}

pub(super) fn unknown(name_or_id: &str) -> ApiError {
    ApiError::NotFound {
        what: "subscription",
        name: name_or_id.to_owned(),
    }
}

fn changing() -> ApiError {
    ApiError::Conflict("the subscription keeps being changed; look at it and try again".into())
}

impl App {
    /// A subscription by id or name.
    pub(super) async fn find_subscription(
        &self,
        name_or_id: &str,
    ) -> Result<Subscription, ApiError> {
        let store = self.runs.store();
        let found = match name_or_id.parse::<SubscriptionId>() {
            Ok(id) => store.subscription(id).await?,
            Err(_) => store.subscription_by_name(name_or_id).await?,
        };
        found.ok_or_else(|| unknown(name_or_id))
    }

    /// Stores what `put` makes of the subscription `stored`, or a new one of this name.
    pub(super) async fn save_subscription(
        &self,
        name: &str,
        mut stored: Option<Subscription>,
        put: &PutSubscription,
    ) -> Result<PutSubscriptionResult, ApiError> {
        let pipeline = match &put.pipeline {
            Some(Some(pipeline)) => Some(Some(self.find_pipeline(pipeline).await?.id)),
            Some(None) => Some(None),
            None => None,
        };
        let created = stored.is_none();
        let id = stored
            .as_ref()
            .map_or_else(SubscriptionId::new, |one| one.id);
        let wanted = Wanted {
            put,
            pipeline,
            name,
        };
        for _ in 0..MAX_CHANGES {
            let Agreed { terms, warnings } = terms::agreed(
                id,
                stored.as_ref(),
                &wanted,
                self.runs.vault(),
                &self.settings.delivery_guard,
            )?;
            if let Some(subscription) = self.store_terms(id, stored.as_ref(), terms).await? {
                return Ok(PutSubscriptionResult {
                    subscription: view(&subscription),
                    created,
                    warnings,
                });
            }
            stored = Some(
                self.runs
                    .store()
                    .subscription(id)
                    .await?
                    .ok_or_else(changing)?,
            );
        }
        Err(changing())
    }

    /// `None` if somebody changed it meanwhile.
    async fn store_terms(
        &self,
        id: SubscriptionId,
        stored: Option<&Subscription>,
        terms: SubscriptionTerms,
    ) -> Result<Option<Subscription>, ApiError> {
        let store = self.runs.store();
        let name = terms.name.clone();
        let put = match stored {
            Some(before) => store.change_subscription(id, before.version, terms).await?,
            None => store.create_subscription(id, terms).await?,
        };
        match put {
            SubscriptionPut::Stored(subscription) => Ok(Some(*subscription)),
            SubscriptionPut::Stale => Ok(None),
            SubscriptionPut::NameTaken => Err(ApiError::Conflict(format!(
                "another subscription is named {name:?}"
            ))),
            SubscriptionPut::NoPipeline => Err(ApiError::NotFound {
                what: "pipeline",
                name: "of the subscription".into(),
            }),
            SubscriptionPut::Full => Err(ApiError::StorageFull(
                "there are too many subscriptions; remove some first".into(),
            )),
        }
    }
}

#[utoipa::path(get, path = "/api/subscriptions", tag = "subscriptions", params(("pipeline" = Option<String>, Query, description = "only those that are told what happens in this pipeline, its own and everybody's (name or id)"), ("after" = Option<String>, Query), ("limit" = Option<i64>, Query)), responses((status = 200, body = Page<api::Subscription>)))]
pub(super) async fn list(
    State(app): State<App>,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> Result<Json<Page<api::Subscription>>, ApiError> {
    let hears = match &query.pipeline {
        Some(pipeline) => Some(app.find_pipeline(pipeline).await?.id),
        None => None,
    };
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let filter = SubscriptionFilter {
        hears,
        of: None,
        after: query.after,
        limit,
    };
    let found = app.runs.store().subscriptions(filter).await?;
    let next = (found.len() as i64 == limit)
        .then(|| found.last().map(|last| last.terms.name.clone()))
        .flatten();
    let items = found.iter().map(view).collect();
    Ok(Json(Page { items, next }))
}

#[utoipa::path(get, path = "/api/subscriptions/{id}", tag = "subscriptions", params(("id" = String, Path, description = "id or name")), responses((status = 200, body = api::Subscription), (status = 404)))]
pub(super) async fn show(
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Json<api::Subscription>, ApiError> {
    Ok(Json(view(&app.find_subscription(&id).await?)))
}

#[utoipa::path(put, path = "/api/subscriptions/{id}", tag = "subscriptions", params(("id" = String, Path, description = "name of a new one; id or name of a stored one")), request_body = PutSubscription, responses((status = 200, body = PutSubscriptionResult), (status = 400, description = "something cannot be"), (status = 409, description = "the name is taken")))]
pub(super) async fn put(
    State(app): State<App>,
    PathId(name): PathId,
    ApiJson(body): ApiJson<PutSubscription>,
) -> Result<Json<PutSubscriptionResult>, ApiError> {
    let stored = match app.find_subscription(&name).await {
        Ok(stored) => Some(stored),
        // An id is chosen by the server.
        Err(ApiError::NotFound { .. }) if name.parse::<SubscriptionId>().is_err() => None,
        Err(error) => return Err(error),
    };
    let new = stored.is_none();
    match app.save_subscription(&name, stored, &body).await {
        // Somebody else made it between the two looks: then this is a change of it.
        Err(ApiError::Conflict(_)) if new && body.name.is_none() => {
            let stored = app.find_subscription(&name).await?;
            app.save_subscription(&name, Some(stored), &body)
                .await
                .map(Json)
        }
        other => other.map(Json),
    }
}

#[utoipa::path(delete, path = "/api/subscriptions/{id}", tag = "subscriptions", params(("id" = String, Path, description = "id or name")), responses((status = 204, description = "gone, with its deliveries"), (status = 404)))]
pub(super) async fn remove(
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<StatusCode, ApiError> {
    let found = app.find_subscription(&id).await?;
    match app.runs.store().delete_subscription(found.id).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(unknown(&id)),
    }
}

#[utoipa::path(post, path = "/api/subscriptions/{id}/enable", tag = "subscriptions", params(("id" = String, Path, description = "id or name")), responses((status = 200, body = api::Subscription, description = "failures are forgotten, what waited is due"), (status = 404)))]
pub(super) async fn enable(
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Json<api::Subscription>, ApiError> {
    let found = app.find_subscription(&id).await?;
    let enabled = app.runs.store().enable_subscription(found.id).await?;
    Ok(Json(view(&enabled.ok_or_else(|| unknown(&id))?)))
}

#[utoipa::path(post, path = "/api/subscriptions/{id}/disable", tag = "subscriptions", params(("id" = String, Path, description = "id or name")), responses((status = 200, body = api::Subscription, description = "nothing new is recorded for it, what waits is not sent"), (status = 404)))]
pub(super) async fn disable(
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Json<api::Subscription>, ApiError> {
    let found = app.find_subscription(&id).await?;
    let disabled = app
        .runs
        .store()
        .disable_subscription(found.id, None, DisabledReason::Operator)
        .await?;
    Ok(Json(view(&disabled.ok_or_else(|| unknown(&id))?)))
}

#[utoipa::path(post, path = "/api/subscriptions/{id}/rotate", tag = "subscriptions", params(("id" = String, Path, description = "id or name")), request_body = RotateSubscription, responses((status = 200, body = RotatedSubscription), (status = 404)))]
pub(super) async fn rotate(
    State(app): State<App>,
    PathId(id): PathId,
    RawBody(body): RawBody,
) -> Result<Json<RotatedSubscription>, ApiError> {
    let wish: RotateSubscription = match body.is_empty() {
        true => RotateSubscription::default(),
        false => parse(&body)?,
    };
    let found = app.find_subscription(&id).await?;
    let mut stored = found;
    for _ in 0..MAX_CHANGES {
        let now = OffsetDateTime::now_utc();
        let (terms, secret) = terms::rotated(&stored, &wish, app.runs.vault(), now)?;
        if let Some(rotated) = app.store_terms(stored.id, Some(&stored), terms).await? {
            return Ok(Json(RotatedSubscription {
                subscription: view(&rotated),
                secret,
            }));
        }
        let current = app.runs.store().subscription(stored.id).await?;
        stored = current.ok_or_else(|| unknown(&id))?;
    }
    Err(changing())
}

#[utoipa::path(post, path = "/api/subscriptions/{id}/ping", tag = "subscriptions", params(("id" = String, Path, description = "id or name"), ("event" = Option<String>, Query, description = "send a whole sample of this event instead of a bare ping")), request_body = api::By, responses((status = 202, body = Sending), (status = 404), (status = 409, description = "it is disabled")))]
pub(super) async fn ping(
    State(app): State<App>,
    PathId(id): PathId,
    ApiQuery(query): ApiQuery<PingQuery>,
    RawBody(body): RawBody,
) -> Result<(StatusCode, Json<Sending>), ApiError> {
    let by = by(&body)?;
    let sample = match query.event.as_deref() {
        None | Some("ping") => None,
        Some(name) => terms::events(&[name.to_owned()])?.pop(),
    };
    let found = app.find_subscription(&id).await?;
    let queued = app
        .runs
        .store()
        .ping_subscription(found.id, &by, sample)
        .await?;
    sending(queued, || unknown(&id))
}

/// The answer to whoever wants something sent.
pub(super) fn sending(
    queued: Queued,
    unknown: impl FnOnce() -> ApiError,
) -> Result<(StatusCode, Json<Sending>), ApiError> {
    match queued {
        Queued::As(delivery_id) => Ok((StatusCode::ACCEPTED, Json(Sending { delivery_id }))),
        Queued::Disabled => Err(ApiError::Conflict(
            "the subscription is disabled; enable it first".into(),
        )),
        Queued::Unknown => Err(unknown()),
    }
}
