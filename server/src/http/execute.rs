//! One-off tasks: inputs come in, the task is started, outputs go out.

use super::App;
use super::body::Pieces;
use super::error::ApiError;
use super::extract::{ApiJson, PathNames, without_nul};
use crate::model::RunId;
use crate::model::archive::{
    ArchiveKey, Direction, MAX_ARCHIVE_BYTES, MAX_ARCHIVES, Writer, name_fault,
};
use crate::model::run::RunState;
use crate::runs::{ArchiveError, Execute, Executed};
use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use pocketci_proto::api::{ExecuteRequest, Triggered};
use std::time::{Duration, SystemTime};

/// A task without a name.
const DEFAULT_NAME: &str = "one-off";
/// How far a client's clock may be off, and how long before the task its inputs may be sent: runs are listed by their ids,
/// which carry the time.
const CLOCK_MAY_DIFFER: Duration = Duration::from_secs(86_400);
/// All tags of a task together, in bytes: labels are the key by which queued jobs are found.
const MAX_TAG_BYTES: usize = 1024;

/// An id that a client may give a run.
fn chosen_id(id: RunId) -> Result<RunId, ApiError> {
    let bad = |why: &str| ApiError::Invalid(format!("the run id {id} {why}"));
    let made = id.0.get_timestamp().filter(|_| id.0.get_version_num() == 7);
    let made = made.ok_or_else(|| bad("must be a UUID of version 7"))?;
    let (seconds, nanos) = made.to_unix();
    let made = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
    let now = SystemTime::now();
    let off = match now.duration_since(made) {
        Ok(past) => past,
        Err(future) => future.duration(),
    };
    if off > CLOCK_MAY_DIFFER {
        return Err(bad(
            "was not made today; make a new one, and look at this machine's clock",
        ));
    }
    Ok(id)
}

fn key(id: &str, direction: Direction, name: String) -> Result<ArchiveKey, ApiError> {
    let run_id = id
        .parse()
        .map_err(|_| ApiError::Invalid(format!("{id:?} is no id of a run")))?;
    if let Some(fault) = name_fault(&name) {
        return Err(ApiError::Invalid(fault));
    }
    Ok(ArchiveKey {
        run_id,
        direction,
        name,
    })
}

impl From<ArchiveError> for ApiError {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Store(error) => error.into(),
            ArchiveError::TooLarge => Self::BodyTooLarge {
                limit: usize::try_from(MAX_ARCHIVE_BYTES).unwrap_or(usize::MAX),
            },
            ArchiveError::Full => Self::StorageFull(error.to_string()),
            ArchiveError::TooMany => Self::Invalid(error.to_string()),
            ArchiveError::Begun | ArchiveError::NotHeld | ArchiveError::Replaced => {
                Self::Conflict(error.to_string())
            }
        }
    }
}

#[utoipa::path(put, path = "/api/runs/{id}/inputs/{name}", tag = "runs", params(("id" = String, Path, description = "the run to be: a new UUID of version 7"), ("name" = String, Path, description = "the task's name of the input")), request_body(content = Vec<u8>, content_type = "application/x-tar", description = "a tar, of at most 1 GiB"), responses((status = 204, description = "stored; the same again takes its place"), (status = 409, description = "the run exists"), (status = 413)))]
pub(super) async fn put_input(
    State(app): State<App>,
    PathNames((id, name)): PathNames<(String, String)>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let key = key(&id, Direction::In, name)?;
    chosen_id(key.run_id)?;
    let (parts, body) = request.into_parts();
    let limit = usize::try_from(MAX_ARCHIVE_BYTES).unwrap_or(usize::MAX);
    let mut body = Pieces::new(body, &parts.headers, limit)?;
    let mut incoming = app.runs.take_archive(key, Writer::User).await?;
    while let Some(piece) = body.next().await? {
        incoming.push(&piece).await?;
    }
    incoming.finish().await?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(post, path = "/api/execute", tag = "runs", request_body = ExecuteRequest, responses((status = 202, body = Triggered, description = "also if it was started before"), (status = 404), (status = 409, description = "an input is missing, or the id is another run's"), (status = 422, description = "the task has faults; all are told, nothing is stored"), (status = 429)))]
