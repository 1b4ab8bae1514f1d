//! Secrets: set, list, remove; never shown.

use super::App;
use super::error::ApiError;
use super::extract::{ApiJson, ApiQuery, PathId};
use crate::model::secret::{MAX_NAME_BYTES, MAX_SECRET_BYTES, Scope, is_name};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use pocketci_proto::api::{PutSecret, RotatedSecrets, Secret};
use serde::Deserialize;

/// Whose secrets.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScopeQuery {
    pipeline: Option<String>,
}

async fn scope(app: &App, pipeline: Option<&str>) -> Result<(Scope, Option<String>), ApiError> {
    match pipeline {
        None => Ok((None, None)),
        Some(name) => {
            let found = app.find_pipeline(name).await?;
            Ok((Some(found.id), Some(found.name.clone())))
        }
    }
}

#[utoipa::path(get, path = "/api/secrets", tag = "secrets", params(("pipeline" = Option<String>, Query, description = "name or id; absent for the global ones")), responses((status = 200, body = Vec<Secret>), (status = 404)))]
pub(super) async fn list(
    State(app): State<App>,
    ApiQuery(query): ApiQuery<ScopeQuery>,
) -> Result<Json<Vec<Secret>>, ApiError> {
    let (scope, pipeline) = scope(&app, query.pipeline.as_deref()).await?;
    let secrets = app.runs.store().secrets(scope).await?;
    let listed = secrets.into_iter().map(|secret| Secret {
        name: secret.name,
        pipeline: pipeline.clone(),
        updated_at: secret.updated_at,
    });
    Ok(Json(listed.collect()))
}

#[utoipa::path(put, path = "/api/secrets/{id}", tag = "secrets", params(("id" = String, Path, description = "the secret's name")), request_body = PutSecret, responses((status = 201, description = "new"), (status = 204, description = "replaced"), (status = 404)))]
pub(super) async fn put(
    State(app): State<App>,
    PathId(name): PathId,
    ApiJson(body): ApiJson<PutSecret>,
) -> Result<StatusCode, ApiError> {
    if !is_name(&name) {
        return Err(ApiError::Invalid(format!(
            "{name:?} cannot be a secret's name: use 1 to {MAX_NAME_BYTES} letters, digits, '_', '-', '.' and '/'"
        )));
    }
    if body.value.is_empty() || body.value.len() > MAX_SECRET_BYTES {
        return Err(ApiError::Invalid(format!(
            "a secret must have 1 to {MAX_SECRET_BYTES} bytes"
        )));
    }
    let (scope, pipeline) = scope(&app, body.pipeline.as_deref()).await?;
    match app.runs.put_secret(scope, &name, &body.value).await? {
        Some(true) => Ok(StatusCode::CREATED),
        Some(false) => Ok(StatusCode::NO_CONTENT),
        // Deleted between the two looks.
        None => Err(ApiError::NotFound {
            what: "pipeline",
            name: pipeline.unwrap_or_default(),
        }),
    }
}

#[utoipa::path(delete, path = "/api/secrets/{id}", tag = "secrets", params(("id" = String, Path, description = "the secret's name"), ("pipeline" = Option<String>, Query, description = "name or id; absent for a global one")), responses((status = 204), (status = 404)))]
pub(super) async fn remove(
    State(app): State<App>,
    PathId(name): PathId,
    ApiQuery(query): ApiQuery<ScopeQuery>,
) -> Result<StatusCode, ApiError> {
    let (scope, _) = scope(&app, query.pipeline.as_deref()).await?;
    if app.runs.store().delete_secret(scope, &name).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::NotFound {
            what: "secret",
            name,
        })
    }
}

#[utoipa::path(post, path = "/api/secrets/rotate", tag = "secrets", responses((status = 200, body = RotatedSecrets, description = "everything is encrypted with the server's first key now")))]
pub(super) async fn rotate(State(app): State<App>) -> Result<Json<RotatedSecrets>, ApiError> {
    let rotated = app.runs.rotate_secrets().await?;
    Ok(Json(RotatedSecrets { rotated }))
}
