//! How output is packed on its way from an agent to the store, and how a gap in it is told.

use crate::LOG_CHUNK_BYTES;

/// Fast; higher levels win little on 64 KiB of text.
const LEVEL: i32 = 1;
/// Shorter output stays as it is: a frame would hardly be smaller.
const MIN_PACKED_BYTES: usize = 256;

/// A packed chunk is not what it says it is.
#[derive(Debug, thiserror::Error)]
pub enum Unpack {
    /// The announced size cannot be.
    #[error("a chunk of {0} bytes is announced, 1..={LOG_CHUNK_BYTES} are possible")]
    Size(u64),
    /// No frame, a broken one, or one with more bytes than announced.
    #[error("the frame is broken, or holds more than the {0} bytes that are announced")]
    Frame(usize),
    /// The frame holds less.
    #[error("the frame holds {found} bytes, {announced} are announced")]
    Short {
        /// In the chunk.
        announced: usize,
        /// In the frame.
        found: usize,
    },
}

/// One zstd frame with these bytes; `None` if that would not be worth it.
pub fn pack(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.len() < MIN_PACKED_BYTES {
        return None;
    }
    // It fails only for want of memory; raw is always right.
    let packed = zstd::bulk::compress(bytes, LEVEL).ok()?;
    // At least an eighth must be gained.
    (packed.len() < bytes.len() - bytes.len() / 8).then_some(packed)
}

/// The bytes of a frame that must be `size`; never more memory than that is used for them.
///
/// # Errors
/// If size or frame are not what [`pack`] makes.
pub fn unpack(frame: &[u8], size: u64) -> Result<Vec<u8>, Unpack> {
    let announced = usize::try_from(size)
        .ok()
        .filter(|size| (1..=LOG_CHUNK_BYTES).contains(size))
        .ok_or(Unpack::Size(size))?;
    let bytes = zstd::bulk::decompress(frame, announced).map_err(|_| Unpack::Frame(announced))?;
    if bytes.len() == announced {
        Ok(bytes)
    } else {
        Err(Unpack::Short {
            announced,
            found: bytes.len(),
        })
    }
}

/// What stands in a log where output is missing, on a line of its own.
pub fn gap_line(bytes: u64, reason: &str) -> String {
    let why = match reason {
        "spool_full" => "the agent's spool was full",
        "spool_failed" => "the agent could not write to its spool",
        "unreadable" => "what the server stored of them cannot be read",
        "limit" => "the step printed more than --max-step-output",
        other => other,
    };
    let plural = if bytes == 1 {
        "byte of output is"
    } else {
        "bytes of output are"
    };
    format!("\n[{} {plural} missing here: {why}]\n", grouped(bytes))
}

/// With a comma after each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_output_comes_back_and_noise_is_left_as_it_is() {
        let text = "a line of a build\n".repeat(3000);
        let packed = pack(text.as_bytes()).unwrap();
        assert!(packed.len() < text.len() / 20);
        assert_eq!(unpack(&packed, text.len() as u64).unwrap(), text.as_bytes());
        let mut state = 1u64;
        let noise: Vec<u8> = (0..LOG_CHUNK_BYTES)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        assert!(pack(&noise).is_none() && pack(b"short").is_none());
    }

    #[test]
    fn lies_about_a_frame_are_found_without_the_memory_they_ask_for() {
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
        assert!(bomb.len() < LOG_CHUNK_BYTES);
        for size in [1, LOG_CHUNK_BYTES as u64] {
            assert!(matches!(unpack(&bomb, size), Err(Unpack::Frame(_))));
        }
        let honest = zstd::bulk::compress(&[7; 1000], 1).unwrap();
        for size in [0, LOG_CHUNK_BYTES as u64 + 1, u64::MAX] {
            assert!(matches!(unpack(&honest, size), Err(Unpack::Size(_))));
        }
        assert!(matches!(unpack(&honest, 999), Err(Unpack::Frame(_))));
        assert!(matches!(unpack(&honest, 1001), Err(Unpack::Short { .. })));
        assert!(matches!(unpack(b"no frame", 8), Err(Unpack::Frame(_))));
        let torn = &honest[..honest.len() - 1];
        assert!(matches!(unpack(torn, 1000), Err(Unpack::Frame(_))));
    }

    #[test]
    fn a_gap_is_told_in_a_line() {
        assert_eq!(
            gap_line(12_345, "spool_full"),
            "\n[12,345 bytes of output are missing here: the agent's spool was full]\n"
        );
        assert_eq!(
            gap_line(1, "limit"),
            "\n[1 byte of output is missing here: the step printed more than --max-step-output]\n"
        );
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
