//! Receipts: requests that came to webhooks are listed, searched, looked at, and their bodies read.

use super::error::ApiError;
use super::extract::{ApiQuery, PathId, without_nul};
use super::{App, receipt_view};
use crate::model::ReceiptId;
use crate::model::receipt::{BodyPlace, Receipt, Verdict};
use crate::model::run::Run;
use crate::runs::BodyError;
use crate::store::{MAX_RECEIPTS, ReceiptFilter};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use futures_util::TryStreamExt;
use pocketci_proto::api;
use std::collections::{BTreeMap, BTreeSet};

/// Entries of a page unless asked otherwise.
const PAGE: i64 = 50;

impl App {
    /// A receipt by its id, with its inline body.
    pub(super) async fn find_receipt(&self, id: &str) -> Result<Receipt, ApiError> {
        let unknown = || ApiError::NotFound {
            what: "receipt",
            name: id.to_owned(),
        };
        let id: ReceiptId = id.parse().map_err(|_| unknown())?;
        let found = self.runs.store().receipt(id).await?;
        found.ok_or_else(unknown)
    }

    /// The request that started a run, whole; a run whose request is forgotten cannot be done again.
    pub(super) async fn receipt_for_rerun(&self, run: &Run) -> Result<Option<Receipt>, ApiError> {
        let Some(id) = run.receipt_id else {
            return Ok(None);
        };
        let found = self.runs.store().receipt(id).await?;
        let is_whole =
            |receipt: &Receipt| receipt.body_place != BodyPlace::None || receipt.body_bytes == 0;
        match found.filter(is_whole) {
            Some(receipt) => Ok(Some(receipt)),
            None => Err(ApiError::Gone(
                "the webhook that started this run is forgotten (--receipts-keep, --receipts-max-bytes): it cannot be run again with the same input".into(),
            )),
        }
    }

    /// The filter that a query asks for.
    pub(super) async fn receipt_filter(
        &self,
        query: &api::ReceiptQuery,
    ) -> Result<ReceiptFilter, ApiError> {
        let texts = [
            ("event", &query.event),
            ("provider", &query.provider),
            ("event_type", &query.event_type),
            ("delivery_id", &query.delivery_id),
            ("text", &query.text),
        ];
        for (what, text) in texts {
            without_nul(what, text.as_deref().unwrap_or_default())?;
        }
        let verdict = match &query.verdict {
            None => None,
            Some(word) => Some(Verdict::parse(word).ok_or_else(|| {
                let all: Vec<&str> = Verdict::ALL
                    .iter()
                    .map(|verdict| verdict.as_str())
                    .collect();
                ApiError::Invalid(format!("verdict {word:?} is not one of {}", all.join(", ")))
            })?),
        };
        let pipeline_id = match &query.pipeline {
            None => None,
            Some(name) => Some(self.find_pipeline(name).await?.id),
        };
        let endpoint_id = match &query.endpoint {
            None => None,
            Some(name) => Some(self.endpoint_of(name).await?),
        };
        Ok(ReceiptFilter {
            pipeline_id,
            endpoint_id,
            event_key: query.event.clone(),
            verdict,
            provider: query.provider.clone(),
            event_type: query.event_type.clone(),
            delivery_id: query.delivery_id.clone(),
            text: query.text.clone().filter(|text| !text.is_empty()),
            from: query.from,
            until: query.until,
            replay_of: query.replay_of,
            without_replays: false,
            oldest_first: false,
            after: query.after,
            limit: query.limit.unwrap_or(PAGE).clamp(1, MAX_RECEIPTS),
        })
    }

    /// An endpoint's id, by id (also of one that is gone: its receipts stay) or name.
    async fn endpoint_of(&self, name: &str) -> Result<crate::model::EndpointId, ApiError> {
        if let Ok(id) = name.parse() {
            return Ok(id);
        }
        let found = self.runs.store().endpoint_by_name(name).await?;
        found
            .map(|found| found.id)
            .ok_or_else(|| ApiError::NotFound {
                what: "endpoint",
                name: name.to_owned(),
            })
    }

