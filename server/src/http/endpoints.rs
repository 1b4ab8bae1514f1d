//! Webhook endpoints: list, show, set, rotate, remove. Secrets go in and never come out; a secret id is shown once.

use super::App;
use super::error::ApiError;
use super::extract::{ApiJson, ApiQuery, PathId, RawBody, parse, without_nul};
use crate::intake::providers::ProviderKind;
use crate::model::EndpointId;
use crate::model::endpoint::{
    self as model, EndpointSecret, Target, fingerprint, is_event_key, is_name,
};
use crate::model::pipeline::WebhookSecret;
use crate::model::webhook;
use crate::store::EndpointPut;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use pocketci_pipeline::merge_patch;
use pocketci_proto::api::{
    self, EndpointKey, PutEndpoint, RotateEndpoint, SavedEndpoint, WebhookSettings,
};
use serde::Deserialize;
use std::time::Duration;
use time::OffsetDateTime;
use uuid::Uuid;

/// Entries of a page unless asked otherwise, and at most.
const PAGE: i64 = 100;
/// Tries with an endpoint that others change meanwhile.
const MAX_TRIES: usize = 5;
/// How long earlier secrets are taken beside a new one unless asked otherwise.
const GRACE: Duration = Duration::from_secs(86_400);
/// Longest such time.
const MAX_GRACE_SECONDS: u64 = 366 * 86_400;
/// Largest secret, in bytes.
const MAX_SECRET_BYTES: usize = 4 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    after: Option<String>,
    limit: Option<i64>,
}

fn view(endpoint: &model::Endpoint) -> api::Endpoint {
    let (pipeline_id, event) = match &endpoint.target {
        Target::Pipeline(id) => (Some(*id), None),
        Target::Event(event) => (None, Some(event.clone())),
    };
    let key = |id: &str, not_after| EndpointKey {
        id: id.to_owned(),
        not_after,
    };
    let secrets = endpoint.secrets.iter();
    let uuids = endpoint.uuids.iter();
    api::Endpoint {
        id: endpoint.id,
        name: endpoint.name.clone(),
        enabled: endpoint.enabled,
        pipeline_id,
        event,
        settings: endpoint.settings.clone(),
        secrets: secrets.map(|one| key(&one.id, one.not_after)).collect(),
        uuids: uuids.map(|one| key(&one.prefix, one.not_after)).collect(),
        created_at: endpoint.created_at,
        updated_at: endpoint.updated_at,
    }
}

/// An endpoint as it is answered after a change; with its secret id only if that is new.
fn saved(endpoint: &model::Endpoint, created: bool, uuid: Option<Uuid>) -> Json<SavedEndpoint> {
    let kind = endpoint.settings.provider.as_deref();
    let path = |uuid: Uuid| match kind {
        Some(kind) if kind == ProviderKind::Token.as_str() => {
            format!("/api/v3/command/webhook.receive?uuid={uuid}")
        }
        Some(kind) if kind == ProviderKind::UrlSecret.as_str() => format!("/e/{uuid}"),
        _ => format!("/api/webhooks/{uuid}"),
    };
    Json(SavedEndpoint {
        endpoint: view(endpoint),
        created,
        uuid: uuid.map(|uuid| uuid.to_string()),
        path: uuid.map(path),
    })
}

impl App {
    /// An endpoint by id or name.
    async fn find_endpoint(&self, name_or_id: &str) -> Result<model::Endpoint, ApiError> {
        let store = self.runs.store();
        let found = match name_or_id.parse::<EndpointId>() {
            Ok(id) => store.endpoint(id).await?,
            Err(_) => store.endpoint_by_name(name_or_id).await?,
        };
        found.ok_or_else(|| ApiError::NotFound {
            what: "endpoint",
            name: name_or_id.to_owned(),
        })
    }

    /// Writes an endpoint; `false` if somebody else was faster.
    async fn write_endpoint(&self, endpoint: &model::Endpoint) -> Result<bool, ApiError> {
        let put = self.runs.store().put_endpoint(endpoint.clone()).await?;
        self.intake.forget_endpoints();
        match put {
            EndpointPut::Done => Ok(true),
            EndpointPut::Stale => Ok(false),
            EndpointPut::NoPipeline => Err(ApiError::NotFound {
                what: "pipeline",
                name: "that the endpoint is for".to_owned(),
            }),
        }
    }

    /// A secret as an endpoint has it, sealed.
    fn endpoint_secret(&self, id: EndpointId, text: &str) -> Result<EndpointSecret, ApiError> {
        if text.len() > MAX_SECRET_BYTES {
            return Err(ApiError::Invalid(format!(
                "the secret has more than {MAX_SECRET_BYTES} bytes"
            )));
        }
        let open = WebhookSecret::new(text).ok_or_else(|| {
            ApiError::Invalid(
                "the secret is empty, so it would verify anybody; set auth to \"none\" if everybody may send".into(),
            )
        })?;
        let sealed = self.runs.seal_endpoint_secret(id, &open);
        Ok(EndpointSecret {
            id: fingerprint(id.0, open.expose()),
            secret: sealed.ok_or(ApiError::Internal)?,
            not_after: None,
        })
    }
}

