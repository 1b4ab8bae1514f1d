//! A receipt as operators look at it: what came, what was decided and why, what was answered.

use super::view;
use crate::model::fanout::{MessageTarget, TargetState};
use crate::model::receipt::{BodyPlace, Receipt, Verdict};
use crate::model::run::{Reply, ReplyBy};
use crate::model::{PipelineId, ReceiptId};
use crate::store::RunView;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pocketci_proto::api;
use std::collections::BTreeMap;

/// Most bytes of an answer's body that are shown.
const MAX_SHOWN_BYTES: usize = 64 * 1024;
/// Headers whose values are credentials.
const MASKED: [&str; 6] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "x-gitlab-token",
    "x-buildkite-token",
    "honeybadger-token",
];

/// Names of pipelines.
pub(super) type Names = BTreeMap<PipelineId, String>;

/// As it is listed.
pub(super) fn receipt(receipt: &Receipt, names: &Names) -> api::Receipt {
    let answer = receipt.answer.as_ref();
    api::Receipt {
        id: receipt.id,
        received_at: receipt.received_at,
        pipeline_id: receipt.pipeline_id,
        pipeline: receipt.pipeline_id.and_then(|id| names.get(&id).cloned()),
        endpoint_id: receipt.endpoint_id,
        event: receipt.event_key.clone(),
        method: receipt.method.clone(),
        url: receipt.url.clone(),
        provider: receipt.provider.clone(),
        event_type: receipt.event_type.clone(),
        delivery_id: receipt.delivery_id.clone(),
        attempt: receipt.attempt,
        verified: receipt.verified,
        secret_id: receipt.secret_id.clone(),
        verdict: receipt.verdict.as_str().to_owned(),
        reason: receipt.reason.clone(),
        remote_addr: receipt.remote_addr.clone(),
        body_bytes: receipt.body_bytes,
        body_sha256: hex::encode(receipt.body_sha256),
        body_kept: receipt.body_place != BodyPlace::None || receipt.body_bytes == 0,
        files: receipt
            .files
            .iter()
            .map(|file| api::ReceiptFile {
                index: file.index,
                name: file.name.clone(),
                filename: file.filename.clone(),
                content_type: file.content_type.clone(),
                size: file.size,
                sha256: file.sha256.clone(),
            })
            .collect(),
        run_id: receipt.run_id,
        redelivery_of: receipt.redelivery_of,
        replay_of: receipt.replay_of,
        status: answer.map(|answer| answer.status),
        answered_after_ms: answer.map(|answer| answer.duration.as_secs_f64() * 1000.0),
    }
}

/// A receipt with everything that belongs to it.
pub(super) struct Looked<'a> {
    pub receipt: &'a Receipt,
    pub targets: &'a [MessageTarget],
    pub runs: &'a [RunView],
    pub names: &'a Names,
    pub replays: Vec<ReceiptId>,
}

