//! Agents and their tokens.

use super::error::ApiError;
use super::extract::{ApiJson, PathId};
use super::{App, view};
use crate::model::TokenId;
use crate::model::agent::token_hash;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use pocketci_proto::api::{self, AgentToken, CreateAgentToken};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

/// Longest name of a token.
const MAX_NAME_CHARS: usize = 128;

#[utoipa::path(get, path = "/api/agents", tag = "agents", responses((status = 200, body = Vec<api::Agent>)))]
pub(super) async fn list(State(app): State<App>) -> Result<Json<Vec<api::Agent>>, ApiError> {
    let agents = app.runs.store().agents().await?;
    Ok(Json(agents.into_iter().map(view::agent).collect()))
}

/// A token as listed; the credential itself is not stored.
#[derive(Serialize, ToSchema)]
pub(super) struct ListedToken {
    id: TokenId,
    name: String,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    created_at: OffsetDateTime,
}

#[utoipa::path(get, path = "/api/agent-tokens", tag = "agents", responses((status = 200, body = Vec<ListedToken>)))]
pub(super) async fn tokens(State(app): State<App>) -> Result<Json<Vec<ListedToken>>, ApiError> {
    let tokens = app.runs.store().tokens().await?;
    let listed = tokens.into_iter().map(|token| ListedToken {
        id: token.id,
        name: token.name,
        created_at: token.created_at,
    });
    Ok(Json(listed.collect()))
}

#[utoipa::path(post, path = "/api/agent-tokens", tag = "agents", request_body = CreateAgentToken, responses((status = 201, body = AgentToken, description = "the token is shown this once")))]
pub(super) async fn create_token(
    State(app): State<App>,
    ApiJson(CreateAgentToken { name }): ApiJson<CreateAgentToken>,
) -> Result<(StatusCode, Json<AgentToken>), ApiError> {
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || name.contains(char::is_control) {
        return Err(ApiError::Invalid(format!(
            "name must have 1 to {MAX_NAME_CHARS} printable characters"
        )));
    }
    let token = crate::model::agent::random_token();
    let stored = app
        .runs
        .store()
        .create_token(&name, token_hash(&token))
        .await?;
    let created = AgentToken {
        id: stored.id,
        name,
        token,
    };
    Ok((StatusCode::CREATED, Json(created)))
}

#[utoipa::path(delete, path = "/api/agent-tokens/{id}", tag = "agents", params(("id" = String, Path)), responses((status = 204), (status = 404)))]
pub(super) async fn revoke_token(
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<StatusCode, ApiError> {
    let unknown = || ApiError::NotFound {
        what: "agent token",
        name: id.clone(),
    };
    let token: TokenId = id.parse().map_err(|_| unknown())?;
    if app.runs.store().revoke_token(token).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(unknown())
    }
}
