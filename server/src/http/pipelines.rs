//! Pipelines: list, show, set, pause, remove.

use super::error::ApiError;
use super::extract::{ApiJson, ApiQuery, PathId, RawBody, by, without_nul};
use super::{App, view};
use crate::model::PipelineId;
use crate::model::pipeline::{
    self as model, ContentType, MAX_WEBHOOK_SECRETS, Pipeline, SettingsPatch, WebhookSecret,
};
use crate::model::webhook;
use crate::runs::dispatch::Told;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use pocketci_pipeline::config;
use pocketci_pipeline::config::vars::Vars;
use pocketci_pipeline::program::{self, Program};
use pocketci_proto::agent as pb;
use pocketci_proto::api::{self, PutPipeline, PutPipelineResult};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Entries of a page unless asked otherwise, and at most.
const PAGE: i64 = 100;
/// Names and values of all labels together: they are the key by which queued jobs are found.
const MAX_LABEL_BYTES: usize = 1024;
/// Longest name of a pipeline.
const MAX_NAME_CHARS: usize = 128;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    after: Option<String>,
    limit: Option<i64>,
}

impl App {
    /// A pipeline by id or name, as it is stored now.
    pub(super) async fn find_pipeline(&self, name_or_id: &str) -> Result<Arc<Pipeline>, ApiError> {
        let found = match name_or_id.parse::<PipelineId>() {
            Ok(id) => self.runs.reload_pipeline(id).await?,
            Err(_) => self
                .runs
                .store()
                .pipeline_by_name(name_or_id)
                .await?
                .map(Arc::new),
        };
        found.ok_or_else(|| ApiError::NotFound {
            what: "pipeline",
            name: name_or_id.to_owned(),
        })
    }
}

