//! The body of the webhook that started a job: here if it is small, else at the server, from where it is streamed
//! whenever somebody wants it. It never changes, so every attempt sees the same bytes.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use pocketci_pipeline::multipart::{self, Event, Multipart};
use std::sync::Arc;

/// Bodies up to this many bytes are fetched when the job begins, and stay in memory: expressions and most programs look
/// at them.
pub const MAX_HELD_BYTES: u64 = 4 << 20;
/// Most bytes of a body, or of a file in it, that a program may have in memory at once.
pub const MAX_WHOLE_BYTES: u64 = 64 << 20;

/// Pieces of it, or why it does not go on.
pub type Pieces = BoxStream<'static, Result<Bytes, String>>;

/// Where a body is that is not here.
#[async_trait]
pub trait Source: Send + Sync {
    /// All of it, from its beginning.
    async fn pieces(&self) -> Result<Pieces, String>;
}

/// See the module.
#[derive(Clone, Default)]
pub struct WebhookBody {
    len: u64,
    place: Place,
}

#[derive(Clone)]
enum Place {
    Here(Bytes),
    There(Arc<dyn Source>),
}

impl Default for Place {
    fn default() -> Self {
        Self::Here(Bytes::new())
    }
}

impl From<Bytes> for WebhookBody {
    fn from(bytes: Bytes) -> Self {
        Self {
            len: bytes.len() as u64,
            place: Place::Here(bytes),
        }
    }
}

/// A part of a multipart body, as the server found it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebhookFile {
    /// Which part of the body, from 0.
    pub index: u32,
    /// Of the form's field.
    pub name: String,
    /// As sent; only a name.
    pub filename: String,
    /// As sent.
    pub content_type: String,
    /// Its length in bytes.
    pub size: u64,
    /// Of its bytes, in hex.
    pub sha256: String,
}

impl WebhookBody {
    /// A body of `len` bytes that is fetched when it is wanted.
    pub fn there(len: u64, source: Arc<dyn Source>) -> Self {
        let place = Place::There(source);
        Self { len, place }
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of it, if it is here.
    pub fn here(&self) -> Option<&Bytes> {
        match &self.place {
            Place::Here(bytes) => Some(bytes),
            Place::There(_) => None,
        }
    }

    /// All of it, piece by piece.
    pub async fn pieces(&self) -> Result<Pieces, String> {
        match &self.place {
            Place::Here(bytes) => Ok(stream::iter([Ok(bytes.clone())]).boxed()),
            Place::There(source) => source.pieces().await,
        }
    }

    /// All of it at once.
    pub async fn whole(&self) -> Result<Bytes, String> {
        if let Place::Here(bytes) = &self.place {
            return Ok(bytes.clone());
        }
        fits("the body", self.len)?;
        let mut whole = BytesMut::new();
        let mut pieces = self.pieces().await?;
        while let Some(piece) = pieces.next().await {
            whole.extend_from_slice(&piece?);
            fits("the body", whole.len() as u64)?;
        }
        match whole.len() as u64 == self.len {
            true => Ok(whole.freeze()),
            false => Err("the server sent another number of bytes than it said".to_owned()),
        }
    }

    /// A file's bytes, cut out of the body.
    pub async fn file(&self, content_type: &str, file: &WebhookFile) -> Result<Bytes, String> {
        fits(&format!("the file {:?}", file.name), file.size)?;
        let mut cut = Cut::new(content_type, file.index)?;
        let mut found = BytesMut::new();
        let mut pieces = self.pieces().await?;
        while let Some(piece) = pieces.next().await {
            let over = cut.push(&piece?, &mut |bytes| found.extend_from_slice(bytes))?;
            fits("the file", found.len() as u64)?;
            if over {
                break;
            }
        }
        match found.len() as u64 == file.size {
            true => Ok(found.freeze()),
            false => Err(other_bytes()),
        }
    }
}

/// What is said if the body is not what the server found in it.
pub(crate) fn other_bytes() -> String {
    "the server sent other bytes than those it had looked into".to_owned()
}

fn fits(what: &str, bytes: u64) -> Result<(), String> {
    if bytes > MAX_WHOLE_BYTES {
        return Err(format!(
            "{what} has {bytes} bytes, more than a program may read at once ({MAX_WHOLE_BYTES}); mount it into a step instead"
        ));
    }
    Ok(())
}

/// Cuts one part out of a body that passes by.
struct Cut {
    multipart: Multipart,
    wanted: u32,
    part: Option<u32>,
    over: bool,
}

impl Cut {
    fn new(content_type: &str, wanted: u32) -> Result<Self, String> {
        Ok(Self {
            multipart: Multipart::new(&boundary(content_type)?),
            wanted,
            part: None,
            over: false,
        })
    }