pub(super) async fn execute(
    State(app): State<App>,
    ApiJson(body): ApiJson<ExecuteRequest>,
) -> Result<(StatusCode, Json<Triggered>), ApiError> {
    let run_id = chosen_id(body.run_id)?;
    let texts = body.uploads.iter().chain(&body.outputs).chain(&body.tags);
    for text in texts.chain(&body.name) {
        without_nul("a name or tag", text)?;
    }
    let most = usize::try_from(MAX_ARCHIVES).unwrap_or(usize::MAX);
    if body.uploads.len().max(body.outputs.len()) > most {
        return Err(ArchiveError::TooMany.into());
    }
    if body.tags.iter().map(String::len).sum::<usize>() > MAX_TAG_BYTES {
        return Err(ApiError::Invalid(format!(
            "the tags have more than {MAX_TAG_BYTES} bytes"
        )));
    }
    let inputs_from = match (body.pipeline, body.job) {
        (None, None) => None,
        (Some(pipeline), Some(job)) => Some((app.find_pipeline(&pipeline).await?, job)),
        _ => {
            return Err(ApiError::Invalid(
                "pipeline and job belong together: name both or none".into(),
            ));
        }
    };
    let name = body.name.unwrap_or_else(|| DEFAULT_NAME.to_owned());
    let execute = Execute {
        run_id,
        config: body.config.to_string(),
        name: name.clone(),
        uploads: body.uploads,
        outputs: body.outputs,
        privileged: body.privileged,
        tags: body.tags,
        driver: body.driver,
        inputs_from,
        timeout_seconds: body.timeout_seconds,
    };
    match app.runs.execute(execute).await? {
        Executed::Stored => Ok((StatusCode::ACCEPTED, Json(Triggered { run_id }))),
        Executed::Invalid(faults) => Err(ApiError::InvalidTask { name, faults }),
        Executed::Conflict(why) => Err(ApiError::Conflict(why)),
        Executed::Paused(name) => Err(ApiError::Paused { name }),
        Executed::QueueFull => Err(ApiError::QueueFull),
        Executed::Busy => Err(ApiError::Unavailable),
    }
}

#[utoipa::path(get, path = "/api/runs/{id}/outputs/{name}", tag = "runs", params(("id" = String, Path), ("name" = String, Path, description = "an output that /api/execute named")), responses((status = 200, description = "a tar", body = Vec<u8>, content_type = "application/x-tar"), (status = 404, description = "no such output: not asked for, not made, or kept no longer"), (status = 409, description = "the run is not over")))]
pub(super) async fn get_output(
    State(app): State<App>,
    PathNames((id, name)): PathNames<(String, String)>,
) -> Result<Response, ApiError> {
    without_nul("the path", &name)?;
    let run = app.find_run(&id).await?.run;
    let unknown = || ApiError::NotFound {
        what: "output",
        name: name.clone(),
    };
    let one_off = run.trigger.one_off.as_ref().ok_or_else(unknown)?;
    if !one_off.outputs.contains(&name) {
        return Err(unknown());
    }
    if run.state != RunState::Finished {
        return Err(ApiError::Conflict(format!(
            "run {id} is not over; its outputs can be had when it is"
        )));
    }
    let archive = app.runs.archive(run.id, Direction::Out, &name).await?;
    let archive = archive.ok_or_else(unknown)?;
    let mut response = Response::new(Body::from_stream(app.runs.pages(&archive)));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-tar"),
    );
    headers.insert(header::CONTENT_LENGTH, archive.bytes.into());
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_client_may_choose_an_id_of_today_only() {
        assert!(chosen_id(RunId::new()).is_ok());
        assert!(chosen_id(RunId(Uuid::new_v4())).is_err());
        let at = |seconds| uuid::Timestamp::from_unix(uuid::NoContext, seconds, 0);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap().as_secs();
        for (seconds, good) in [
            (now - 3600, true),
            (now + 3600, true),
            (now - 90_000, false),
            (now + 90_000, false),
        ] {
            let id = RunId(Uuid::new_v7(at(seconds)));
            assert_eq!(chosen_id(id).is_ok(), good, "{seconds}");
        }
    }
}
