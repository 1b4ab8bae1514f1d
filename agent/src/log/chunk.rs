//! A numbered piece of output, packed once, in memory or on disk until it is acknowledged.

use super::Source;
use super::gather::{Open, What};
use super::spool::Slot;
use bytes::Bytes;
use pb::log_chunk::Encoding;
use pocketci_proto::agent as pb;
use pocketci_proto::log;

/// What a chunk says on the wire, wherever its bytes are.
#[derive(Clone)]
pub(super) struct Chunk {
    pub(super) seq: u64,
    pub(super) source: Source,
    pub(super) offset: u64,
    pub(super) at_unix_ms: u64,
    pub(super) size: u64,
    pub(super) encoding: Encoding,
    pub(super) body: Body,
    /// Permits that it holds of the memory.
    pub(super) charge: usize,
    /// It was to be on the disk, which failed: in memory without permits.
    pub(super) overdraft: bool,
}

#[derive(Clone)]
pub(super) enum Body {
    Memory(Bytes),
    Disk(Slot),
    Gap(&'static str),
}

/// Packed output that has no number yet.
pub(super) struct Packed {
    pub(super) body: Body,
    pub(super) size: u64,
    pub(super) encoding: Encoding,
}

impl Packed {
    pub(super) fn new(open: &Open) -> Self {
        match &open.what {
            What::Data(data) => {
                let (encoding, body) = match log::pack(data) {
                    Some(frame) => (Encoding::Zstd, Bytes::from(frame)),
                    None => (Encoding::Raw, Bytes::copy_from_slice(data)),
                };
                Self {
                    body: Body::Memory(body),
                    size: data.len() as u64,
                    encoding,
                }
            }
            What::Gap { bytes, reason } => Self {
                body: Body::Gap(reason),
                size: *bytes,
                encoding: Encoding::Raw,
            },
        }
    }

    /// Bytes that want a place.
    pub(super) fn len(&self) -> usize {
        match &self.body {
            Body::Memory(bytes) => bytes.len(),
            Body::Disk(_) | Body::Gap(_) => 0,
        }
    }
}

impl Chunk {
    /// Reads its bytes from the disk; blocks. What cannot be read is lost, and says so.
    pub(super) fn load(&mut self) {
        if let Body::Disk(slot) = &self.body {
            self.body = match slot.read(0, slot.len()) {
                Ok(bytes) => Body::Memory(bytes.into()),
                Err(error) => {
                    tracing::error!(%error, "cannot read output from the spool");
                    Body::Gap("spool_failed")
                }
            };
        }
    }

    /// As a message, for a server that understands packed chunks and gaps or for one that knows only bytes.
    pub(super) fn into_wire(self, attempt: &pb::AttemptRef, packed: bool) -> pb::LogChunk {
        let mut chunk = pb::LogChunk {
            r#ref: Some(attempt.clone()),
            seq: self.seq,
            step: self.source.step,
            stream: self.source.stream.into(),
            offset: self.offset,
            at_unix_ms: self.at_unix_ms,
            ..pb::LogChunk::default()
        };
        match self.body {
            Body::Memory(bytes) if packed => {
                chunk.data = bytes;
                chunk.encoding = self.encoding.into();
                chunk.size = u32::try_from(self.size).unwrap_or(u32::MAX);
            }
            Body::Memory(bytes) => {
                chunk.data = match self.encoding {
                    Encoding::Raw => bytes,
                    // It was packed here, or read back as it was.
                    Encoding::Zstd => log::unpack(&bytes, self.size)
                        .map(Bytes::from)
                        .unwrap_or_else(|_| log::gap_line(self.size, "spool_failed").into()),
                };
            }
            Body::Gap(reason) if packed => {
                chunk.gap = Some(pb::LogGap {
                    bytes: self.size,
                    reason: reason.into(),
                });
            }
            Body::Gap(reason) => chunk.data = log::gap_line(self.size, reason).into(),
            // Loaded before; a chunk without data would be refused.
            Body::Disk(_) => chunk.data = log::gap_line(self.size, "spool_failed").into(),
        }
        chunk
    }
}
