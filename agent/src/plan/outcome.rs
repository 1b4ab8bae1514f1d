//! How a step of a plan ended.

/// How a step, or the whole plan, ended. Where several steps end at once, the greater one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It did what it should.
    Succeeded,
    /// It ran and said no: another exit code than 0, or it took too long.
    Failed,
    /// It could not be run properly.
    Errored,
    /// An enclosing `timeout` ran out while it ran; that one makes [`Outcome::Failed`] of it.
    TimedOut,
    /// Its job was cancelled, or a sibling under `fail_fast` did not succeed, while it ran.
    Aborted,
}

impl Outcome {
    /// As users and the resource protocol's `BUILD_STATUS` call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Errored | Self::TimedOut => "errored",
            Self::Aborted => "aborted",
        }
    }
}