    /// Names of the pipelines that receipts were for.
    async fn names_for(&self, receipts: &[Receipt]) -> Result<receipt_view::Names, ApiError> {
        let ids: BTreeSet<_> = receipts
            .iter()
            .filter_map(|receipt| receipt.pipeline_id)
            .collect();
        let mut names = BTreeMap::new();
        for id in ids {
            if let Some(pipeline) = self.runs.pipeline(id).await? {
                names.insert(id, pipeline.name.clone());
            }
        }
        Ok(names)
    }
}

#[utoipa::path(get, path = "/api/receipts", tag = "receipts", params(
    ("pipeline" = Option<String>, Query), ("endpoint" = Option<String>, Query), ("event" = Option<String>, Query),
    ("verdict" = Option<String>, Query), ("provider" = Option<String>, Query), ("event_type" = Option<String>, Query),
    ("delivery_id" = Option<String>, Query), ("text" = Option<String>, Query, description = "contained in reason or URL"),
    ("from" = Option<String>, Query, description = "RFC 3339"), ("until" = Option<String>, Query), ("replay_of" = Option<String>, Query),
    ("after" = Option<String>, Query), ("limit" = Option<i64>, Query, description = "1 to 200")),
    responses((status = 200, body = api::Page<api::Receipt>, description = "newest first"), (status = 400), (status = 404)))]
pub(super) async fn list(
    State(app): State<App>,
    ApiQuery(query): ApiQuery<api::ReceiptQuery>,
) -> Result<Json<api::Page<api::Receipt>>, ApiError> {
    let filter = app.receipt_filter(&query).await?;
    let limit = filter.limit;
    let found = app.runs.store().receipts(filter).await?;
    let next = (found.len() as i64 == limit)
        .then(|| found.last().map(|last| last.id.to_string()))
        .flatten();
    let names = app.names_for(&found).await?;
    let items = found
        .iter()
        .map(|receipt| receipt_view::receipt(receipt, &names))
        .collect();
    Ok(Json(api::Page { items, next }))
}

#[utoipa::path(get, path = "/api/receipts/{id}", tag = "receipts", params(("id" = String, Path)), responses((status = 200, body = api::ReceiptDetails), (status = 404)))]
pub(super) async fn show(
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Json<api::ReceiptDetails>, ApiError> {
    let receipt = app.find_receipt(&id).await?;
    let store = app.runs.store();
    let targets = store.message_targets(receipt.id).await?;
    let mut wanted: Vec<_> = targets.iter().map(|target| target.run_id).collect();
    wanted.extend(receipt.run_id);
    let mut runs = Vec::new();
    for run_id in wanted {
        runs.extend(store.run(run_id).await?);
    }
    let mut names = app.names_for(std::slice::from_ref(&receipt)).await?;
    for target in &targets {
        if let Some(pipeline) = app.runs.pipeline(target.pipeline_id).await? {
            names.insert(target.pipeline_id, pipeline.name.clone());
        }
    }
    let replays = store.replayed(&[receipt.id]).await?;
    let looked = receipt_view::Looked {
        receipt: &receipt,
        targets: &targets,
        runs: &runs,
        names: &names,
        replays: replays.into_iter().map(|(_, id, _)| id).collect(),
    };
    Ok(Json(looked.details()))
}

#[utoipa::path(get, path = "/api/receipts/{id}/body", tag = "receipts", params(("id" = String, Path)), responses((status = 200, content_type = "application/octet-stream", description = "the bytes as they came"), (status = 404), (status = 410)))]
pub(super) async fn body(State(app): State<App>, PathId(id): PathId) -> Result<Response, ApiError> {
    let receipt = app.find_receipt(&id).await?;
    if receipt.body_place == BodyPlace::None && receipt.body_bytes > 0 {
        return Err(ApiError::Gone(BodyError::Gone.to_string()));
    }
    let pages = app.runs.body(&receipt).map_err(|error| {
        // The head is sent already: the body breaks off, which its length tells the client.
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "a body could not be read to its end"
        );
        error
    });
    let mut response = Response::new(Body::from_stream(pages));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, receipt.body_bytes.into());
    // Whatever a stranger said it is, a browser shall not show it.
    let octets = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, octets);
    let no_guess = HeaderValue::from_static("nosniff");
    headers.insert(HeaderName::from_static("x-content-type-options"), no_guess);
    Ok(response)
}
