//! Forgejo, Gitea and Gogs: `X-<Name>-Signature: <hex>` over the JSON payload, which in a form or a query is the
//! decoded field `payload`, not the bytes sent.
//!
//! Source: Gitea's services/webhook/deliver.go (as reference A.1 tells it).

use super::message::{self, is_form, pair};
use super::signature::{Part, check_sha256, digest_from_hex, raw_keys};
use super::{Facts, IncomingRequest, ProviderKind, Rejected, github};
use crate::model::pipeline::WebhookSecret;
use http::Method;

/// Each sends its forerunners' headers too; the first that is there is looked at.
const SIGNATURES: [&str; 3] = [
    "x-forgejo-signature",
    "x-gitea-signature",
    "x-gogs-signature",
];

/// Where a sender's own headers begin in lists that are ordered from the youngest.
fn place(kind: ProviderKind) -> usize {
    match kind {
        ProviderKind::Gogs => 2,
        ProviderKind::Gitea => 1,
        _ => 0,
    }
}

pub(super) fn verify(
    kind: ProviderKind,
    request: &IncomingRequest,
    secrets: &[WebhookSecret],
) -> Result<usize, Rejected> {
    let digest = [signature(kind, request)?];
    let keys = raw_keys(secrets);
    if request.method == Method::GET {
        // Only the query is signed.
        if !request.body.is_empty() {
            return Err(Rejected("the GET has a body, which is not signed"));
        }
        let payload = pair(request.query().as_bytes(), "payload")?
            .ok_or(Rejected("the query has no payload"))?;
        return check_sha256(&keys, request, &[Part::Text(payload.as_bytes())], &digest);
    }
    if is_form(request) {
        let payload = payload_of_form(&request.whole_body()?)?;
        return check_sha256(&keys, request, &[Part::Text(payload.as_bytes())], &digest);
    }
    check_sha256(&keys, request, &[Part::Body], &digest)
}

fn signature(kind: ProviderKind, request: &IncomingRequest) -> Result<Vec<u8>, Rejected> {
    for name in &SIGNATURES[place(kind)..] {
        if let Some(header) = request.single(name)? {
            return parse(header);
        }
    }
    let header = request.single("x-hub-signature-256")?;
    github::parse(header.ok_or(Rejected("the sender's signature header is missing"))?)
}

/// The digest in the header.
pub fn parse(header: &[u8]) -> Result<Vec<u8>, Rejected> {
    digest_from_hex(header)
}

/// The field `payload` of a form that has nothing else: what else it had would not be signed.
pub fn payload_of_form(body: &[u8]) -> Result<String, Rejected> {
    let mut fields = url::form_urlencoded::parse(body);
    match (fields.next(), fields.next()) {
        (Some((name, payload)), None) if name == "payload" => Ok(payload.into_owned()),
        _ => Err(Rejected("the form is not one field payload")),
    }
}

pub(super) fn facts(kind: ProviderKind, request: &IncomingRequest) -> Facts {
    let own = |list: [&'static str; 3]| list.into_iter().skip(place(kind));
    let events = ["x-forgejo-event", "x-gitea-event", "x-gogs-event"];
    let ids = ["x-forgejo-delivery", "x-gitea-delivery", "x-gogs-delivery"];
    Facts {
        event_type: own(events)
            .find_map(|name| message::header(request, name))
            .unwrap_or_default(),
        delivery_id: own(ids).find_map(|name| message::id_header(request, name)),
        attempt: None,
    }
}
