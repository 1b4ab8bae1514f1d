//! Numbers of calls that are the same when the job is attempted again.

use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Calls so far, by kind and content: see [`super::Backend`]. Side by side, the same calls may come in another order when the job
/// is attempted again; so what is numbered is the how-manieth call with the same content.
#[derive(Default)]
pub(crate) struct Numbers(Mutex<HashMap<String, u32>>);

impl Numbers {
    /// A number for the next call of this kind with this content.
    pub(crate) fn next(&self, kind: &str, content: &str) -> u32 {
        let key = format!("{kind}\n{content}");
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key.clone()).or_default();
        *count += 1;
        let hash = Sha256::digest(format!("{key}\n{count}").as_bytes());
        // 31 bits: the server keeps a signed number. Gates are compared by name as well.
        u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]) & 0x7fff_ffff
    }
}
