//! Bodies of stored requests: page by page, or whole where an expression looks into them.

use super::Runs;
use crate::model::receipt::{BodyPlace, Receipt};
use crate::store::StoreError;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use pocketci_proto::PAGE_BYTES;

/// Largest body that expressions look into, in bytes; of a larger one they see none. Files are not looked into at all.
const MAX_LOOKED_INTO_BYTES: i64 = 32 << 20;

/// Why a body cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was never kept, or is not any more.
    #[error("the server does not have the body of this request (any more)")]
    Gone,
}

impl Runs {
    /// The bytes of a request's body, at most [`PAGE_BYTES`] at a time; it ends with an error if it is not all there.
    pub fn body(&self, receipt: &Receipt) -> BoxStream<'static, Result<Bytes, BodyError>> {
        let body = match receipt.body_place {
            BodyPlace::Inline => {
                let mut body = receipt.body.clone();
                let pages = std::iter::from_fn(move || {
                    let page = body.split_to(body.len().min(PAGE_BYTES));
                    (!page.is_empty()).then_some(Ok(page))
                });
                return stream::iter(pages).boxed();
            }
            BodyPlace::None if receipt.body_bytes == 0 => return stream::empty().boxed(),
            BodyPlace::None => return stream::iter([Err(BodyError::Gone)]).boxed(),
            BodyPlace::Pages(body) => body,
        };
        let (store, left) = (self.store().clone(), receipt.body_bytes);
        let begin = (store, 1, left);
        stream::try_unfold(begin, move |(store, seq, left)| async move {
            if left <= 0 {
                return Ok(None);
            }
            let page = store.body_page(body, seq).await?.ok_or(BodyError::Gone)?;
            let left = left - page.len() as i64;
            Ok(Some((page, (store, seq + 1, left))))
        })
        .boxed()
    }

    /// What expressions see of the body: nothing of uploads, of what is very large, and of what is gone.
    pub(super) async fn body_for_expressions(
        &self,
        receipt: &Receipt,
    ) -> Result<Bytes, StoreError> {
        if receipt.body_place == BodyPlace::Inline {
            return Ok(receipt.body.clone());
        }
        let is_upload = !receipt.files.is_empty() || !receipt.form.is_empty();
        if is_upload || receipt.body_bytes > MAX_LOOKED_INTO_BYTES {
            return Ok(Bytes::new());
        }
        let whole = self
            .body(receipt)
            .try_fold(BytesMut::new(), |mut whole, page| async move {
                whole.extend_from_slice(&page);
                Ok(whole)
            });
        match whole.await {
            Ok(whole) => Ok(whole.freeze()),
            Err(BodyError::Gone) => Ok(Bytes::new()),
            Err(BodyError::Store(error)) => Err(error),
        }
    }
}