#[utoipa::path(get, path = "/api/pipelines", tag = "pipelines", responses((status = 200, body = api::Page<api::Pipeline>)))]
pub(super) async fn list(
    State(app): State<App>,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> Result<Json<api::Page<api::Pipeline>>, ApiError> {
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let found = app
        .runs
        .store()
        .pipelines(query.after.as_deref(), limit)
        .await?;
    let next = (found.len() as i64 == limit)
        .then(|| found.last().map(|last| last.name.clone()))
        .flatten();
    let items = found
        .iter()
        .map(|pipeline| view::pipeline(pipeline, None))
        .collect();
    Ok(Json(api::Page { items, next }))
}

#[utoipa::path(get, path = "/api/pipelines/{id}", tag = "pipelines", params(("id" = String, Path, description = "id or name")), responses((status = 200, body = api::Pipeline), (status = 404)))]
pub(super) async fn show(
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Json<api::Pipeline>, ApiError> {
    let pipeline = app.find_pipeline(&id).await?;
    let revision = app.runs.revision(pipeline.revision_id).await?;
    let content = revision.map(|revision| revision.source.clone());
    Ok(Json(view::pipeline(&pipeline, content)))
}

#[utoipa::path(put, path = "/api/pipelines/{id}", tag = "pipelines", params(("id" = String, Path, description = "name")), request_body = PutPipeline, responses((status = 200, body = PutPipelineResult), (status = 422, description = "the content has faults; all are told")))]
pub(super) async fn put(
    State(app): State<App>,
    PathId(name): PathId,
    ApiJson(body): ApiJson<PutPipeline>,
) -> Result<Json<PutPipelineResult>, ApiError> {
    let (mut put, warnings) = checked(name, body).await?;
    put.webhook_secrets = put
        .webhook_secrets
        .map(|secrets| app.runs.seal_webhook_secrets(&put.name, &secrets));
    let outcome = app.runs.store().put_pipeline(put).await?;
    Ok(Json(PutPipelineResult {
        pipeline: view::pipeline(&outcome.pipeline, None),
        created: outcome.created,
        warnings,
        changed: outcome
            .changed
            .iter()
            .map(|what| (*what).to_owned())
            .collect(),
    }))
}

/// Everything about the request that can be wrong is found here, before anything is stored.
async fn checked(
    name: String,
    body: PutPipeline,
) -> Result<(model::PutPipeline, Vec<String>), ApiError> {
    check_name(&name)?;
    check_texts(&body)?;
    let content_type = match body.content_type.as_deref() {
        None | Some("ts") => ContentType::Ts,
        Some("js") => ContentType::Js,
        Some("yaml") => ContentType::Yaml,
        Some(other) => {
            return Err(ApiError::Invalid(format!(
                "content_type {other:?} is not one of ts, js, yaml"
            )));
        }
    };
    let webhook_secrets = secrets(body.webhook_secret, body.webhook_secrets)?;
    let file_name = body
        .file_name
        .filter(|file| !file.is_empty())
        .unwrap_or_else(|| format!("{name}.{}", content_type.as_str()));
    let (file, source, modules) = (file_name.clone(), body.content, body.modules);
    // A compiler is no work for the threads that serve webhooks.
    let (compiled, source) = tokio::task::spawn_blocking(move || {
        (compile(&file, content_type, &source, &modules), source)
    })
    .await
    .map_err(|panic| {
        tracing::error!(%panic, "the compiler panicked");
        ApiError::Internal
    })?;
    let (compiled, warnings) = compiled.map_err(|faults| ApiError::InvalidPipeline {
        name: file_name.clone(),
        faults,
    })?;
    let listens = listens(&file_name, compiled.listens)?;
    let put = model::PutPipeline {
        name,
        content_type,
        file_name,
        source,
        javascript: compiled.javascript,
        source_map: compiled.source_map,
        modules: compiled
            .modules
            .into_iter()
            .map(|module| model::Module {
                name: module.name,
                source: module.source,
                javascript: module.javascript,
                source_map: module.source_map,
            })
            .collect(),
        driver: body.driver.map(Some),
        labels: body.labels,
        webhook_secrets,
        settings: settings(body.settings)?,
        listens,
    };
    Ok((put, warnings))
}

/// What a program listens to, checked.
fn listens(file_name: &str, listens: Vec<program::Listen>) -> Result<Vec<api::Listen>, ApiError> {
    let listens: Vec<_> = listens
        .into_iter()
        .map(|listen| api::Listen {
            event: listen.event,
            filter: listen.filter,
        })
        .collect();
    webhook::check_listens(&listens).map_err(|fault| ApiError::InvalidPipeline {
        name: file_name.to_owned(),
        faults: vec![fault],
    })?;
    Ok(listens)
}

fn yaml_listens(config: &config::Config) -> Vec<program::Listen> {
    let listens = config.on.iter();
    listens
        .map(|listen| program::Listen {
            event: listen.event.clone(),
            filter: listen.filter.clone(),
        })
        .collect()
}

/// The program, and what is odd about it; or all that is wrong with it.
type Compiled = Result<(Program, Vec<String>), Vec<String>>;

fn compile(
    file_name: &str,
    content_type: ContentType,
    source: &str,
    modules: &BTreeMap<String, String>,
) -> Compiled {
    fn told<T: ToString>(all: &[T]) -> Vec<String> {
        all.iter().map(ToString::to_string).collect()
    }
    let kind = match content_type {
        ContentType::Ts => program::ContentType::Ts,
        ContentType::Js => program::ContentType::Js,
        ContentType::Yaml => {
            let loaded = config::load(file_name, source, &Vars::default());
            let loaded = loaded.map_err(|faults| told(&faults))?;
            let nothing = Program {
                javascript: String::new(),
                source_map: String::new(),
                modules: Vec::new(),
                listens: yaml_listens(&loaded.config),
            };
            return Ok((nothing, told(&loaded.warnings)));
        }
    };
    let compiled = program::compile(file_name, kind, source, modules);
    let compiled = compiled.map_err(|faults| told(&faults))?;
    Ok((compiled, Vec::new()))
}

fn settings(patch: Option<serde_json::Value>) -> Result<Option<SettingsPatch>, ApiError> {
    patch
        .map(SettingsPatch::new)
        .transpose()
        .map_err(|error| ApiError::Invalid(error.to_string()))
}

fn check_name(name: &str) -> Result<(), ApiError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let sane = (1..=MAX_NAME_CHARS).contains(&name.len()) && name.chars().all(allowed);
    if !sane || name.parse::<PipelineId>().is_ok() {
        return Err(ApiError::Invalid(format!(
            "{name:?} cannot be a pipeline's name: use 1 to {MAX_NAME_CHARS} letters, digits, '-', '_' and '.', and no UUID"
        )));
    }
    Ok(())
}

fn check_texts(body: &PutPipeline) -> Result<(), ApiError> {
    without_nul("content", &body.content)?;
    for (name, text) in &body.modules {
        without_nul("the name of a module", name)?;
        without_nul(name, text)?;
    }
    without_nul("file_name", body.file_name.as_deref().unwrap_or_default())?;
    let labels = body.labels.iter().flatten();
    let size: usize = labels.map(|(label, value)| label.len() + value.len()).sum();
    if size > MAX_LABEL_BYTES {
        return Err(ApiError::Invalid(format!(
            "the labels have {size} bytes; all together may have {MAX_LABEL_BYTES}"
        )));
    }
    for (label, value) in body.labels.iter().flatten() {
        without_nul("a label", label)?;
        without_nul(&format!("label {label:?}"), value)?;
    }
    Ok(())
}

fn secrets(
    one: Option<String>,
    several: Option<Vec<String>>,
) -> Result<Option<Vec<WebhookSecret>>, ApiError> {
    let wanted = match (one, several) {
        (Some(_), Some(_)) => {
            return Err(ApiError::Invalid(
                "give webhook_secret or webhook_secrets, not both".into(),
            ));
        }
        (None, None) => return Ok(None),
        (Some(one), None) if one.is_empty() => return Ok(Some(Vec::new())),
        (Some(one), None) => vec![one],
        (None, Some(several)) => several,
    };
    if wanted.len() > MAX_WEBHOOK_SECRETS {
        return Err(ApiError::Invalid(format!(
            "at most {MAX_WEBHOOK_SECRETS} webhook secrets can be active"
        )));
    }
    let secrets: Option<Vec<WebhookSecret>> = wanted.into_iter().map(WebhookSecret::new).collect();
    match secrets {
        Some(secrets) => Ok(Some(secrets)),
        None => Err(ApiError::Invalid(
            "a webhook secret is empty, so it would verify anybody; leave it out instead".into(),
        )),
    }
}

#[utoipa::path(delete, path = "/api/pipelines/{id}", tag = "pipelines", params(("id" = String, Path, description = "id or name")), responses((status = 204), (status = 404)))]
pub(super) async fn remove(
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<StatusCode, ApiError> {
    let pipeline = app.find_pipeline(&id).await?;
    app.runs.store().delete_pipeline(pipeline.id).await?;
    // Agents of other servers keep what failed steps left for its time.
    let dropped = pb::DropKept {
        pipeline_id: pipeline.id.to_string(),
    };
    app.runs.dispatch().tell_all(&Told::DropKept(dropped));
    app.runs.reload_pipeline(pipeline.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(post, path = "/api/pipelines/{id}/pause", tag = "pipelines", params(("id" = String, Path, description = "id or name")), request_body = api::By, responses((status = 200, body = api::Pipeline), (status = 404)))]
pub(super) async fn pause(
    State(app): State<App>,
    PathId(id): PathId,
    RawBody(body): RawBody,
) -> Result<Json<api::Pipeline>, ApiError> {
    set_paused(&app, &id, Some(by(&body)?)).await
}

#[utoipa::path(post, path = "/api/pipelines/{id}/unpause", tag = "pipelines", params(("id" = String, Path, description = "id or name")), responses((status = 200, body = api::Pipeline), (status = 404)))]
pub(super) async fn unpause(
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Json<api::Pipeline>, ApiError> {
    set_paused(&app, &id, None).await
}

async fn set_paused(
    app: &App,
    name_or_id: &str,
    by: Option<String>,
) -> Result<Json<api::Pipeline>, ApiError> {
    let pipeline = app.find_pipeline(name_or_id).await?;
    let store = app.runs.store();
    let changed = store.set_paused(pipeline.id, by.as_deref()).await?;
    app.runs.reload_pipeline(pipeline.id).await?;
    let changed = changed.ok_or_else(|| ApiError::NotFound {
        what: "pipeline",
        name: name_or_id.to_owned(),
    })?;
    Ok(Json(view::pipeline(&changed, None)))
}
