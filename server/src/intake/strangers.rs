//! What is kept of requests that nobody has signed: little of each, and not many of them.

use crate::model::receipt::Receipt;
use crate::store::Store;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinSet;

/// Most receipts of refused strangers that a receiving point writes in a minute; of what is more only metrics tell.
pub(super) const RECEIPTS_PER_MINUTE: u32 = 60;
/// Most bytes of a refused stranger's address that are kept.
const MAX_URL_BYTES: usize = 1024;
/// Most bytes of a refused stranger's headers that are kept, names and values together: whole lines, from the first.
const MAX_HEADERS_BYTES: usize = 4 * 1024;
/// Most receipts that are being written while nobody waits for them.
const MAX_WRITES: usize = 64;

/// Cuts the head of a refused stranger's request to what an operator needs.
pub(super) fn shorten(receipt: &mut Receipt) {
    if receipt.url.len() > MAX_URL_BYTES {
        let cut = receipt.url.floor_char_boundary(MAX_URL_BYTES);
        receipt.url.truncate(cut);
    }
    let mut left = MAX_HEADERS_BYTES;
    receipt.headers.retain(|(name, value)| {
        let bytes = name.len() + value.len();
        let fits = bytes <= left;
        left = left.saturating_sub(bytes);
        fits
    });
}

/// Receipts that are written while their request is answered: how long that takes shall tell nobody that there is
/// something.
#[derive(Default)]
pub(super) struct Later(Mutex<JoinSet<()>>);

impl Later {
    /// Begins to write; nothing is done if too many are being written.
    pub(super) fn record(&self, store: Arc<dyn Store>, receipt: Receipt) {
        let mut writes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(ended) = writes.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "writing a refused webhook's receipt ended early");
            }
        }
        if writes.len() >= MAX_WRITES {
            tracing::warn!("a refused webhook leaves no receipt: too many are being written");
            return;
        }
        writes.spawn(async move {
            if let Err(error) = store.record_refusal(receipt).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "a refused webhook's receipt was not written");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::IncomingRequest;
    use crate::intake::providers::{Facts, ProviderKind};
    use http::{HeaderMap, HeaderName, HeaderValue, Method};

    #[test]
    fn a_strangers_head_is_kept_short() {
        let mut headers = HeaderMap::new();
        for at in 0..100 {
            let name = HeaderName::try_from(format!("x-{at}")).unwrap();
            headers.append(name, HeaderValue::try_from("v".repeat(300)).unwrap());
        }
        let request = IncomingRequest {
            method: Method::POST,
            url: format!("/api/webhooks/x?{}", "\u{e9}".repeat(10_000)),
            headers,
            body: bytes::Bytes::new().into(),
            remote_addr: String::new(),
        };
        let mut receipt = request.receipt(ProviderKind::Generic, Facts::default());
        shorten(&mut receipt);
        assert!(receipt.url.len() <= MAX_URL_BYTES && receipt.url.len() > MAX_URL_BYTES - 2);
        let lines = receipt.headers.iter();
        let kept: usize = lines.map(|(name, value)| name.len() + value.len()).sum();
        assert!(kept <= MAX_HEADERS_BYTES && kept > MAX_HEADERS_BYTES / 2);
        assert_eq!(receipt.headers[0].0, "x-0");
    }
}
