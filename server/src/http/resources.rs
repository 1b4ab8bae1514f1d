//! Resources of YAML pipelines and their versions: list, look for new ones, pin, enable, disable, forget.

use super::App;
use super::error::ApiError;
use super::extract::{ApiQuery, PathId, PathNames, RawBody, by, parse, without_nul};
use crate::model::pipeline::Pipeline;
use crate::model::version::{self, Pin, ResourceState, StoredVersion, Version};
use crate::runs::Program;
use crate::store::Pinned;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use pocketci_pipeline::config::Resource;
use pocketci_proto::api::{self, CheckRequest, Triggered, VersionRequest};
use serde::Deserialize;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// Versions of a page unless asked otherwise.
const PAGE: i64 = 50;
/// Versions of a page at most.
const MAX_PAGE: i64 = 500;
/// Versions looked at in one go for one with certain fields.
const SEARCHED: i64 = 500;
/// Who asks for a check by webhook.
const TOKEN_QUERY: &str = "webhook_token";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    before: Option<i64>,
    limit: Option<i64>,
}

#[derive(Deserialize)]
pub(super) struct TokenQuery {
    webhook_token: Option<String>,
}

/// A resource as its pipeline declares it, with what is known of it.
struct Found {
    pipeline: Arc<Pipeline>,
    program: Arc<Program>,
    declared: Resource,
    state: ResourceState,
}

impl App {
    async fn find_resource(&self, id: &str, name: &str) -> Result<Found, ApiError> {
        let (pipeline, program) = self.find_program(id).await?;
        let unknown = || ApiError::NotFound {
            what: "resource",
            name: format!("{}/{name}", pipeline.name),
        };
        let declared = program.config.resource(name).ok_or_else(unknown)?.clone();
        // Set a moment ago, the scheduler may not have come by yet.
        self.runs.declare(&pipeline, &program).await?;
        let state = self.runs.store().resource(pipeline.id, name).await?;
        Ok(Found {
            state: state.ok_or_else(unknown)?,
            pipeline,
            program,
            declared,
        })
    }

    /// The newest known version with these fields.
    async fn find_version(
        &self,
        found: &Found,
        fields: &Version,
    ) -> Result<StoredVersion, ApiError> {
        let (id, name) = (found.pipeline.id, &found.state.name);
        let mut before = None;
        loop {
            let store = self.runs.store();
            let page = store.versions(id, name, before, SEARCHED).await?;
            let Some(last) = page.last() else {
                return Err(ApiError::NotFound {
                    what: "version",
                    name: format!("{} of {name}", version::words(fields)),
                });
            };
            before = Some(last.check_order);
            let fits = |stored: &StoredVersion| version::contains(&stored.version, fields);
            if let Some(stored) = page.into_iter().find(fits) {
                return Ok(stored);
            }
        }
    }
}

fn view(declared: &Resource, state: ResourceState) -> api::Resource {
    let by_pipeline = declared.version.clone().map(|version| api::Pin {
        version,
        comment: String::new(),
        by: String::new(),
    });
    let by_command = state.pin.map(|pin| api::Pin {
        version: pin.fields,
        comment: pin.comment,
        by: pin.actor,
    });
    api::Resource {
        name: state.name,
        kind: declared.type_name.clone(),
        checked_at: state.check_finished_at,
        checking: state.checking,
        check_error: state.check_error,
        pin: by_pipeline.or(by_command),
        newest: state.newest,
    }
}