impl Looked<'_> {
    pub(super) fn details(self) -> api::ReceiptDetails {
        api::ReceiptDetails {
            headers: headers(&self.receipt.headers),
            form: self.receipt.form.clone(),
            runs: self.runs(),
            reply: self.reply(),
            explain: self.explain(),
            receipt: receipt(self.receipt, self.names),
            replays: self.replays,
        }
    }

    fn runs(&self) -> Vec<api::ReceiptRun> {
        let mut shown = Vec::new();
        for run in self.runs {
            shown.push(api::ReceiptRun {
                pipeline_id: run.run.pipeline_id,
                pipeline: Some(run.pipeline_name.clone()),
                run_id: Some(run.run.id),
                status: view::run(run, vec![]).status.as_str().to_owned(),
                reason: String::new(),
            });
        }
        let is_shown = |target: &MessageTarget| {
            let mut runs = self.runs.iter();
            runs.any(|run| run.run.id == target.run_id)
        };
        for target in self.targets.iter().filter(|target| !is_shown(target)) {
            shown.push(api::ReceiptRun {
                pipeline_id: target.pipeline_id,
                pipeline: self.names.get(&target.pipeline_id).cloned(),
                run_id: None,
                status: target.state.as_str().to_owned(),
                reason: target.reason.clone(),
            });
        }
        shown
    }

    /// The pipeline's whole answer if there is one, else what was kept of the server's own.
    fn reply(&self) -> Option<api::ReceiptReply> {
        let replied = self.runs.iter().filter_map(|run| run.reply.as_ref());
        let pipelines = replied.filter(|reply| reply.by == ReplyBy::Pipeline);
        let answer = self.receipt.answer.as_ref();
        let sent = |reply: &&Reply| answer.is_none_or(|answer| answer.status == reply.status);
        if let Some(reply) = pipelines.clone().find(sent) {
            let shown = &reply.body[..reply.body.len().min(MAX_SHOWN_BYTES)];
            let (body, body_base64) = match std::str::from_utf8(shown) {
                Ok(text) => (Some(text.to_owned()), None),
                // Cut within a character, or no text at all.
                Err(error) if error.error_len().is_none() => {
                    let text = String::from_utf8_lossy(&shown[..error.valid_up_to()]);
                    (Some(text.into_owned()), None)
                }
                Err(_) => (None, Some(STANDARD.encode(shown))),
            };
            return Some(api::ReceiptReply {
                status: reply.status,
                by_pipeline: true,
                headers: reply.headers.clone(),
                body,
                body_base64,
                body_bytes: Some(reply.body.len() as u64),
            });
        }
        let answer = answer?;
        Some(api::ReceiptReply {
            status: answer.status,
            by_pipeline: false,
            headers: Vec::new(),
            body: Some(answer.summary.clone()),
            body_base64: None,
            body_bytes: None,
        })
    }

    /// What was decided, in order.
    fn explain(&self) -> Vec<String> {
        let receipt = self.receipt;
        let mut said = vec![match receipt.event_type.as_str() {
            "" => format!("it is taken for a request of {}", receipt.provider),
            event => format!("it is taken for {event:?} of {}", receipt.provider),
        }];
        if let Some(earlier) = receipt.replay_of {
            said.push(format!(
                "it is receipt {earlier} done again: not verified again, and known keys do not count"
            ));
        }
        said.push(match (receipt.verified, &receipt.secret_id) {
            (true, Some(id)) => format!("the secret with the fingerprint {id} verified it"),
            (true, None) => "a secret verified it".to_owned(),
            (false, _) if receipt.verdict == Verdict::Unauthorized => {
                format!("it was refused: {}", receipt.reason)
            }
            (false, _) => "no secret verified it: its runs have no secrets unless the pipeline says run_as: pipeline".to_owned(),
        });
        if let Some(sentence) = decided(receipt) {
            said.push(sentence);
        }
        for target in self.targets {
            let name = self.names.get(&target.pipeline_id);
            let name = name.map_or_else(|| target.pipeline_id.to_string(), String::clone);
            let state = match target.state {
                TargetState::Pending => "its run is to be started",
                TargetState::Started => "its run was started",
                TargetState::Filtered => "it was let out",
                TargetState::Dropped => "it cannot be started",
            };
            said.push(match target.reason.as_str() {
                "" => format!("listener {name}: {state}"),
                reason => format!("listener {name}: {state}: {reason}"),
            });
        }
        said
    }
}

/// The verdict as a sentence, where there is more to say than that it was verified or not.
fn decided(receipt: &Receipt) -> Option<String> {
    let what = match receipt.verdict {
        Verdict::Unauthorized => return None,
        Verdict::Accepted => "it was accepted",
        Verdict::Duplicate => "the same delivery came before, and what it started stands",
        Verdict::Filtered => "a filter let nothing of it through",
        Verdict::Unrouted => "nobody listens to its event",
        Verdict::Handshake => "it was a question of the provider's, which the server answered",
        Verdict::Paused => "it was not taken",
        Verdict::QueueFull => "it was not taken: too many jobs were queued",
        Verdict::Conflict => "its delivery id came before with another body",
        Verdict::Method => "its method starts nothing",
        Verdict::TooLarge => "its body is larger than allowed",
        Verdict::Malformed => "its body is not what its Content-Type says",
        Verdict::Disabled => "its endpoint is switched off",
        Verdict::RateLimited => "more came than its hook allows in a minute",
    };
    Some(match receipt.reason.as_str() {
        "" => what.to_owned(),
        reason => format!("{what}: {reason}"),
    })
}

fn headers(lines: &[(String, Vec<u8>)]) -> Vec<(String, String)> {
    let shown = |name: &str, value: &[u8]| {
        if MASKED.contains(&name) {
            return "***".to_owned();
        }
        match std::str::from_utf8(value) {
            Ok(text) => text.to_owned(),
            Err(_) => value.iter().copied().map(char::from).collect(),
        }
    };
    let lines = lines.iter();
    lines
        .map(|(name, value)| (name.clone(), shown(name, value)))
        .collect()
}
