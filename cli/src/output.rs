//! What the commands print: data on stdout, talk on stderr, exit codes with a meaning.

use serde::Serialize;
use std::io::{self, Write};

/// The exit codes of `pocketci`, as in `docs/cli.md`.
pub mod exit {
    /// Done, and the run (if one was awaited) succeeded.
    pub const OK: u8 = 0;
    /// The run that was awaited did not succeed, or the file is not valid.
    pub const FAILED: u8 = 1;
    /// The server refused: not found, not authorized, invalid, conflict.
    pub const REFUSED: u8 = 3;
    /// The server could not be reached or is not able to answer now; trying again may help.
    pub const UNAVAILABLE: u8 = 4;
    /// Anything else: a file that cannot be read, a port in use.
    pub const SYSTEM: u8 = 5;

    /// The code for an error.
    pub fn of(error: &anyhow::Error) -> u8 {
        if error.is::<crate::commands::NotText>() {
            return FAILED;
        }
        match error.downcast_ref::<crate::client::ClientError>() {
            Some(error) if error.is_temporary() => UNAVAILABLE,
            Some(_) => REFUSED,
            None => SYSTEM,
        }
    }
}

/// One JSON document on stdout.
pub fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

/// A table on stdout; columns as wide as their widest cell. A closed pipe (`| head`) is no error.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    let mut out = io::stdout().lock();
    for row in std::iter::once(&header).chain(rows) {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            line.push_str(cell);
            if at + 1 < row.len() {
                let pad = widths[at] - cell.chars().count() + 2;
                line.extend(std::iter::repeat_n(' ', pad));
            }
        }
        match writeln!(out, "{line}") {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            other => other?,
        }
    }
    Ok(())
}
