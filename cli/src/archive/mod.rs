//! Folders as tars that are never whole in memory: packed while they are walked, unpacked while they come.

mod pack;
mod unpack;

pub use pack::{Packing, pack};
pub use unpack::{Piece, Reading, unpack};

/// What passed by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Files and links; folders do not count.
    pub files: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Things that are neither files, links nor folders, and are left out.
    pub left_out: u64,
}