#[utoipa::path(get, path = "/api/pipelines/{id}/resources", tag = "resources", params(("id" = String, Path, description = "id or name")), responses((status = 200, body = Vec<api::Resource>), (status = 404), (status = 409, description = "no YAML pipeline")))]
pub(super) async fn list(
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Json<Vec<api::Resource>>, ApiError> {
    let (pipeline, program) = app.find_program(&id).await?;
    let states = app.runs.store().resources(pipeline.id).await?;
    let shown = states.into_iter().filter_map(|state| {
        let declared = program.config.resource(&state.name)?;
        Some(view(declared, state))
    });
    Ok(Json(shown.collect()))
}

#[utoipa::path(get, path = "/api/pipelines/{id}/resources/{resource}/versions", tag = "resources", params(("id" = String, Path, description = "id or name"), ("resource" = String, Path), ("before" = Option<i64>, Query, description = "`next` of the page before"), ("limit" = Option<i64>, Query)), responses((status = 200, body = api::Page<api::ResourceVersion>, description = "newest first"), (status = 404)))]
pub(super) async fn versions(
    State(app): State<App>,
    PathNames((id, name)): PathNames<(String, String)>,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> Result<Json<api::Page<api::ResourceVersion>>, ApiError> {
    let found = app.find_resource(&id, &name).await?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE);
    let store = app.runs.store();
    let page = store
        .versions(found.pipeline.id, &name, query.before, limit)
        .await?;
    let full = page.len() as i64 == limit;
    let last = page.last().filter(|_| full);
    Ok(Json(api::Page {
        next: last.map(|last| last.check_order.to_string()),
        items: page.into_iter().map(view_version).collect(),
    }))
}

fn view_version(stored: StoredVersion) -> api::ResourceVersion {
    api::ResourceVersion {
        version: stored.version,
        metadata: stored
            .metadata
            .into_iter()
            .map(|(name, value)| api::Metadata { name, value })
            .collect(),
        enabled: stored.enabled,
        pinned: stored.pinned,
        first_seen_at: stored.first_seen_at,
    }
}

#[utoipa::path(post, path = "/api/pipelines/{id}/resources/{resource}/check", tag = "resources", params(("id" = String, Path, description = "id or name"), ("resource" = String, Path)), request_body = CheckRequest, responses((status = 202, body = Triggered, description = "the run that looks for versions"), (status = 404), (status = 409)))]
pub(super) async fn check(
    State(app): State<App>,
    PathNames((id, name)): PathNames<(String, String)>,
    RawBody(body): RawBody,
) -> Result<(StatusCode, Json<Triggered>), ApiError> {
    let request: CheckRequest = match body.is_empty() {
        true => CheckRequest::default(),
        false => parse(&body)?,
    };
    let found = app.find_resource(&id, &name).await?;
    begin(&app, &found, request.from).await
}

async fn begin(
    app: &App,
    found: &Found,
    from: Option<Version>,
) -> Result<(StatusCode, Json<Triggered>), ApiError> {
    if found.pipeline.paused {
        return Err(ApiError::Paused {
            name: found.pipeline.name.clone(),
        });
    }
    let begun = app
        .runs
        .ask_for_check(&found.pipeline, &found.program, &found.state, from)
        .await?;
    // Changed this very moment.
    let run_id = begun.ok_or(ApiError::Unavailable)?;
    Ok((StatusCode::ACCEPTED, Json(Triggered { run_id })))
}

#[utoipa::path(post, path = "/api/pipelines/{id}/resources/{resource}/check/webhook", tag = "resources", description = "For those who know the resource's webhook_token.", params(("id" = String, Path, description = "id or name"), ("resource" = String, Path), ("webhook_token" = String, Query)), responses((status = 202, body = Triggered), (status = 400, description = "no token"), (status = 401, description = "another token"), (status = 404)))]
pub(super) async fn check_webhook(
    State(app): State<App>,
    PathNames((id, name)): PathNames<(String, String)>,
    ApiQuery(query): ApiQuery<TokenQuery>,
) -> Result<(StatusCode, Json<Triggered>), ApiError> {
    let Some(given) = query.webhook_token.filter(|token| !token.is_empty()) else {
        return Err(ApiError::Invalid(format!(
            "the query must have {TOKEN_QUERY}, as the resource declares it"
        )));
    };
    // Anybody may ask: not more at once than webhooks.
    let _place = app.admission.admit().ok_or(ApiError::Busy)?;
    // Whoever has no token learns nothing of what there is.
    let found = match app.find_resource(&id, &name).await {
        Ok(found) => found,
        Err(ApiError::NotFound { .. } | ApiError::Conflict(_)) => {
            return Err(ApiError::BadSignature);
        }
        Err(error) => return Err(error),
    };
    let expected = app
        .runs
        .fill_in(found.pipeline.id, &found.declared.webhook_token)
        .await?;
    let same = expected
        .filter(|token| !token.is_empty())
        .is_some_and(|token| bool::from(token.as_bytes().ct_eq(given.as_bytes())));
    if !same {
        return Err(ApiError::BadSignature);
    }
    begin(&app, &found, None).await
}

/// Fields of a version, with what a pin says beside.
fn asked(body: &[u8]) -> Result<(VersionRequest, String), ApiError> {
    let request: VersionRequest = parse(body)?;
    for (field, value) in &request.version {
        without_nul("a version's field", field)?;
        without_nul("a version's field", value)?;
    }
    without_nul("comment", &request.comment)?;
    if request.version.is_empty() {
        return Err(ApiError::Invalid(
            "version must have at least one field, for example {\"ref\": \"abc\"}".into(),
        ));
    }
    let who = by(serde_json::json!({ "by": request.by })
        .to_string()
        .as_bytes())?;
    Ok((request, who))
}

#[utoipa::path(put, path = "/api/pipelines/{id}/resources/{resource}/pin", tag = "resources", params(("id" = String, Path, description = "id or name"), ("resource" = String, Path)), request_body = VersionRequest, responses((status = 200, body = api::Resource), (status = 404, description = "no such version"), (status = 409, description = "the pipeline itself pins it")))]
pub(super) async fn pin(
    State(app): State<App>,
    PathNames((id, name)): PathNames<(String, String)>,
    RawBody(body): RawBody,
) -> Result<Json<api::Resource>, ApiError> {
    let (request, actor) = asked(&body)?;
    let found = app.find_resource(&id, &name).await?;
    if found.declared.version.is_some() {
        return Err(ApiError::Conflict(format!(
            "resource {name:?} is pinned by the pipeline itself (version:)"
        )));
    }
    let pin = Pin {
        fields: request.version.clone(),
        comment: request.comment,
        actor,
    };
    let store = app.runs.store();
    match store.pin_resource(found.pipeline.id, &name, pin).await? {
        Pinned::Done => show(&app, &id, &name).await,
        Pinned::NoResource => Err(ApiError::NotFound {
            what: "resource",
            name,
        }),
        Pinned::NoVersion => Err(ApiError::NotFound {
            what: "version",
            name: format!("{} of {name}", version::words(&request.version)),
        }),
    }
}

async fn show(app: &App, id: &str, name: &str) -> Result<Json<api::Resource>, ApiError> {
    let found = app.find_resource(id, name).await?;
    Ok(Json(view(&found.declared, found.state)))
}

#[utoipa::path(delete, path = "/api/pipelines/{id}/resources/{resource}/pin", tag = "resources", params(("id" = String, Path, description = "id or name"), ("resource" = String, Path)), responses((status = 200, body = api::Resource), (status = 404)))]
pub(super) async fn unpin(
    State(app): State<App>,
    PathNames((id, name)): PathNames<(String, String)>,
) -> Result<Json<api::Resource>, ApiError> {
    let found = app.find_resource(&id, &name).await?;
    let store = app.runs.store();
    store.unpin_resource(found.pipeline.id, &name).await?;
    show(&app, &id, &name).await
}

async fn set_enabled(
    app: &App,
    id: &str,
    name: &str,
    body: &[u8],
    enabled: bool,
) -> Result<Json<api::ResourceVersion>, ApiError> {
    let (request, _) = asked(body)?;
    let found = app.find_resource(id, name).await?;
    let mut stored = app.find_version(&found, &request.version).await?;
    let store = app.runs.store();
    store
        .set_version_enabled(found.pipeline.id, name, stored.hash, enabled)
        .await?;
    stored.enabled = enabled;
    Ok(Json(view_version(stored)))
}

#[utoipa::path(post, path = "/api/pipelines/{id}/resources/{resource}/enable", tag = "resources", params(("id" = String, Path, description = "id or name"), ("resource" = String, Path)), request_body = VersionRequest, responses((status = 200, body = api::ResourceVersion), (status = 404)))]
pub(super) async fn enable(
    State(app): State<App>,
    PathNames((id, name)): PathNames<(String, String)>,
    RawBody(body): RawBody,
) -> Result<Json<api::ResourceVersion>, ApiError> {
    set_enabled(&app, &id, &name, &body, true).await
}

#[utoipa::path(post, path = "/api/pipelines/{id}/resources/{resource}/disable", tag = "resources", params(("id" = String, Path, description = "id or name"), ("resource" = String, Path)), request_body = VersionRequest, responses((status = 200, body = api::ResourceVersion), (status = 404)))]
pub(super) async fn disable(
    State(app): State<App>,
    PathNames((id, name)): PathNames<(String, String)>,
    RawBody(body): RawBody,
) -> Result<Json<api::ResourceVersion>, ApiError> {
    set_enabled(&app, &id, &name, &body, false).await
}

#[utoipa::path(delete, path = "/api/pipelines/{id}/resources/{resource}/versions", tag = "resources", params(("id" = String, Path, description = "id or name"), ("resource" = String, Path)), responses((status = 204, description = "all its versions are forgotten; the next check begins anew"), (status = 404)))]
pub(super) async fn clear(
    State(app): State<App>,
    PathNames((id, name)): PathNames<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let found = app.find_resource(&id, &name).await?;
    let store = app.runs.store();
    store.clear_versions(found.pipeline.id, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
