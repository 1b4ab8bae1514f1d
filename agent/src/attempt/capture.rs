//! A step's output as the pipeline gets it: bounded, head and tail kept, what is left out said so.

/// Bytes kept of the beginning, and as many of the end.
const HALF_BYTES: usize = 512 * 1024;

/// Output of one stream.
#[derive(Default)]
pub(super) struct Capture {
    head: Vec<u8>,
    tail: Vec<u8>,
    left_out: u64,
}

impl Capture {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let room = HALF_BYTES - self.head.len();
        let (first, rest) = bytes.split_at(bytes.len().min(room));
        self.head.extend_from_slice(first);
        self.tail.extend_from_slice(rest);
        // Cut seldom, so that each byte is moved about once.
        if self.tail.len() >= 2 * HALF_BYTES {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let surplus = self.tail.len().saturating_sub(HALF_BYTES);
        self.tail.drain(..surplus);
        self.left_out += surplus as u64;
    }

    /// As text; bytes that are not UTF-8 become replacement characters.
    pub(super) fn into_text(mut self) -> String {
        self.cut();
        if self.left_out == 0 {
            self.head.append(&mut self.tail);
            return String::from_utf8_lossy(&self.head).into_owned();
        }
        format!(
            "{}\n[… {} bytes left out here; the run's log keeps more …]\n{}",
            String::from_utf8_lossy(&self.head),
            self.left_out,
            String::from_utf8_lossy(&self.tail)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_output_is_whole() {
        let mut capture = Capture::default();
        capture.add("hé".as_bytes());
        capture.add(b"llo");
        assert_eq!(capture.into_text(), "héllo");
    }

    #[test]
    fn of_large_output_head_and_tail_are_kept_and_the_gap_is_told() {
        let mut capture = Capture::default();
        for line in 0..400_000 {
            capture.add(format!("{line}\n").as_bytes());
        }
        let text = capture.into_text();
        assert!(text.starts_with("0\n1\n") && text.ends_with("399999\n"));
        assert!(text.contains("bytes left out here") && text.len() < 2 * HALF_BYTES + 100);
    }
}
