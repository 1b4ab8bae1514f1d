//! Webhooks: `ANY /api/webhooks/{id}`, answered by the pipeline (seed 000), and CircleCI's forms of the same.

use super::answer::{Told, respond, tell};
use super::error::ApiError;
use super::extract::{PathId, PathNames};
use super::listen::Peer;
use super::{App, body, proxy};
use crate::intake::admit::Admitted;
use crate::intake::{Address, Body, Hook, IncomingRequest};
use crate::model::receipt::{Answer, Verdict};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Instant;

#[utoipa::path(
    post, path = "/api/webhooks/{id}", tag = "webhooks",
    description = "Any method. The pipeline's own answer, or 202 with the run's id.",
    params(("id" = String, Path, description = "the pipeline's id, or an endpoint's secret id")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, description = "duplicate, filtered or handshake"), (status = 202, description = "stored; the pipeline did not answer in time"), (status = 401), (status = 404), (status = 405), (status = 409), (status = 413), (status = 429), (status = 431), (status = 503))
)]
pub(super) async fn receive(
    State(app): State<App>,
    PathId(id): PathId,
    request: Request,
) -> Result<Response, ApiError> {
    take(&app, &id, request).await
}

#[utoipa::path(
    post, path = "/api/webhooks/{id}/{rest}", tag = "webhooks",
    description = "The same with a path of the sender's below.",
    params(("id" = String, Path), ("rest" = String, Path)),
    responses((status = 202), (status = 404))
)]
pub(super) async fn receive_below(
    State(app): State<App>,
    names: PathNames<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let PathNames((id, _)) = names;
    take(&app, &id, request).await
}

#[utoipa::path(
    post, path = "/e/{id}", tag = "webhooks",
    description = "An endpoint in the form of CircleCI's custom webhooks: `?secret=`.",
    params(("id" = String, Path, description = "an endpoint's secret id")),
    responses((status = 202), (status = 401), (status = 404))
)]
pub(super) async fn custom(
    State(app): State<App>,
    PathId(id): PathId,
    request: Request,
) -> Result<Response, ApiError> {
    take(&app, &id, request).await
}

#[utoipa::path(
    post, path = "/private/soc/e/{id}", tag = "webhooks",
    description = "The same as `/e/{id}`.",
    params(("id" = String, Path, description = "an endpoint's secret id")),
    responses((status = 202), (status = 401), (status = 404))
)]
pub(super) async fn custom_private(
    State(app): State<App>,
    PathId(id): PathId,
    request: Request,
) -> Result<Response, ApiError> {
    take(&app, &id, request).await
}

/// What nobody is told more about than that it is not there.
pub(super) fn unknown(id: &str) -> ApiError {
    ApiError::NotFound {
        what: "pipeline",
        name: id.to_owned(),
    }
}

async fn take(app: &App, id: &str, request: Request) -> Result<Response, ApiError> {
    let begun = Instant::now();
    let told = answer(app, id, request, begun).await;
    count(app, &told, begun);
    told.map(|told| discreet(respond(told.reply)))
}

pub(super) fn count(app: &App, told: &Result<Told, ApiError>, begun: Instant) {
    let verdict = match told {
        Ok(told) => told.verdict,
        Err(_) => "refused",
    };
    app.metrics.webhook(verdict, begun.elapsed());
}

/// The address may be a credential: no page that the answer leads to may learn it.
pub(super) fn discreet(mut response: Response) -> Response {
    let none = HeaderValue::from_static("no-referrer");
    response
        .headers_mut()
        .entry(header::REFERRER_POLICY)
        .or_insert(none);
    response
}

/// A request at an address.
pub(super) async fn answer(
    app: &App,
    id: &str,
    request: Request,
    begun: Instant,
) -> Result<Told, ApiError> {
    let address = Address::parse(id).ok_or_else(|| unknown(id))?;
    let place = app.admission.admit().ok_or(ApiError::Busy)?;
    let (parts, body) = request.into_parts();
    let incoming = Incoming {
        id,
        address,
        place,
        begun,
    };
    incoming.take(app, parts, body).await
}

/// A request whose place is taken.
struct Incoming<'a> {
    id: &'a str,
    address: Address,
    place: Admitted,
    begun: Instant,
}

impl Incoming<'_> {
    async fn take(
        mut self,
        app: &App,
        parts: Parts,
        body: axum::body::Body,
    ) -> Result<Told, ApiError> {
        let hook = app.intake.find(self.address).await?;
        let hook = Arc::new(hook.ok_or_else(|| unknown(self.id))?);
        let mut request = head(app, parts);
        if let Some(told) = before_body(app, self.id, &hook, &request, self.begun).await? {
            return Ok(told);
        }
        let limit = hook.max_body_bytes(app.settings.max_body_bytes);
        let read = body::receive(body, &request.headers, limit, &mut self.place, &app.disk).await;
        request.body = match read {
            Ok(body) => body,
            Err(error) => return Err(not_taken(app, &hook, &request, error, self.begun).await),
        };
        complete(app, self.id, self.address, hook, request, self.begun).await
    }
}

/// Notes that a body was not taken, and what its sender was told; what is told.
pub(super) async fn not_taken(
    app: &App,
    hook: &Hook,
    request: &IncomingRequest,
    told: ApiError,
    begun: Instant,
) -> ApiError {
    let (verdict, why) = match told {
        ApiError::BodyTooLarge { .. } => (Verdict::TooLarge, "the body is larger than allowed"),
        ApiError::BodyTooSlow => (Verdict::Malformed, "the body came too slowly"),
        ApiError::BodyBroken => (Verdict::Malformed, "the body broke off"),
        ApiError::Busy => (Verdict::QueueFull, "no room for the body"),
        other => return other,
    };
    let received = match app.intake.not_taken(hook, request, verdict, why).await {
        Ok(received) => received,
        Err(error) => return error.into(),
    };
    if received.is_recorded() {
        let (status, code) = (told.status().as_u16(), told.code());
        let answer = Answer::new(status, code.as_bytes(), begun.elapsed());
        app.intake.answered(received.receipt_id, answer);
    }
    told
}

/// What can be said before the body is read; `None` if nothing is against it.
pub(super) async fn before_body(
    app: &App,
    id: &str,
    hook: &Hook,
    request: &IncomingRequest,
    begun: Instant,
) -> Result<Option<Told>, ApiError> {
    match app.intake.receive_head(hook, request).await? {
        Some(received) => tell(app, hook, received, begun, unknown(id))
            .await
            .map(Some),
        None => Ok(None),
    }
}

/// A whole request to a receiving point.
pub(super) async fn complete(
    app: &App,
    id: &str,
    address: Address,
    hook: Arc<Hook>,
    request: IncomingRequest,
    begun: Instant,
) -> Result<Told, ApiError> {
    let received = app.intake.receive(address, hook.clone(), request).await?;
    let received = received.ok_or_else(|| unknown(id))?;
    tell(app, &hook, received, begun, unknown(id)).await
}

/// A request without its body.
pub(super) fn head(app: &App, parts: Parts) -> IncomingRequest {
    let peer = parts.extensions.get::<Peer>();
    IncomingRequest {
        url: parts
            .uri
            .path_and_query()
            .map_or("/", |url| url.as_str())
            .to_owned(),
        remote_addr: peer
            .map(|peer| proxy::caller(peer.0, &parts.headers, &app.settings.trusted_proxies))
            .unwrap_or_default(),
        method: parts.method,
        headers: parts.headers,
        body: Body::from(Bytes::new()),
    }
}
