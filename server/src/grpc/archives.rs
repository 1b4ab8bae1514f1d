//! What a one-off task takes in and gives back, in pages that are stored as they come.

use super::convert::{Ref, attempt_ref, broken};
use super::{Link, PageStream, store_status};
use crate::model::archive::{ArchiveKey, Direction, Writer, name_fault};
use crate::model::{RunId, SessionId};
use crate::runs::ArchiveError;
use futures_util::TryStreamExt;
use pocketci_proto::agent as pb;
use std::time::Duration;
use tokio::time::timeout;
use tonic::{Status, Streaming};

/// How long the next page of an output may take; the agent reads it from a disk of its own.
const PAGE_WITHIN: Duration = Duration::from_secs(60);

fn archive_status(error: ArchiveError) -> Status {
    match error {
        ArchiveError::Store(error) => store_status(&error),
        ArchiveError::TooMany | ArchiveError::Full | ArchiveError::TooLarge => {
            Status::resource_exhausted(error.to_string())
        }
        ArchiveError::Begun | ArchiveError::NotHeld | ArchiveError::Replaced => {
            Status::failed_precondition(error.to_string())
        }
    }
}

/// The run of an attempt, if the session holds it.
async fn held(link: &Link, attempt: Ref, session_id: SessionId) -> Result<RunId, Status> {
    let found = link
        .runs()
        .store()
        .held_run(attempt.job_id, attempt.attempt, session_id)
        .await;
    let held = found.map_err(|error| store_status(&error))?;
    let held = held.filter(|(run_id, _)| *run_id == attempt.run_id);
    held.map(|(run_id, _)| run_id)
        .ok_or_else(|| archive_status(ArchiveError::NotHeld))
}

pub(super) async fn input(
    link: &Link,
    session_id: SessionId,
    request: pb::FetchInputRequest,
) -> Result<PageStream, Status> {
    let run_id = held(link, attempt_ref(request.r#ref)?, session_id).await?;
    let found = link.runs().archive(run_id, Direction::In, &request.name);
    let archive = found
        .await
        .map_err(|error| store_status(&error))?
        .ok_or_else(|| Status::not_found("the server does not have this input (any more)"))?;
    let pages = link.runs().pages(&archive);
    Ok(Box::pin(
        pages
            .map_ok(|data| pb::Page { data })
            .map_err(archive_status),
    ))
}

pub(super) async fn output(
    link: &Link,
    session_id: SessionId,
    mut pages: Streaming<pb::OutputPage>,
) -> Result<pb::OutputAck, Status> {
    let first = pages.message().await?.ok_or_else(|| broken("no page"))?;
    let attempt = attempt_ref(first.r#ref)?;
    let run_id = held(link, attempt, session_id).await?;
    let view = link.runs().store().run(run_id).await;
    let view = view.map_err(|error| store_status(&error))?;
    let one_off = view.and_then(|view| view.run.trigger.one_off);
    let wanted = one_off.is_some_and(|one_off| one_off.outputs.contains(&first.name));
    if !wanted || name_fault(&first.name).is_some() {
        return Err(broken("an output that nobody asked for"));
    }
    let key = ArchiveKey {
        run_id,
        direction: Direction::Out,
        name: first.name,
    };
    let writer = Writer::Attempt {
        job_id: attempt.job_id,
        attempt: attempt.attempt,
        session_id,
    };
    let begun = link.runs().take_archive(key, writer).await;
    let mut incoming = begun.map_err(archive_status)?;
    let mut data = first.data;
    loop {
        incoming.push(&data).await.map_err(archive_status)?;
        let page = timeout(PAGE_WITHIN, pages.message())
            .await
            .map_err(|_| Status::deadline_exceeded("the next page did not come in time"))?;
        match page? {
            Some(page) => data = page.data,
            None => break,
        }
    }
    incoming.finish().await.map_err(archive_status)?;
    Ok(pb::OutputAck {})
}
