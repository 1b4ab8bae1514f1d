//! Whether the server lives, and whether it can work.

use super::App;
use super::error::ApiError;
use axum::extract::State;

#[utoipa::path(get, path = "/healthz", tag = "operations", responses((status = 200, description = "the process answers")))]
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

#[utoipa::path(get, path = "/readyz", tag = "operations", responses((status = 200, description = "the store answers"), (status = 503)))]
pub(super) async fn ready(State(app): State<App>) -> Result<&'static str, ApiError> {
    app.runs.store().ping().await?;
    Ok("ok\n")
}
