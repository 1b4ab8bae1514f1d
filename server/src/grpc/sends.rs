//! What an agent tells of a try of `webhook.send`, checked.

use super::convert::{Ref, broken};
use crate::model::PipelineId;
use crate::model::delivery::{MAX_KEPT_RESPONSE_BYTES, TryEnd, TryRequest, TryState};
use crate::runs::dispatch::SessionEntry;
use crate::store::SendTry;
use pocketci_proto::agent as pb;
use std::time::Duration;
use time::OffsetDateTime;
use tonic::Status;

/// Longest text of a try, in bytes.
const MAX_TEXT_BYTES: usize = 16 * 1024;
/// Most header lines, of request and of response.
const MAX_FIELDS: usize = 256;
/// Highest number of a try.
const MAX_NUMBER: u32 = 10_000;

/// As the store takes it.
pub(super) fn noted(
    ask: pb::NoteSend,
    entry: &SessionEntry,
    attempt: &Ref,
    pipeline_id: PipelineId,
) -> Result<SendTry, Status> {
    let fits = (1..=MAX_NUMBER).contains(&ask.number)
        && !ask.webhook_id.is_empty()
        && ask.response_body.len() <= MAX_KEPT_RESPONSE_BYTES
        && ask.body_sha256.len() == 32;
    if !fits {
        return Err(broken("a try of webhook.send"));
    }
    let status = match ask.status {
        0 => None,
        status => Some(u16::try_from(status).map_err(|_| broken("status"))?),
    };
    let began_at = i64::try_from(ask.began_at_unix_ms / 1_000)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let began_at = began_at.ok_or_else(|| broken("time"))?
        + Duration::from_millis(ask.began_at_unix_ms % 1_000);
    let request = TryRequest {
        url: text(ask.url)?,
        method: text(ask.method)?,
        headers: fields(ask.headers)?,
        body_bytes: i64::try_from(ask.body_bytes).map_err(|_| broken("size"))?,
        body_sha256: hex::encode(&ask.body_sha256),
    };
    let peer = text(ask.peer)?;
    let end = TryEnd {
        state: match ask.delivered {
            true => TryState::Delivered,
            false => TryState::Failed,
        },
        status,
        headers: fields(ask.response_headers)?,
        body: ask.response_body,
        error: text(ask.error)?,
        duration: micros(ask.duration_us),
        first_byte: ask.first_byte_us.map(micros),
        peer: (!peer.is_empty()).then_some(peer),
    };
    Ok(SendTry {
        webhook_id: text(ask.webhook_id)?,
        run_id: attempt.run_id,
        pipeline_id,
        job_id: attempt.job_id,
        number: i32::try_from(ask.number).map_err(|_| broken("number"))?,
        sender: format!("agent {}", entry.agent_name),
        began_at,
        request,
        end,
        last: ask.last,
    })
}

/// No longer than columns can be indexed and read with ease; what cannot be measured is far below this.
fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros.min(u64::from(u32::MAX) * 1_000))
}

/// One that both stores can hold.
fn text(text: String) -> Result<String, Status> {
    match text.len() <= MAX_TEXT_BYTES && !text.contains('\0') {
        true => Ok(text),
        false => Err(broken("a text of a try of webhook.send")),
    }
}

fn fields(fields: Vec<pb::Field>) -> Result<Vec<(String, String)>, Status> {
    if fields.len() > MAX_FIELDS {
        return Err(broken("headers of a try of webhook.send"));
    }
    let line = |field: pb::Field| Ok((text(field.name)?, text(field.value)?));
    fields.into_iter().map(line).collect()
}
