//! Subscriptions in the shape of CircleCI's API v2, for tools that manage its webhooks.
//!
//! A project is a pipeline: `scope.id` is its id. A webhook is a subscription of one pipeline; those of all pipelines are
//! not seen here.

use super::App;
use super::error::ApiError;
use super::extract::{ApiJson, ApiQuery, PathId};
use super::subscriptions::{MASK, names};
use crate::deliveries::payload::iso_ms;
use crate::model::subscription::Subscription;
use crate::model::{PipelineId, SubscriptionId};
use crate::store::SubscriptionFilter;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use pocketci_proto::api::PutSubscription;
use pocketci_proto::api::circleci::{
    PutWebhook, Webhook, WebhookMessage, WebhookPage, WebhookScope,
};
use serde::Deserialize;
use uuid::Uuid;

/// Entries of a page.
const PAGE: i64 = 100;
/// The one kind of scope.
const PROJECT: &str = "project";

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct ListQuery {
    scope_id: Option<String>,
    scope_type: Option<String>,
    page_token: Option<String>,
}

fn view(subscription: &Subscription, scope: PipelineId) -> Webhook {
    let terms = &subscription.terms;
    let signed = !terms.secrets.is_empty();
    Webhook {
        id: subscription.id.0,
        name: terms.name.clone(),
        url: terms.url.clone(),
        events: names(&terms.events),
        verify_tls: terms.verify_tls,
        signing_secret: if signed { MASK } else { "" }.to_owned(),
        scope: WebhookScope {
            id: scope.0,
            kind: PROJECT.to_owned(),
        },
        created_at: iso_ms(subscription.created_at),
        updated_at: iso_ms(subscription.updated_at),
    }
}

fn needed(what: &str) -> ApiError {
    ApiError::Invalid(format!("{what} is missing"))
}

fn wish(body: PutWebhook) -> PutSubscription {
    PutSubscription {
        name: body.name,
        url: body.url,
        events: body.events,
        verify_tls: body.verify_tls,
        // An empty one is what their clients send where there is none.
        secret: body
            .signing_secret
            .filter(|secret| !secret.is_empty())
            .map(Some),
        ..PutSubscription::default()
    }
}

fn project(scope: &WebhookScope) -> Result<PipelineId, ApiError> {
    match scope.kind.as_str() {
        PROJECT => Ok(PipelineId(scope.id)),
        other => Err(ApiError::Invalid(format!(
            "scope type {other:?} is unknown; there is only {PROJECT}"
        ))),
    }
}

impl App {
    /// A subscription of a pipeline, with that pipeline.
    async fn find_webhook(&self, id: &str) -> Result<(Subscription, PipelineId), ApiError> {
        let unknown = || ApiError::NotFound {
            what: "webhook",
            name: id.to_owned(),
        };
        let parsed: SubscriptionId = id.parse().map_err(|_| unknown())?;
        let found = self.runs.store().subscription(parsed).await?;
        let found = found.ok_or_else(unknown)?;
        let scope = found.terms.pipeline_id.ok_or_else(unknown)?;
        Ok((found, scope))
    }

    async fn shown_webhook(&self, id: &str) -> Result<Webhook, ApiError> {
        let (found, scope) = self.find_webhook(id).await?;
        Ok(view(&found, scope))
    }
}

#[utoipa::path(get, path = "/api/v2/webhook", tag = "circleci", params(("scope-id" = String, Query, description = "the pipeline's id"), ("scope-type" = String, Query, description = "project"), ("page-token" = Option<String>, Query)), responses((status = 200, body = WebhookPage), (status = 400), (status = 404)))]
pub(super) async fn list(
    State(app): State<App>,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> Result<Json<WebhookPage>, ApiError> {
    let id = query.scope_id.ok_or_else(|| needed("scope-id"))?;
    let kind = query.scope_type.ok_or_else(|| needed("scope-type"))?;
    let id = Uuid::parse_str(&id)
        .map_err(|_| ApiError::Invalid("scope-id must be a pipeline's id (a UUID)".into()))?;
    let scope = project(&WebhookScope { id, kind })?;
    app.find_pipeline(&scope.to_string()).await?;
    let filter = SubscriptionFilter {
        hears: None,
        of: Some(scope),
        after: query.page_token,
        limit: PAGE,
    };
    let found = app.runs.store().subscriptions(filter).await?;
    let next_page_token = (found.len() as i64 == PAGE)
        .then(|| found.last().map(|last| last.terms.name.clone()))
        .flatten();
    let items = found.iter().map(|one| view(one, scope)).collect();
    Ok(Json(WebhookPage {
        items,
        next_page_token,
    }))
}

#[utoipa::path(post, path = "/api/v2/webhook", tag = "circleci", request_body = PutWebhook, responses((status = 201, body = Webhook), (status = 400), (status = 404, description = "no such pipeline"), (status = 409, description = "the name is taken")))]
pub(super) async fn create(
    State(app): State<App>,
    ApiJson(body): ApiJson<PutWebhook>,
) -> Result<(StatusCode, Json<Webhook>), ApiError> {
    let name = body.name.clone().ok_or_else(|| needed("name"))?;
    let scope = project(body.scope.as_ref().ok_or_else(|| needed("scope"))?)?;
    let mut wish = wish(body);
    wish.pipeline = Some(Some(scope.to_string()));
    let saved = app.save_subscription(&name, None, &wish).await?;
    let id = saved.subscription.id.to_string();
    Ok((StatusCode::CREATED, Json(app.shown_webhook(&id).await?)))
}

#[utoipa::path(get, path = "/api/v2/webhook/{id}", tag = "circleci", params(("id" = String, Path)), responses((status = 200, body = Webhook), (status = 404)))]
pub(super) async fn show(
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Json<Webhook>, ApiError> {
    app.shown_webhook(&id).await.map(Json)
}

#[utoipa::path(put, path = "/api/v2/webhook/{id}", tag = "circleci", params(("id" = String, Path)), request_body = PutWebhook, responses((status = 200, body = Webhook), (status = 400), (status = 404), (status = 409, description = "the name is taken")))]
pub(super) async fn update(
    State(app): State<App>,
    PathId(id): PathId,
    ApiJson(mut body): ApiJson<PutWebhook>,
) -> Result<Json<Webhook>, ApiError> {
    let (found, scope) = app.find_webhook(&id).await?;
    if let Some(wanted) = &body.scope
        && project(wanted)? != scope
    {
        return Err(ApiError::Invalid(
            "the scope of a webhook cannot be changed; make another one".into(),
        ));
    }
    // Whoever sends back what was shown wants the secret as it is.
    if body.signing_secret.as_deref() == Some(MASK) {
        body.signing_secret = None;
    }
    let name = found.terms.name.clone();
    app.save_subscription(&name, Some(found), &wish(body))
        .await?;
    app.shown_webhook(&id).await.map(Json)
}

#[utoipa::path(delete, path = "/api/v2/webhook/{id}", tag = "circleci", params(("id" = String, Path)), responses((status = 200, body = WebhookMessage), (status = 404)))]
pub(super) async fn remove(
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Json<WebhookMessage>, ApiError> {
    let (found, _) = app.find_webhook(&id).await?;
    app.runs.store().delete_subscription(found.id).await?;
    Ok(Json(WebhookMessage {
        message: "Webhook deleted.".into(),
    }))
}
