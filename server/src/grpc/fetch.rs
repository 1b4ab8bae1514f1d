//! Things larger than a message, in pages: programs and webhook bodies down, large replies up.

use super::convert::{Ref, attempt_ref, broken, reply};
use super::{Link, PageStream, store_status};
use crate::model::transition::{Applied, Change, Report};
use crate::model::{AgentId, RevisionId, SessionId};
use crate::runs::BodyError;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use pocketci_proto::PAGE_BYTES;
use pocketci_proto::agent as pb;
use prost::Message;
use tonic::{Status, Streaming};

/// Largest body of `http.respond`, in bytes; the agent refuses larger ones with a message in the run's log.
const MAX_REPLY_BYTES: usize = 10 * 1024 * 1024;

fn pages(mut data: Bytes) -> PageStream {
    let mut all = Vec::with_capacity(data.len() / PAGE_BYTES + 1);
    while !data.is_empty() {
        let page = data.split_to(data.len().min(PAGE_BYTES));
        all.push(Ok(pb::Page { data: page }));
    }
    Box::pin(stream::iter(all))
}

pub(super) async fn revision(
    link: &Link,
    request: &pb::FetchRevisionRequest,
) -> Result<PageStream, Status> {
    let id = RevisionId::from_wire(&request.revision_id).map_err(|_| broken("revision id"))?;
    let found = link.runs().revision(id).await;
    let revision = found
        .map_err(|error| store_status(&error))?
        .ok_or_else(|| Status::not_found("no such revision; its pipeline was deleted"))?;
    let encoded = pb::Revision {
        content_type: revision.content_type.as_str().to_owned(),
        file_name: revision.file_name.clone(),
        source: revision.source.clone(),
        javascript: revision.javascript.clone(),
        source_map: revision.source_map.clone(),
        modules: revision
            .modules
            .iter()
            .map(|module| pb::Module {
                name: module.name.clone(),
                source: module.source.clone(),
                javascript: module.javascript.clone(),
                source_map: module.source_map.clone(),
            })
            .collect(),
    }
    .encode_to_vec();
    Ok(pages(encoded.into()))
}

pub(super) async fn body(
    link: &Link,
    agent_id: AgentId,
    request: &pb::FetchBodyRequest,
) -> Result<PageStream, Status> {
    let Ref {
        job_id, attempt, ..
    } = attempt_ref(request.r#ref.clone())?;
    let found = link
        .runs()
        .store()
        .held_receipt(job_id, attempt, agent_id)
        .await;
    let receipt = found
        .map_err(|error| store_status(&error))?
        .ok_or_else(|| Status::failed_precondition("this attempt is not (or no longer) yours"))?;
    let pages = link.runs().body(&receipt).map(|page| match page {
        Ok(data) => Ok(pb::Page { data }),
        Err(BodyError::Store(error)) => Err(store_status(&error)),
        Err(error @ BodyError::Gone) => Err(Status::not_found(error.to_string())),
    });
    Ok(Box::pin(pages))
}

pub(super) async fn upload_reply(
    link: &Link,
    session_id: SessionId,
    mut pages: Streaming<pb::ReplyPage>,
) -> Result<pb::ReportAck, Status> {
    let first = pages.message().await?.ok_or_else(|| broken("no page"))?;
    let attempt = attempt_ref(first.r#ref)?;
    let seq = i32::try_from(first.seq).map_err(|_| broken("sequence"))?;
    let mut body = BytesMut::from(first.data.as_ref());
    while let Some(page) = pages.message().await? {
        if body.len() + page.data.len() > MAX_REPLY_BYTES {
            return Err(broken("reply larger than 10 MiB"));
        }
        body.extend_from_slice(&page.data);
    }
    let report = Report::Respond(reply(first.status, first.headers, body.freeze())?);
    let change = Change::Report {
        job_id: attempt.job_id,
        holder: attempt.holder(session_id),
        seq,
        report,
    };
    let applied = link.runs().store().submit(attempt.run_id, change).await;
    match applied.map_err(|error| store_status(&error))? {
        Applied::Done | Applied::Duplicate => Ok(pb::ReportAck {
            r#ref: Some(attempt.to_wire()),
            seq: first.seq,
        }),
        Applied::Gap => Err(Status::aborted("reports before this one are missing")),
        Applied::Stale | Applied::Adopted { .. } => Err(Status::failed_precondition(
            "this attempt is not (or no longer) yours",
        )),
    }
}
