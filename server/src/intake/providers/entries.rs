//! Headers with several entries, `name=value,name=value`: which of them count, and no more than a handful.

use super::Rejected;
use super::signature::MAX_SIGNATURES;

/// The values of the entries that begin with `prefix`, spaces around entries aside. Others (older or newer versions)
/// are skipped: they are neither a pass nor a fault.
pub(super) fn with_prefix<'a>(
    header: &'a [u8],
    separator: u8,
    prefix: &[u8],
) -> Result<Vec<&'a [u8]>, Rejected> {
    let mut found = Vec::new();
    for entry in header.split(|byte| *byte == separator) {
        if let Some(value) = entry.trim_ascii().strip_prefix(prefix) {
            if found.len() == MAX_SIGNATURES {
                return Err(Rejected("the header has more than 16 signatures"));
            }
            found.push(value);
        }
    }
    Ok(found)
}

/// The value of the one entry that begins with `prefix`.
pub(super) fn one<'a>(
    header: &'a [u8],
    separator: u8,
    prefix: &[u8],
) -> Result<&'a [u8], Rejected> {
    match with_prefix(header, separator, prefix)?[..] {
        [value] => Ok(value),
        [] => Err(Rejected("the signature header has no timestamp")),
        _ => Err(Rejected("the signature header has several timestamps")),
    }
}

/// The entries that `decode` can read; at least one.
pub(super) fn decoded(
    values: &[&[u8]],
    decode: impl Fn(&[u8]) -> Result<Vec<u8>, Rejected>,
) -> Result<Vec<Vec<u8>>, Rejected> {
    let mut readable = Vec::new();
    let mut fault = Rejected("the header has no signature of the expected version");
    for value in values {
        match decode(value) {
            Ok(signature) => readable.push(signature),
            Err(rejected) => fault = rejected,
        }
    }
    if readable.is_empty() {
        return Err(fault);
    }
    Ok(readable)
}
