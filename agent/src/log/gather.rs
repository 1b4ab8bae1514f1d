//! Output that is not numbered yet: small writes grow together into chunks, in the order in which they came.

use super::Source;
use bytes::{Bytes, BytesMut};
use pocketci_proto::LOG_CHUNK_BYTES;
use std::collections::{HashMap, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

/// Changes between the streams of one step whose order is kept within a pause; with more, each stream has one chunk, so
/// that a step that alternates does not make a chunk a line.
const KEPT_CHANGES: usize = 4;
/// Output gathered before it is numbered whatever its age.
pub(super) const GATHERED_BYTES: usize = 4 * LOG_CHUNK_BYTES;

/// What of a stream comes next.
pub(super) struct Open {
    pub(super) source: Source,
    pub(super) offset: u64,
    pub(super) what: What,
    pub(super) at_unix_ms: u64,
}

pub(super) enum What {
    Data(BytesMut),
    Gap { bytes: u64, reason: &'static str },
}

/// See the module.
#[derive(Default)]
pub(super) struct Gather {
    offsets: HashMap<Source, u64>,
    open: VecDeque<Open>,
    bytes: usize,
    changes: HashMap<u32, usize>,
}

impl Gather {
    /// Streams go on at these offsets.
    pub(super) fn continue_at(&mut self, ends: impl IntoIterator<Item = (Source, u64)>) {
        self.offsets.extend(ends);
    }

    /// Takes the beginning of `data`, at least a byte; the caller comes again with the rest.
    pub(super) fn push(&mut self, source: Source, data: &mut Bytes) {
        let offset = self.offsets.entry(source).or_default();
        let at = *offset;
        let place = find(&self.open, source, &mut self.changes);
        let taken = match place.and_then(|place| self.open.get_mut(place)) {
            Some(Open {
                what: What::Data(bytes),
                ..
            }) if bytes.len() < LOG_CHUNK_BYTES => {
                let taken = data.split_to(data.len().min(LOG_CHUNK_BYTES - bytes.len()));
                bytes.extend_from_slice(&taken);
                taken.len()
            }
            _ => {
                let taken = data.split_to(data.len().min(LOG_CHUNK_BYTES));
                self.open.push_back(Open {
                    source,
                    offset: at,
                    what: What::Data(BytesMut::from(&taken[..])),
                    at_unix_ms: now_unix_ms(),
                });
                taken.len()
            }
        };
        *offset += taken as u64;
        self.bytes += taken;
    }

    /// `bytes` of the stream are lost.
    pub(super) fn gap(&mut self, source: Source, bytes: u64, lost: &'static str) {
        let offset = self.offsets.entry(source).or_default();
        let at = *offset;
        *offset += bytes;
        let last = self
            .open
            .iter_mut()
            .rev()
            .find(|open| open.source == source);
        match last.map(|open| &mut open.what) {
            Some(What::Gap {
                bytes: before,
                reason,
            }) if *reason == lost => *before += bytes,
            _ => self.open.push_back(Open {
                source,
                offset: at,
                what: What::Gap {
                    bytes,
                    reason: lost,
                },
                at_unix_ms: now_unix_ms(),
            }),
        }
    }

    /// How many, from the oldest, are to be numbered now: those up to the last full one, or all.
    pub(super) fn ready(&self) -> usize {
        if self.bytes >= GATHERED_BYTES {
            return self.open.len();
        }
        let is_full =
            |open: &Open| matches!(&open.what, What::Data(data) if data.len() >= LOG_CHUNK_BYTES);
        self.open.iter().rposition(is_full).map_or(0, |at| at + 1)
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether more has to wait.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= GATHERED_BYTES
    }

    pub(super) fn front(&self) -> Option<&Open> {
        self.open.front()
    }

    pub(super) fn pop(&mut self) -> Option<Open> {
        let open = self.open.pop_front()?;
        if let What::Data(data) = &open.what {
            self.bytes -= data.len();
        }
        if self.open.is_empty() {
            self.changes.clear();
        }
        Some(open)
    }

    pub(super) fn clear(&mut self) {
        self.open.clear();
        self.bytes = 0;
    }
}

/// Where the next bytes of a stream may grow on: behind what came last of its step, if that is the same stream.
fn find(open: &VecDeque<Open>, source: Source, changes: &mut HashMap<u32, usize>) -> Option<usize> {
    let last = open
        .iter()
        .rposition(|open| open.source.step == source.step)?;
    if open[last].source == source {
        return Some(last);
    }
    let changes = changes.entry(source.step).or_default();
    *changes += 1;
    if *changes <= KEPT_CHANGES {
        return None;
    }
    open.iter().rposition(|open| open.source == source)
}

fn now_unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pocketci_proto::agent::log_chunk::Stream;

    fn source(step: u32, stream: Stream) -> Source {
        Source { step, stream }
    }

    fn shown(gather: &mut Gather) -> Vec<(u32, u64, String)> {
        std::iter::from_fn(|| gather.pop())
            .map(|open| {
                let text = match open.what {
                    What::Data(data) => String::from_utf8(data.to_vec()).unwrap(),
                    What::Gap { bytes, reason } => format!("{bytes} {reason}"),
                };
                (open.source.step, open.offset, text)
            })
            .collect()
    }

    #[test]
    fn steps_gather_side_by_side_and_streams_of_one_keep_their_order() {
        let mut gather = Gather::default();
        for (step, stream, text) in [
            (1, Stream::Stdout, "a"),
            (2, Stream::Stdout, "x"),
            (1, Stream::Stdout, "b"),
            (1, Stream::Stderr, "c"),
            (2, Stream::Stdout, "y"),
            (1, Stream::Stdout, "d"),
        ] {
            gather.push(source(step, stream), &mut Bytes::from(text));
        }
        let expected = [(1, 0, "ab"), (2, 0, "xy"), (1, 0, "c"), (1, 2, "d")];
        assert_eq!(
            shown(&mut gather),
            expected.map(|(step, offset, text)| (step, offset, text.to_owned()))
        );
    }

    #[test]
    fn a_step_that_alternates_makes_a_bounded_number_of_chunks() {
        let mut gather = Gather::default();
        for _ in 0..1000 {
            gather.push(source(1, Stream::Stdout), &mut Bytes::from("out\n"));
            gather.push(source(1, Stream::Stderr), &mut Bytes::from("err\n"));
        }
        let all = shown(&mut gather);
        assert!(all.len() <= KEPT_CHANGES + 2, "{}", all.len());
        let out: Vec<&str> = all.iter().map(|(.., text)| text.as_str()).collect();
        assert_eq!(out.concat().matches("out").count(), 1000);
        assert_eq!(out.concat().matches("err").count(), 1000);
    }

    #[test]
    fn a_chunk_is_never_larger_than_it_may_be() {
        let mut gather = Gather::default();
        let mut data = Bytes::from(vec![b'x'; LOG_CHUNK_BYTES + 1]);
        gather.push(source(1, Stream::Stdout), &mut Bytes::from("y"));
        while !data.is_empty() {
            gather.push(source(1, Stream::Stdout), &mut data);
        }
        assert_eq!((gather.ready(), gather.len()), (1, 2));
        let lengths: Vec<usize> = shown(&mut gather).iter().map(|(.., t)| t.len()).collect();
        assert_eq!(lengths, [LOG_CHUNK_BYTES, 2]);
    }

    #[test]
    fn gaps_grow_and_what_follows_has_true_offsets() {
        let mut gather = Gather::default();
        let out = source(1, Stream::Stdout);
        gather.push(out, &mut Bytes::from("ab"));
        gather.gap(out, 10, "spool_full");
        gather.gap(out, 5, "spool_full");
        gather.push(out, &mut Bytes::from("c"));
        let expected = [(1, 0, "ab"), (1, 2, "15 spool_full"), (1, 17, "c")];
        assert_eq!(
            shown(&mut gather),
            expected.map(|(step, offset, text)| (step, offset, text.to_owned()))
        );
    }
}
