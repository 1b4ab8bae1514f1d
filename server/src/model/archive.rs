//! Archives of one-off runs: tars that a user sends for a run, and that the run sends back.

use super::{JobId, RunId, SessionId};
use std::time::Duration;
use uuid::Uuid;

/// Largest archive, in bytes.
pub const MAX_ARCHIVE_BYTES: i64 = pocketci_proto::MAX_ARCHIVE_BYTES as i64;
/// Most bytes of all archives that are kept when a new one begins: the database is not the place for more.
pub const MAX_KEPT_BYTES: i64 = 16 << 30;
/// Most inputs, and most outputs, of one run.
pub const MAX_ARCHIVES: i64 = 64;
/// Longest name of an archive, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// How long an archive is kept after it began, or until its run ends, whichever is later.
pub const ARCHIVES_KEPT: Duration = Duration::from_secs(86_400);

/// How long an archive that is not complete is kept, if its run does not go on: longer than any transfer takes.
pub const BROKEN_KEPT: Duration = Duration::from_secs(2 * 3600);

/// Which way an archive goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the user to the run.
    In,
    /// From the run to the user.
    Out,
}

impl Direction {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// Which archive.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ArchiveKey {
    /// Of which run; that of an input may not be stored yet.
    pub run_id: RunId,
    /// Input or output.
    pub direction: Direction,
    /// The task's name of it, 1 to [`MAX_NAME_BYTES`] bytes.
    pub name: String,
}

/// One transfer of an archive. Whoever begins the same archive again has another one, and this one is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UploadId(pub Uuid);

impl UploadId {
    /// A new one.
    #[allow(clippy::new_without_default)] // a default that differs each time would surprise
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

/// Who writes an archive, and may do so only while this holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// A user, for a run that is not stored yet.
    User,
    /// The session that holds this attempt of the run's job.
    Attempt {
        /// The job.
        job_id: JobId,
        /// The attempt it was given.
        attempt: i32,
        /// The session that speaks.
        session_id: SessionId,
    },
}

/// An archive that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Its name.
    pub name: String,
    /// The transfer that it came with.
    pub upload: UploadId,
    /// Number of its pages, which count from 1.
    pub pages: i64,
    /// Its size.
    pub bytes: i64,
}

/// Why a name cannot be an archive's; `None` if it can.
pub fn name_fault(name: &str) -> Option<String> {
    let fits = (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control);
    (!fits).then(|| {
        format!("the name of an input or output must have 1 to {MAX_NAME_BYTES} printable characters, not {name:?}")
    })
}
