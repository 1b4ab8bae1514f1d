//! `multipart/form-data` (RFC 7578) read in pieces of any size: the bytes of a part are handed on, never gathered.
//!
//! Memory is one piece and one part's head, whatever the body's size. The server looks at a body with it when it comes
//! ([`Parts`]); the agent cuts a file out of the same bytes later, so both must agree on every byte.

mod head;
mod parts;

pub use head::boundary;
pub use parts::{Fields, FilePart, MAX_FIELD_BYTES, MAX_FORM_BYTES, MAX_NAMES_BYTES, Parts};

use memchr::memmem;

/// Most parts of one body.
pub const MAX_PARTS: u32 = 1000;
/// Longest head of a part (its header lines), in bytes.
pub const MAX_PART_HEAD_BYTES: usize = 16 * 1024;
/// Longest rest of a boundary's line, in bytes: white space that means nothing.
const MAX_PADDING_BYTES: usize = 256;

/// What is wrong with a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The `Content-Type` names none, or one that cannot be.
    #[error("the Content-Type of a multipart body must name a boundary of 1 to 200 characters")]
    Boundary,
    /// See [`MAX_PARTS`].
    #[error("the multipart body has more than {MAX_PARTS} parts")]
    TooManyParts,
    /// See [`MAX_NAMES_BYTES`].
    #[error(
        "the names, file names and types in the multipart body have more than {MAX_NAMES_BYTES} bytes together"
    )]
    NamesTooLarge,
    /// See [`MAX_PART_HEAD_BYTES`].
    #[error("a part of the multipart body has more than {MAX_PART_HEAD_BYTES} bytes of headers")]
    HeadTooLarge,
    /// It ends before its final boundary.
    #[error(
        "the multipart body ends without its final boundary (\"--boundary--\"): it was cut off, or the boundary is another one"
    )]
    Unterminated,
    /// Something else follows a boundary than RFC 2046 allows.
    #[error("the multipart body has a boundary that neither ends its line nor the body")]
    BoundaryLine,
    /// The header lines of a part cannot be read.
    #[error("a part of the multipart body has a header line that cannot be read")]
    Head,
}

/// What a part says of itself. Names are only names: nothing is a path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartHead {
    /// Of the form's field; empty if it has none.
    pub name: String,
    /// As the sender named it, for people; whatever it says.
    pub filename: Option<String>,
    /// Its media type; empty if it says none.
    pub content_type: String,
}

/// What comes out, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A part begins.
    Begin(PartHead),
    /// Bytes of it, not empty.
    Data(&'a [u8]),
    /// It has ended.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first boundary.
    Preamble,
    /// Behind a boundary, in its line.
    Line,
    /// In a part's head; the line end of the boundary's line is still there.
    Head,
    /// Behind a part's head; the line end of the empty line is still there, and may be the boundary's.
    First,
    /// In a part.
    Data,
    /// Behind the final boundary.
    Over,
}

/// See the module.
pub struct Multipart {
    finder: memmem::Finder<'static>,
    delimiter_len: usize,
    state: State,
    /// What was not handed on yet.
    rest: Vec<u8>,
    parts: u32,
    /// Whether anything came at all.
    begun: bool,
}

impl Multipart {
    /// For a body with this boundary.
    pub fn new(boundary: &str) -> Self {
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        Self {
            delimiter_len: delimiter.len(),
            finder: memmem::Finder::new(&delimiter).into_owned(),
            state: State::Preamble,
            // The first boundary has no line end before it where there is no preamble.
            rest: b"\r\n".to_vec(),
            parts: 0,
            begun: false,
        }
    }

    /// The next bytes of the body.
    ///
    /// # Errors
    /// [`Fault`]; nothing may be pushed after one.
    pub fn push(&mut self, bytes: &[u8], tell: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault> {
        self.begun |= !bytes.is_empty();
        if self.state == State::Over {
            return Ok(());
        }
        let mut rest = std::mem::take(&mut self.rest);
        rest.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(taken) = self.step(&rest[at..], tell)? {
            at += taken;
        }
        if self.state != State::Over {
            rest.drain(..at);
            self.rest = rest;
        }
        Ok(())
    }

    /// The body has ended. An empty one has no parts.
    ///
    /// # Errors
    /// [`Fault::Unterminated`].
    pub fn finish(self) -> Result<(), Fault> {
        match self.state {
            State::Over => Ok(()),
            State::Preamble if !self.begun => Ok(()),
            _ => Err(Fault::Unterminated),
        }
    }

    /// Takes what it can of `rest`, and answers how much that was; `None` if it needs more.
    fn step(
        &mut self,
        rest: &[u8],
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<Option<usize>, Fault> {
        match self.state {
            State::Preamble | State::Data => Ok(self.until_boundary(rest, tell)),
            State::Line => self.boundary_line(rest),
            State::Head => self.head(rest, tell),
            State::First => Ok(self.first(rest, tell)),
            State::Over => Ok(None),
        }
    }

    fn until_boundary(&mut self, rest: &[u8], tell: &mut dyn FnMut(Event<'_>)) -> Option<usize> {
        let mut say = |bytes: &[u8]| {
            if self.state == State::Data && !bytes.is_empty() {
                tell(Event::Data(bytes));
            }
        };
        if let Some(found) = self.finder.find(rest) {
            say(&rest[..found]);
            if self.state == State::Data {
                tell(Event::End);
            }
            self.state = State::Line;
            return Some(found + self.delimiter_len);
        }
        // Its end may be the beginning of a boundary.
        let sure = rest.len().saturating_sub(self.delimiter_len - 1);
        say(&rest[..sure]);
        (sure > 0).then_some(sure)
    }

    fn boundary_line(&mut self, rest: &[u8]) -> Result<Option<usize>, Fault> {
        if rest.starts_with(b"--") {
            self.state = State::Over;
            return Ok(Some(rest.len()));
        }
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
        let padding = rest.iter().take_while(|byte| is_space(byte)).count();
        if padding > MAX_PADDING_BYTES {
            return Err(Fault::BoundaryLine);
        }
        match &rest[padding..] {
            [b'\r', b'\n', ..] => {}
            [] | [b'\r'] => return Ok(None),
            [b'-'] if padding == 0 => return Ok(None),
            _ => return Err(Fault::BoundaryLine),
        }
        if self.parts == MAX_PARTS {
            return Err(Fault::TooManyParts);
        }
        self.parts += 1;
        self.state = State::Head;
        Ok(Some(padding))
    }

    fn head(
        &mut self,
        rest: &[u8],
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<Option<usize>, Fault> {
        // From the line end of the boundary's line on: a part without headers begins with an empty line.
        let window = &rest[..rest.len().min(MAX_PART_HEAD_BYTES + 4)];
        let Some(end) = memmem::find(window, b"\r\n\r\n") else {
            return match rest.len() > MAX_PART_HEAD_BYTES {
                true => Err(Fault::HeadTooLarge),
                false => Ok(None),
            };
        };
        tell(Event::Begin(head::read(rest.get(2..end).unwrap_or(&[]))?));
        self.state = State::First;
        Ok(Some(end + 2))
    }

    /// A part may end with its head: its boundary takes the empty line's end then.
    fn first(&mut self, rest: &[u8], tell: &mut dyn FnMut(Event<'_>)) -> Option<usize> {
        let delimiter = self.finder.needle();
        if rest.starts_with(delimiter) {
            tell(Event::End);
            self.state = State::Line;
            return Some(self.delimiter_len);
        }
        if delimiter.starts_with(rest) {
            return None;
        }
        self.state = State::Data;
        Some(2)
    }
}

#[cfg(test)]
mod tests;