    /// Whether the part is over.
    fn push(&mut self, bytes: &[u8], tell: &mut dyn FnMut(&[u8])) -> Result<bool, String> {
        let (part, over, wanted) = (&mut self.part, &mut self.over, self.wanted);
        let pushed = self.multipart.push(bytes, &mut |event| match event {
            Event::Begin(_) => *part = Some(part.map_or(0, |part| part + 1)),
            Event::Data(bytes) if *part == Some(wanted) => tell(bytes),
            Event::Data(_) => {}
            Event::End => *over |= *part == Some(wanted),
        });
        pushed.map_err(|fault| fault.to_string())?;
        Ok(self.over)
    }
}

/// The boundary of a body whose files the server found.
pub(crate) fn boundary(content_type: &str) -> Result<String, String> {
    match multipart::boundary(content_type) {
        Ok(Some(boundary)) => Ok(boundary),
        Ok(None) => Err("the request is no multipart form".to_owned()),
        Err(fault) => Err(fault.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct InPieces(Bytes, usize);

    #[async_trait]
    impl Source for InPieces {
        async fn pieces(&self) -> Result<Pieces, String> {
            let pieces: Vec<_> = self.0.chunks(self.1).map(Bytes::copy_from_slice).collect();
            Ok(stream::iter(pieces.into_iter().map(Ok)).boxed())
        }
    }

    #[tokio::test]
    async fn a_file_is_cut_out_wherever_the_body_is() {
        const TYPE: &str = "multipart/form-data; boundary=b";
        let body = b"--b\r\n\r\nfield\r\n--b\r\n\r\n\0\xff\r\n-\r\n--b\r\n\r\nlast\r\n--b--";
        let file = |index: u32, size: u64| WebhookFile {
            index,
            size,
            ..WebhookFile::default()
        };
        let bytes = Bytes::from_static(body);
        let mut bodies = vec![WebhookBody::from(bytes.clone())];
        for piece in [1, 3, 1000] {
            let source = Arc::new(InPieces(bytes.clone(), piece));
            bodies.push(WebhookBody::there(bytes.len() as u64, source));
        }
        for held in bodies {
            assert_eq!(
                held.file(TYPE, &file(1, 5)).await.unwrap(),
                "\0\u{ff}\r\n-"
                    .chars()
                    .map(|c| c as u8)
                    .collect::<Vec<u8>>()
            );
            assert_eq!(held.file(TYPE, &file(2, 4)).await.unwrap(), "last");
            assert!(held.file(TYPE, &file(2, 5)).await.is_err());
            assert!(held.file(TYPE, &file(3, 1)).await.is_err());
            assert!(held.file("text/plain", &file(1, 5)).await.is_err());
            assert_eq!(held.whole().await.unwrap(), bytes);
        }
        let huge = WebhookBody::there(MAX_WHOLE_BYTES + 1, Arc::new(InPieces(bytes, 9)));
        assert!(huge.whole().await.unwrap_err().contains("mount it"));
    }
}
