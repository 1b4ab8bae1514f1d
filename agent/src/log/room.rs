//! Where output waits for its acknowledgement: memory first, then the disk, both shared by all attempts of an agent.

use super::spool::{Spool, SpoolConfig};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};

/// Bytes of one attempt's chunks that may wait in memory.
pub(super) const ATTEMPT_MEMORY_BYTES: usize = 2 * 1024 * 1024;
/// The same for all attempts of an agent together.
pub const AGENT_MEMORY_BYTES: usize = 64 * 1024 * 1024;
/// What a chunk costs besides its bytes, so that many small ones are bounded as well.
pub(super) const CHUNK_COST_BYTES: usize = 128;
/// How long output waits for room before it is given up, unless the operator says otherwise.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(30);

/// The room of one agent.
pub struct Buffers {
    pub(super) memory: Semaphore,
    pub(super) spool: Spool,
    pub(super) patience: Duration,
    /// Told when there may be room again.
    pub(super) freed: Notify,
}

impl Buffers {
    /// With a spool where `config` says; what killed agents left there is removed.
    pub fn new(config: &SpoolConfig) -> Self {
        Self {
            memory: Semaphore::new(AGENT_MEMORY_BYTES),
            spool: Spool::open(config),
            patience: config.patience,
            freed: Notify::new(),
        }
    }

    /// Without a disk: for whoever takes output at once.
    pub fn in_memory() -> Self {
        Self::new(&SpoolConfig {
            max_bytes: 0,
            ..SpoolConfig::default()
        })
    }
}
