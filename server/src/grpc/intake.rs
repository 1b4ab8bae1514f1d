//! What an agent's log chunks must be before they are stored: whole, honest about their size, each where the one before
//! it ended. Sending a broken one again cannot mend it, so its attempt is lost, and no other one notices.

use super::convert::{BrokenChunk, Ref, attempt_ref, log_piece};
use super::{Link, store_status};
use crate::model::JobId;
use crate::model::run::{LogPiece, LogStream};
use crate::runs::dispatch::SessionEntry;
use pocketci_proto::agent as pb;
use std::collections::HashMap;
use std::sync::Arc;
use tonic::Status;

/// Attempts remembered before those that have left are forgotten.
const MAX_KNOWN: usize = 256;

/// Neighbouring chunks of one attempt, which go into one change.
pub(super) enum Group {
    /// To be stored.
    Pieces(Vec<(i64, LogPiece)>),
    /// The attempt sent what it must not.
    Broken,
}

/// Streams of steps of one attempt; far more than any job has.
const MAX_STREAMS: usize = 200_000;

/// How far the chunks of one attempt have come on this stream.
#[derive(Default)]
struct Progress {
    seq: i64,
    ends: HashMap<(i32, LogStream), i64>,
    broken: bool,
}

/// Reads the batches of one Logs stream.
pub(super) struct Intake {
    link: Link,
    entry: Arc<SessionEntry>,
    known: HashMap<(JobId, i32), Progress>,
}

impl Intake {
    pub(super) fn new(link: Link, entry: Arc<SessionEntry>) -> Self {
        Self {
            link,
            entry,
            known: HashMap::new(),
        }
    }

    /// A batch as what is to be done, in order.
    pub(super) async fn read(&mut self, batch: pb::LogBatch) -> Result<Vec<(Ref, Group)>, Status> {
        let mut groups: Vec<(Ref, Group)> = Vec::new();
        for mut chunk in batch.chunks {
            let attempt = attempt_ref(chunk.r#ref.take())?;
            let seq = chunk.seq;
            if !self.entry.holds(attempt.job_id) {
                // Late, or none of its business: the store tells, and nothing is remembered of it here.
                if let Ok(piece) = log_piece(chunk) {
                    groups.push((attempt, Group::Pieces(vec![piece])));
                }
                continue;
            }
            let progress = self.progress(attempt, seq).await?;
            if progress.broken {
                continue;
            }
            let piece = log_piece(chunk).and_then(|(seq, piece)| {
                progress.advance(seq, &piece)?;
                Ok((seq, piece))
            });
            match piece {
                Ok(piece) => match groups.last_mut() {
                    Some((last, Group::Pieces(pieces)))
                        if last.job_id == attempt.job_id && last.attempt == attempt.attempt =>
                    {
                        pieces.push(piece);
                    }
                    _ => groups.push((attempt, Group::Pieces(vec![piece]))),
                },
                Err(error) => {
                    progress.broken = true;
                    tracing::warn!(
                        agent = %self.entry.agent_name,
                        run = %attempt.run_id,
                        attempt = attempt.attempt,
                        seq,
                        error = &error as &dyn std::error::Error,
                        "refused a log chunk; the attempt is lost, as sending it again would not help"
                    );
                    groups.push((attempt, Group::Broken));
                }
            }
        }
        Ok(groups)
    }

    /// What is known of the attempt. One that was not begun on this stream has a beginning in the store.
    async fn progress(&mut self, attempt: Ref, seq: u64) -> Result<&mut Progress, Status> {
        let key = (attempt.job_id, attempt.attempt);
        if !self.known.contains_key(&key) {
            if self.known.len() >= MAX_KNOWN {
                let entry = &self.entry;
                self.known.retain(|(job, _), _| entry.holds(*job));
            }
            let mut progress = Progress::default();
            if seq > 1 {
                let store = self.link.runs().store();
                let stored = store
                    .log_offsets(attempt.run_id, attempt.job_id, attempt.attempt)
                    .await
                    .map_err(|error| store_status(&error))?;
                progress.seq = stored.seq;
                let ends = stored.ends.into_iter();
                progress.ends = ends.map(|end| ((end.step, end.stream), end.end)).collect();
            }
            self.known.insert(key, progress);
        }
        Ok(self.known.entry(key).or_default())
    }
}

impl Progress {
    /// The next chunk must begin where its stream ends. What came before is not looked at again, and what comes too
    /// early is told by the store.
    fn advance(&mut self, seq: i64, piece: &LogPiece) -> Result<(), BrokenChunk> {
        if seq != self.seq + 1 {
            return Ok(());
        }
        if self.ends.len() >= MAX_STREAMS && !self.ends.contains_key(&(piece.step, piece.stream)) {
            return Err(BrokenChunk::Field("step"));
        }
        let end = self.ends.entry((piece.step, piece.stream)).or_default();
        if piece.offset != *end {
            return Err(BrokenChunk::Offset {
                found: piece.offset,
                expected: *end,
            });
        }
        *end += piece.size();
        self.seq = seq;
        Ok(())
    }
}
