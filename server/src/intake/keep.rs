//! What is kept of a request that will be done: its bytes where a store takes them, and what a form has in it.

use super::{Body, IncomingRequest};
use crate::model::body::BodyId;
use crate::model::receipt::{BodyPlace, Receipt, ReceivedFile};
use crate::store::{Store, StoreError};
use bytes::Bytes;
use pocketci_pipeline::multipart::{self, Fault, FilePart, Parts};

/// Why a request cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// Its multipart body is not one.
    #[error(transparent)]
    Multipart(#[from] Fault),
    /// The storage failed, or the temporary file cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// See the module. Kept once, however often it is decided about the request.
#[derive(Clone, Default)]
pub struct Kept {
    place: Option<BodyId>,
    form: Vec<(String, String)>,
    files: Vec<ReceivedFile>,
}

impl Kept {
    /// Looks into the form of a verified request, and stores the pages of a body that a receipt cannot hold; they are
    /// durable when this returns. Those of a request that is not done after all are [`Self::discard`]ed; if the server dies
    /// before that, they go by their age.
    ///
    /// # Errors
    /// See [`KeepError`].
    pub async fn of(store: &dyn Store, request: &IncomingRequest) -> Result<Self, KeepError> {
        let (form, files) = looked_into(request).await?;
        let place = match request.body.in_memory() {
            Some(_) => None,
            None => Some(store_pages(store, &request.body).await?),
        };
        Ok(Self { place, form, files })
    }

    /// Forgets the pages, unless a receipt names them: nobody comes for them.
    pub async fn discard(&self, store: &dyn Store) {
        let Some(id) = self.place else { return };
        if let Err(error) = store.drop_body(id).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot forget the body of a request that was refused; it goes by its age"
            );
        }
    }

    /// Says it in the receipt of the same request.
    pub fn tell(&self, receipt: &mut Receipt) {
        if let Some(id) = self.place {
            receipt.body = Bytes::new();
            receipt.body_place = BodyPlace::Pages(id);
        }
        receipt.form = self.form.clone();
        receipt.files = self.files.clone();
    }
}

async fn store_pages(store: &dyn Store, body: &Body) -> Result<BodyId, StoreError> {
    let id = BodyId::new();
    for (seq, page) in (1..).zip(body.chunks()) {
        store
            .add_body_page(id, seq, page.map_err(unreadable)?)
            .await?;
    }
    Ok(id)
}

fn unreadable(error: std::io::Error) -> StoreError {
    StoreError::Unavailable(error.into())
}

type Form = (Vec<(String, String)>, Vec<ReceivedFile>);

async fn looked_into(request: &IncomingRequest) -> Result<Form, KeepError> {
    let Some(boundary) = multipart::boundary(request.content_type())? else {
        return Ok(Form::default());
    };
    let body = request.body.clone();
    request.body.look(move || parts(&boundary, &body)).await?
}

fn parts(boundary: &str, body: &Body) -> Result<Form, KeepError> {
    let mut parts = Parts::new(boundary);
    for page in body.chunks() {
        parts.push(&page.map_err(unreadable)?)?;
    }
    let (fields, files) = parts.finish()?;
    // PostgreSQL's text cannot hold NUL.
    let storable = |text: String| match text.contains('\0') {
        true => text.replace('\0', "\u{fffd}"),
        false => text,
    };
    let fields = fields.into_iter();
    let file = |part: FilePart| ReceivedFile {
        index: part.index,
        name: storable(part.name),
        filename: storable(part.filename.unwrap_or_default()),
        content_type: storable(part.content_type),
        size: part.size,
        sha256: hex::encode(part.sha256),
    };
    Ok((
        fields
            .map(|(name, value)| (storable(name), storable(value)))
            .collect(),
        files.into_iter().map(file).collect(),
    ))
}
