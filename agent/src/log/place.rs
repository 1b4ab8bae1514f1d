//! Where numbered output goes: memory while there is some, else the disk, else nowhere, which holds the writer back.

use super::chunk::{Body, Chunk, Packed};
use super::room::CHUNK_COST_BYTES;
use super::spool::Slot;
use super::{AttemptLog, State};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::Instant;

/// A failed disk is asked again so often while a writer waits, though nobody tells.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A chunk whose bytes are to be written to the disk.
pub(super) struct Spill {
    seq: u64,
    bytes: Bytes,
    slot: Slot,
}

impl AttemptLog {
    /// Waits for room to gather; `false` if patience has run out.
    pub(super) async fn room(&self) -> bool {
        let deadline = Instant::now() + self.buffers.patience;
        loop {
            let freed = self.buffers.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            let (is_full, spills) = {
                let mut state = self.state();
                if state.closed || !state.gather.is_full() {
                    return true;
                }
                let all = state.gather.len();
                let mut spills = self.number(&mut state, all);
                spills.extend(self.again(&mut state));
                if !state.gather.is_full() {
                    state.giving_up = false;
                    self.announce(&mut state);
                }
                (state.gather.is_full(), spills)
            };
            self.spill(spills).await;
            if !is_full {
                return true;
            }
            if self.gives_up(deadline) {
                return false;
            }
            let again = (Instant::now() + ASK_AGAIN).min(deadline);
            tokio::select! {
                () = freed => {}
                () = tokio::time::sleep_until(again) => {}
            }
        }
    }

    fn gives_up(&self, deadline: Instant) -> bool {
        let mut state = self.state();
        if !state.giving_up && Instant::now() >= deadline {
            state.giving_up = true;
            tracing::warn!(
                job = %hex::encode(&self.attempt.job_id),
                reason = self.buffers.spool.why(),
                "output finds no room; it is given up until there is some"
            );
        }
        state.giving_up
    }

    /// Numbers the oldest `count` pieces that are gathered, as far as there is a place for them.
    pub(super) fn number(&self, state: &mut State, count: usize) -> Vec<Spill> {
        let mut spills = Vec::new();
        for _ in 0..count {
            let Some(open) = state.gather.front() else {
                break;
            };
            let packed = Packed::new(open);
            let cost = packed.len() + CHUNK_COST_BYTES;
            let (charge, slot) = if self.charge(cost) {
                (cost, None)
            } else if packed.len() == 0 {
                (0, None)
            } else if state.overdrafts > 0 {
                break;
            } else {
                match self.buffers.spool.slot(&mut state.segment, packed.len()) {
                    Some(slot) => (0, Some(slot)),
                    None => break,
                }
            };
            let Some(open) = state.gather.pop() else {
                break;
            };
            if state.gather.is_empty() {
                state.numbered = Some(Instant::now());
            }
            state.next_seq += 1;
            let seq = state.next_seq;
            if let (Some(slot), Body::Memory(bytes)) = (slot, &packed.body) {
                let bytes = bytes.clone();
                spills.push(Spill { seq, bytes, slot });
            }
            state.unacked.push_back(Chunk {
                seq,
                source: open.source,
                offset: open.offset,
                at_unix_ms: open.at_unix_ms,
                size: packed.size,
                encoding: packed.encoding,
                body: packed.body,
                charge,
                overdraft: false,
            });
        }
        spills
    }

    /// Memory for a chunk, of the attempt's and of the agent's.
    fn charge(&self, cost: usize) -> bool {
        let permits = u32::try_from(cost).unwrap_or(u32::MAX);
        let Ok(mine) = self.memory.try_acquire_many(permits) else {
            return false;
        };
        let Ok(shared) = self.buffers.memory.try_acquire_many(permits) else {
            return false;
        };
        // Given back when the chunk is acknowledged.
        mine.forget();
        shared.forget();
        true
    }

    /// Writes chunks to the disk; until then, and if that fails, they are in memory.
    pub(super) async fn spill(&self, spills: Vec<Spill>) {
        for Spill { seq, bytes, slot } in spills {
            let writing = tokio::task::spawn_blocking(move || slot.write(0, &bytes).map(|()| slot));
            let written = writing.await;
            let mut state = self.state();
            let Some(chunk) = state.chunk(seq) else {
                continue;
            };
            let was = chunk.overdraft;
            // The failure is told by the spool; the chunk is not lost by it.
            chunk.overdraft = match written {
                Ok(Ok(slot)) => {
                    chunk.body = Body::Disk(slot);
                    false
                }
                Ok(Err(_)) | Err(_) => true,
            };
            let is = chunk.overdraft;
            state.overdrafts = state.overdrafts + usize::from(is) - usize::from(was);
        }
    }

    /// The disk is asked again for what it did not take.
    fn again(&self, state: &mut State) -> Vec<Spill> {
        let mut spills = Vec::new();
        if state.overdrafts == 0 {
            return spills;
        }
        let State {
            unacked, segment, ..
        } = state;
        for chunk in unacked.iter().filter(|chunk| chunk.overdraft) {
            if let Body::Memory(bytes) = &chunk.body
                && let Some(slot) = self.buffers.spool.slot(segment, bytes.len())
            {
                spills.push(Spill {
                    seq: chunk.seq,
                    bytes: bytes.clone(),
                    slot,
                });
            }
        }
        spills
    }
}