#[utoipa::path(get, path = "/api/endpoints", tag = "webhooks", responses((status = 200, body = api::Page<api::Endpoint>)))]
pub(super) async fn list(
    State(app): State<App>,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> Result<Json<api::Page<api::Endpoint>>, ApiError> {
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let store = app.runs.store();
    let found = store.endpoints(query.after.as_deref(), limit).await?;
    let next = (found.len() as i64 == limit)
        .then(|| found.last().map(|last| last.name.clone()))
        .flatten();
    let items = found.iter().map(view).collect();
    Ok(Json(api::Page { items, next }))
}

#[utoipa::path(get, path = "/api/endpoints/{id}", tag = "webhooks", params(("id" = String, Path, description = "id or name")), responses((status = 200, body = api::Endpoint), (status = 404)))]
pub(super) async fn show(
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Json<api::Endpoint>, ApiError> {
    Ok(Json(view(&app.find_endpoint(&id).await?)))
}

#[utoipa::path(put, path = "/api/endpoints/{id}", tag = "webhooks", params(("id" = String, Path, description = "name")), request_body = PutEndpoint, responses((status = 200, body = SavedEndpoint), (status = 400, description = "a secret that is empty, or none without auth none; settings that cannot be"), (status = 404)))]
pub(super) async fn put(
    State(app): State<App>,
    PathId(name): PathId,
    ApiJson(body): ApiJson<PutEndpoint>,
) -> Result<Json<SavedEndpoint>, ApiError> {
    let target = target(&app, &body).await?;
    for _ in 0..MAX_TRIES {
        let stored = match app.find_endpoint(&name).await {
            Ok(found) => Some(found),
            Err(ApiError::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        let created = stored.is_none();
        let now = OffsetDateTime::now_utc();
        let mut uuid = None;
        let mut endpoint = match stored {
            Some(stored) => stored,
            None => {
                let new = blank(&name, target.clone(), now)?;
                uuid = Some(Uuid::new_v4());
                new
            }
        };
        if let Some(uuid) = uuid {
            endpoint.add_uuid(uuid, now, now);
        }
        if let Some(target) = &target {
            endpoint.target = target.clone();
        }
        if let Some(enabled) = body.enabled {
            endpoint.enabled = enabled;
        }
        if let Some(patch) = &body.settings {
            endpoint.settings = patched(&endpoint.settings, patch)?;
        }
        if let Some(secret) = &body.secret {
            let secret = app.endpoint_secret(endpoint.id, secret)?;
            endpoint.add_secret(secret, now, now);
        }
        check(&endpoint)?;
        endpoint.version += 1;
        endpoint.updated_at = now;
        if app.write_endpoint(&endpoint).await? {
            return Ok(saved(&endpoint, created, uuid));
        }
    }
    Err(ApiError::Unavailable)
}

/// What a put asks for, as far as it does.
async fn target(app: &App, body: &PutEndpoint) -> Result<Option<Target>, ApiError> {
    match (&body.pipeline, &body.event) {
        (Some(_), Some(_)) => Err(ApiError::Invalid(
            "an endpoint is for one pipeline or for an event, not for both".into(),
        )),
        (Some(pipeline), None) => {
            let pipeline = app.find_pipeline(pipeline).await?;
            Ok(Some(Target::Pipeline(pipeline.id)))
        }
        (None, Some(event)) if is_event_key(event) => Ok(Some(Target::Event(event.clone()))),
        (None, Some(event)) => Err(ApiError::Invalid(format!(
            "{event:?} cannot be the key of an event: use 1 to {} bytes without white space",
            model::MAX_EVENT_KEY_BYTES
        ))),
        (None, None) => Ok(None),
    }
}

fn blank(
    name: &str,
    target: Option<Target>,
    now: OffsetDateTime,
) -> Result<model::Endpoint, ApiError> {
    if !is_name(name) {
        return Err(ApiError::Invalid(format!(
            "{name:?} cannot be an endpoint's name: use 1 to {} letters, digits, '-', '_' and '.', and no UUID",
            model::MAX_NAME_BYTES
        )));
    }
    let target = target.ok_or_else(|| {
        ApiError::Invalid("a new endpoint needs what it starts: pipeline or event".into())
    })?;
    Ok(model::Endpoint {
        id: EndpointId::new(),
        name: name.to_owned(),
        version: 0,
        target,
        enabled: true,
        settings: WebhookSettings::default(),
        secrets: Vec::new(),
        uuids: Vec::new(),
        created_at: now,
        updated_at: now,
    })
}

fn patched(
    stored: &WebhookSettings,
    patch: &serde_json::Value,
) -> Result<WebhookSettings, ApiError> {
    let invalid = |why: String| ApiError::Invalid(format!("settings: {why}"));
    let mut merged = serde_json::to_value(stored).map_err(|error| invalid(error.to_string()))?;
    merge_patch::apply(&mut merged, patch.clone());
    without_nul("settings", &merged.to_string())?;
    serde_json::from_value(merged).map_err(|error| invalid(error.to_string()))
}

/// What must hold of an endpoint whatever was asked for.
fn check(endpoint: &model::Endpoint) -> Result<(), ApiError> {
    let settings = &endpoint.settings;
    let invalid = |why: &str| Err(ApiError::Invalid(why.to_owned()));
    webhook::check(settings).map_err(|why| ApiError::Invalid(format!("settings: {why}")))?;
    if settings.run_as.is_some() {
        return invalid(
            "settings: run_as is for a pipeline to say (its setting webhook.run_as), not for who calls it",
        );
    }
    // There the secret id is the credential.
    let is_token = settings.provider.as_deref() == Some(ProviderKind::Token.as_str());
    match (endpoint.secrets.is_empty(), settings.auth.is_some()) {
        (true, false) if !is_token => invalid(
            "an endpoint needs a secret; if everybody may send, say so: settings {\"auth\": \"none\"}",
        ),
        (false, true) => {
            invalid("auth none and a secret contradict each other: set settings.auth to null")
        }
        _ => Ok(()),
    }
}

fn asked(body: &[u8]) -> Result<(RotateEndpoint, Duration), ApiError> {
    let asked: RotateEndpoint = match body {
        [] => RotateEndpoint::default(),
        body => parse(body)?,
    };
    let grace = asked.grace_seconds.map_or(GRACE, |seconds| {
        Duration::from_secs(seconds.min(MAX_GRACE_SECONDS))
    });
    Ok((asked, grace))
}

#[utoipa::path(post, path = "/api/endpoints/{id}/rotate", tag = "webhooks", params(("id" = String, Path, description = "id or name")), request_body = RotateEndpoint, responses((status = 200, body = SavedEndpoint), (status = 404)))]
pub(super) async fn rotate(
    State(app): State<App>,
    PathId(id): PathId,
    RawBody(body): RawBody,
) -> Result<Json<SavedEndpoint>, ApiError> {
    let (asked, grace) = asked(&body)?;
    let secret = asked
        .secret
        .ok_or_else(|| ApiError::Invalid("say the new secret: {\"secret\": …}".into()))?;
    for _ in 0..MAX_TRIES {
        let mut endpoint = app.find_endpoint(&id).await?;
        let now = OffsetDateTime::now_utc();
        let newest = app.endpoint_secret(endpoint.id, &secret)?;
        endpoint.add_secret(newest, now, now + grace);
        check(&endpoint)?;
        endpoint.version += 1;
        endpoint.updated_at = now;
        if app.write_endpoint(&endpoint).await? {
            return Ok(saved(&endpoint, false, None));
        }
    }
    Err(ApiError::Unavailable)
}

#[utoipa::path(post, path = "/api/endpoints/{id}/rotate-uuid", tag = "webhooks", params(("id" = String, Path, description = "id or name")), request_body = RotateEndpoint, responses((status = 200, body = SavedEndpoint, description = "with the new secret id, shown this once"), (status = 404)))]
pub(super) async fn rotate_uuid(
    State(app): State<App>,
    PathId(id): PathId,
    RawBody(body): RawBody,
) -> Result<Json<SavedEndpoint>, ApiError> {
    let (asked, grace) = asked(&body)?;
    if asked.secret.is_some() {
        return Err(ApiError::Invalid(
            "the secret id is made by the server; leave the secret out".into(),
        ));
    }
    for _ in 0..MAX_TRIES {
        let mut endpoint = app.find_endpoint(&id).await?;
        let now = OffsetDateTime::now_utc();
        let uuid = Uuid::new_v4();
        endpoint.add_uuid(uuid, now, now + grace);
        endpoint.version += 1;
        endpoint.updated_at = now;
        if app.write_endpoint(&endpoint).await? {
            return Ok(saved(&endpoint, false, Some(uuid)));
        }
    }
    Err(ApiError::Unavailable)
}

#[utoipa::path(delete, path = "/api/endpoints/{id}", tag = "webhooks", params(("id" = String, Path, description = "id or name")), responses((status = 204), (status = 404)))]
pub(super) async fn remove(
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<StatusCode, ApiError> {
    let endpoint = app.find_endpoint(&id).await?;
    app.runs.store().delete_endpoint(endpoint.id).await?;
    app.intake.forget_endpoints();
    Ok(StatusCode::NO_CONTENT)
}
