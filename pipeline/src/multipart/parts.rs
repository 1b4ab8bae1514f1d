//! What a form consists of: short texts, and files by their metadata.

use super::{Event, Fault, Multipart};
use sha2::{Digest, Sha256};

/// Longest part without a file name that is a field, in bytes; a longer one is a file.
pub const MAX_FIELD_BYTES: usize = 64 * 1024;
/// All fields together, names too, in bytes; what comes after is a file.
pub const MAX_FORM_BYTES: usize = 256 * 1024;

/// All names, file names and types of the parts together, in bytes: they are kept of every part, also of an empty one.
pub const MAX_NAMES_BYTES: usize = 256 * 1024;

/// A file in a body: what is known of it without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePart {
    /// Which part of the body, from 0, fields counted.
    pub index: u32,
    /// Of the form's field.
    pub name: String,
    /// As the sender named it; whatever it says.
    pub filename: Option<String>,
    /// As the sender says; empty if it says none.
    pub content_type: String,
    /// Its length in bytes.
    pub size: u64,
    /// Of its bytes.
    pub sha256: [u8; 32],
}

/// Names and texts of a form, in order.
pub type Fields = Vec<(String, String)>;

/// The parts of a body, found while its bytes pass by.
///
/// A part without a file name is a field of the form if it is UTF-8 and short; everything else is a file. Order and
/// repeated names are kept.
pub struct Parts {
    multipart: Multipart,
    found: Found,
}

#[derive(Default)]
struct Found {
    fields: Vec<(String, String)>,
    form_bytes: usize,
    /// Of names, file names and types so far; above the limit nothing is kept any more.
    names_bytes: usize,
    files: Vec<FilePart>,
    parts: u32,
    current: Option<Current>,
}

struct Current {
    file: FilePart,
    digest: Sha256,
    /// The whole of it as long as it may be a field.
    text: Option<Vec<u8>>,
}

impl Parts {
    /// For a body with this boundary.
    pub fn new(boundary: &str) -> Self {
        Self {
            multipart: Multipart::new(boundary),
            found: Found::default(),
        }
    }

    /// The next bytes of the body.
    ///
    /// # Errors
    /// See [`Multipart::push`]; and [`Fault::NamesTooLarge`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let found = &mut self.found;
        self.multipart.push(bytes, &mut |event| found.take(event))?;
        match self.found.names_bytes > MAX_NAMES_BYTES {
            true => Err(Fault::NamesTooLarge),
            false => Ok(()),
        }
    }

    /// The body has ended: its fields and files.
    ///
    /// # Errors
    /// See [`Multipart::finish`].
    pub fn finish(self) -> Result<(Fields, Vec<FilePart>), Fault> {
        self.multipart.finish()?;
        Ok((self.found.fields, self.found.files))
    }
}

impl Found {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Begin(head) => {
                let filename = head.filename.as_ref().map_or(0, String::len);
                self.names_bytes += head.name.len() + filename + head.content_type.len();
                if self.names_bytes > MAX_NAMES_BYTES {
                    return;
                }
                let text = head.filename.is_none().then(Vec::new);
                self.current = Some(Current {
                    file: FilePart {
                        index: self.parts,
                        name: head.name,
                        filename: head.filename,
                        content_type: head.content_type,
                        size: 0,
                        sha256: [0; 32],
                    },
                    digest: Sha256::new(),
                    text,
                });
                self.parts += 1;
            }
            Event::Data(bytes) => {
                let Some(current) = &mut self.current else {
                    return;
                };
                current.file.size += bytes.len() as u64;
                current.digest.update(bytes);
                if let Some(text) = &mut current.text {
                    text.extend_from_slice(bytes);
                    let together = self.form_bytes + current.file.name.len() + text.len();
                    if text.len() > MAX_FIELD_BYTES || together > MAX_FORM_BYTES {
                        current.text = None;
                    }
                }
            }
            Event::End => {
                if let Some(current) = self.current.take() {
                    self.end(current);
                }
            }
        }
    }

    fn end(&mut self, current: Current) {
        let mut file = current.file;
        if let Some(Ok(text)) = current.text.map(String::from_utf8) {
            self.form_bytes += file.name.len() + text.len();
            self.fields.push((file.name, text));
            return;
        }
        file.sha256 = current.digest.finalize().into();
        self.files.push(file);
    }
}
