//! One header that holds a time and digests of `<time>.<body>`, as Stripe and Buildkite send it.

use super::entries::{decoded, one, with_prefix};
use super::signature::{Part, check_sha256, digest_from_hex, raw_keys};
use super::timestamp::{TOLERANCE_SECONDS, fresh, seconds};
use super::{IncomingRequest, Rejected};
use crate::model::pipeline::WebhookSecret;

/// What the header says.
#[derive(Debug, PartialEq, Eq)]
pub struct Dated<'a> {
    /// The time as it stands, which is what is signed.
    pub timestamp: &'a [u8],
    /// The same as a number, in seconds since 1970.
    pub sent: i64,
    /// Digests of the expected version.
    pub digests: Vec<Vec<u8>>,
}

impl<'a> Dated<'a> {
    /// Reads entries separated by commas: one that begins with `time`, and those that begin with `digest`, in hex.
    pub(super) fn parse(header: &'a [u8], time: &[u8], digest: &[u8]) -> Result<Self, Rejected> {
        let timestamp = one(header, b',', time)?;
        Ok(Self {
            timestamp,
            sent: seconds(timestamp)?,
            digests: decoded(&with_prefix(header, b',', digest)?, digest_from_hex)?,
        })
    }

    /// Which of the secrets, each the key as it stands, signed the request lately; `now` is in seconds since 1970.
    pub(super) fn verify(
        &self,
        request: &IncomingRequest,
        secrets: &[WebhookSecret],
        now: i64,
    ) -> Result<usize, Rejected> {
        fresh(self.sent, now, TOLERANCE_SECONDS)?;
        let parts = [Part::Text(self.timestamp), Part::Text(b"."), Part::Body];
        check_sha256(&raw_keys(secrets), request, &parts, &self.digests)
    }
}
