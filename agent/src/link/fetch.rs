//! Things larger than a message: programs and bodies down, large replies up.

use super::Agent;
use super::archives;
use super::calls::ANSWER_WITHIN;
use super::connection::Connection;
use super::wire::{MAX_TRIES, Wire};
use crate::attempt::{ReplyUpload, Work};
use crate::js::{Module, Program};
use crate::webhook_body::{MAX_HELD_BYTES, Pieces, Source, WebhookBody};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use pocketci_proto::PAGE_BYTES;
use pocketci_proto::agent as pb;
use prost::Message;
use std::sync::Arc;
use tonic::{Status, Streaming};

/// Largest thing joined from pages; held bodies and programs are far smaller.
const MAX_BYTES: usize = 64 * 1024 * 1024;

async fn join(mut pages: Streaming<pb::Page>) -> Result<Bytes, Status> {
    let mut whole = BytesMut::new();
    while let Some(page) = pages.message().await? {
        if whole.len() + page.data.len() > MAX_BYTES {
            return Err(Status::resource_exhausted("the server sends too much"));
        }
        whole.extend_from_slice(&page.data);
    }
    Ok(whole.freeze())
}

/// Fetches over as many connections as it takes: the job goes on, so its program is still wanted. Dropped with the
/// attempt.
async fn patiently<T, Fut: Future<Output = Result<T, Status>>>(
    wire: &Wire,
    once: impl Fn(Connection) -> Fut,
) -> Result<T, Status> {
    let in_time = |connection| {
        let fetching = once(connection);
        async {
            tokio::time::timeout(ANSWER_WITHIN, fetching)
                .await
                .unwrap_or_else(|_| Err(Status::unavailable("no answer in time")))
        }
    };
    wire.patiently(MAX_TRIES, in_time).await
}

/// Program and body of an assigned job.
pub(super) async fn work(agent: Arc<Agent>, mut assign: pb::Assign) -> Result<Work, String> {
    let cell = agent.program(&assign.revision_id);
    let program = cell
        .get_or_try_init(|| {
            patiently(&agent.wire, |connection| {
                fetch_program(connection, assign.revision_id.clone())
            })
        })
        .await
        .map_err(|status| format!("cannot fetch the pipeline's program: {}", status.message()))?
        .clone();
    let webhook = assign
        .trigger
        .as_mut()
        .and_then(|trigger| trigger.webhook.as_mut());
    let body = match webhook {
        None => WebhookBody::default(),
        Some(webhook) if !webhook.body_follows => std::mem::take(&mut webhook.body).into(),
        Some(webhook) if webhook.body_bytes > MAX_HELD_BYTES => {
            let source = ServerBody {
                wire: agent.wire.clone(),
                attempt: assign.r#ref.clone().unwrap_or_default(),
            };
            WebhookBody::there(webhook.body_bytes, Arc::new(source))
        }
        Some(_) => {
            let reference = assign.r#ref.clone();
            let fetched = patiently(&agent.wire, |connection| {
                fetch_body(connection, reference.clone())
            });
            let fetched = fetched.await.map_err(|status| {
                format!("cannot fetch the webhook's body: {}", status.message())
            })?;
            fetched.into()
        }
    };
    Ok(Work {
        assign,
        program,
        body,
    })
}

/// A body that stays at the server until somebody wants it.
struct ServerBody {
    wire: Arc<Wire>,
    attempt: pb::AttemptRef,
}

#[async_trait]
impl Source for ServerBody {
    async fn pieces(&self) -> Result<Pieces, String> {
        let pieces = archives::body(&self.wire, &self.attempt).await;
        pieces.map_err(|status| format!("cannot fetch the webhook's body: {}", status.message()))
    }
}

async fn fetch_program(
    mut connection: Connection,
    revision_id: Bytes,
) -> Result<Arc<Program>, Status> {
    let request = connection.request(pb::FetchRevisionRequest { revision_id });
    let pages = connection
        .client
        .fetch_revision(request)
        .await?
        .into_inner();
    let revision = pb::Revision::decode(join(pages).await?)
        .map_err(|_| Status::internal("the server sent a program that cannot be read"))?;
    let map = |map: String| Some(map).filter(|map| !map.is_empty());
    Ok(Arc::new(Program {
        file_name: revision.file_name,
        javascript: revision.javascript,
        source_map: map(revision.source_map),
        source: revision.source,
        modules: revision
            .modules
            .into_iter()
            .map(|module| Module {
                name: module.name,
                javascript: module.javascript,
                source_map: map(module.source_map),
                source: module.source,
            })
            .collect(),
    }))
}

async fn fetch_body(
    mut connection: Connection,
    reference: Option<pb::AttemptRef>,
) -> Result<Bytes, Status> {
    let request = connection.request(pb::FetchBodyRequest { r#ref: reference });
    let pages = connection.client.fetch_body(request).await?.into_inner();
    join(pages).await
}

/// Uploads a reply; returns when it is stored.
pub(super) async fn upload(
    mut connection: Connection,
    upload: ReplyUpload,
) -> Result<(pb::AttemptRef, u32), Status> {
    let ReplyUpload {
        attempt,
        seq,
        mut respond,
    } = upload;
    let mut body = std::mem::take(&mut respond.body);
    let mut pages = vec![pb::ReplyPage {
        r#ref: Some(attempt.clone()),
        seq,
        status: respond.status,
        headers: respond.headers,
        data: Bytes::new(),
    }];
    while !body.is_empty() {
        pages.push(pb::ReplyPage {
            data: body.split_to(body.len().min(PAGE_BYTES)),
            ..pb::ReplyPage::default()
        });
    }
    let request = connection.request(tokio_stream::iter(pages));
    connection.client.upload_reply(request).await?;
    Ok((attempt, seq))
}
