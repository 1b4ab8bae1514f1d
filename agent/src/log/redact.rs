//! Secrets out of everything a job prints, in every form they take, across the borders of pieces.
//!
//! Invariant: no secret that is known when its bytes are read leaves a [`Stream`] whole, however it is cut into pieces.
//! For that the end of a piece is held back while it may be the beginning of a secret.

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// What stands in a secret's place.
const MASK: &[u8] = b"***";
/// A shorter text is no secret: masking it would make the log unreadable and tell more than it hides.
pub const MIN_SECRET_BYTES: usize = 4;
/// A shorter line of a secret of several lines is not masked by itself.
const MIN_LINE_BYTES: usize = 8;

/// The Base64 of a secret of this length may fill a line of its own.
const MIN_WRAPPED_BYTES: usize = 36;
/// Characters of Base64 that are masked by themselves where it is broken into lines; at most as many less one stay visible
/// at each end of a line.
const WRAPPED_PIECE: usize = 8;

/// Most bytes of values that can be hidden at once.
pub const MAX_VALUE_BYTES: usize = 64 << 10;
/// Most bytes of all forms of everything that is hidden when values are added: searching for them takes about thirty times
/// as much memory.
const MAX_FORM_BYTES: usize = 6 << 20;

/// The secrets of one attempt.
#[derive(Default)]
pub struct Redactor {
    /// All forms; held while the search for them is built.
    texts: Mutex<BTreeSet<Vec<u8>>>,
    /// Held for a moment only: what is printed meanwhile does not wait for the building.
    patterns: RwLock<Option<Arc<Patterns>>>,
}

/// Values are too large to be hidden; none of them is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it has too much text to be hidden from the logs: at most {} KiB at once, and less where a job hides several; load smaller values, or set reveal: true if it is no secret",
    MAX_VALUE_BYTES >> 10
)]
pub struct TooMuch;

struct Patterns {
    texts: Vec<Vec<u8>>,
    search: AhoCorasick,
    longest: usize,
}

impl Redactor {
    /// From now on `secret` is masked, as it is and encoded.
    pub fn add(&self, secret: &str) {
        self.add_all([secret]);
    }

    /// The same for several at once, which takes hardly longer than for one.
    pub fn add_all<'a>(&self, secrets: impl IntoIterator<Item = &'a str>) {
        // Without a limit of ours: the server has one for secrets.
        let _ = self.add_forms(secrets.into_iter().flat_map(forms).collect(), usize::MAX);
    }

    /// The same for values that a job found itself, which may be anything. It takes a while: not for an event loop.
    ///
    /// # Errors
    /// They are too large; what was hidden before still is.
    pub fn add_values(&self, values: &[String]) -> Result<(), TooMuch> {
        if values.iter().map(String::len).sum::<usize>() > MAX_VALUE_BYTES {
            return Err(TooMuch);
        }
        let forms = values.iter().flat_map(|value| forms(value)).collect();
        self.add_forms(forms, MAX_FORM_BYTES)
    }

    fn add_forms(&self, forms: BTreeSet<Vec<u8>>, limit: usize) -> Result<(), TooMuch> {
        let mut known = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let all: BTreeSet<Vec<u8>> = known.union(&forms).cloned().collect();
        if all.len() == known.len() {
            return Ok(());
        }
        if all.iter().map(Vec::len).sum::<usize>() > limit {
            return Err(TooMuch);
        }
        let texts: Vec<Vec<u8>> = all.iter().cloned().collect();
        let built = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .build(&texts);
        let search = built.map_err(|error| {
            // Only for sizes far beyond what secrets may have.
            tracing::error!(%error, "cannot search for secrets; a part of them is masked as before");
            TooMuch
        })?;
        let patterns = Patterns {
            longest: texts.iter().map(Vec::len).max().unwrap_or_default(),
            texts,
            search,
        };
        *known = all;
        *self
            .patterns
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(patterns));
        Ok(())
    }

    fn patterns(&self) -> Option<Arc<Patterns>> {
        self.patterns
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A text that is whole.
    pub fn text(&self, text: &str) -> String {
        if self.patterns().is_none() {
            return text.to_owned();
        }
        let shown = self.bytes(&Bytes::copy_from_slice(text.as_bytes()));
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// Bytes that are whole.
    pub fn bytes(&self, bytes: &Bytes) -> Bytes {
        let mut stream = Stream::default();
        let mut shown = stream.push(self, bytes.clone()).to_vec();
        shown.extend_from_slice(&stream.finish(self));
        shown.into()
    }
}

/// One stream of bytes on its way to the log.
#[derive(Default)]
pub struct Stream {
    held: Vec<u8>,
    /// Bytes at the beginning of `held` that belong to a secret whose mask was already given.
    masked: usize,
}

impl Stream {
    /// What of the stream may be shown now.
    pub fn push(&mut self, redactor: &Redactor, bytes: Bytes) -> Bytes {
        let Some(patterns) = redactor.patterns() else {
            return bytes;
        };
        self.held.extend_from_slice(&bytes);
        let border = self.held.len() - patterns.unfinished(&self.held);
        self.show(&patterns, border)
    }

    /// What was held back, now that nothing follows: a beginning of a secret may contain another, whole one.
    pub fn finish(&mut self, redactor: &Redactor) -> Bytes {
        match redactor.patterns() {
            Some(patterns) => self.show(&patterns, self.held.len()),
            None => Bytes::from(std::mem::take(&mut self.held)),
        }
    }

    /// The bytes before `border`, masked; the rest stays.
    fn show(&mut self, patterns: &Patterns, border: usize) -> Bytes {
        if border == 0 {
            return Bytes::new();
        }
        let mut shown = Vec::with_capacity(border);
        let mut at = 0;
        let mut masked = 0;
        for (start, end) in patterns.spans(&self.held, self.masked) {
            if start >= border {
                break;
            }
            shown.extend_from_slice(&self.held[at..start]);
            if start > 0 || self.masked == 0 {
                shown.extend_from_slice(MASK);
            }
            at = end.min(border);
            masked = end.saturating_sub(border);
        }
        shown.extend_from_slice(&self.held[at..border]);
        self.held.drain(..border);
        self.masked = masked;
        Bytes::from(shown)
    }
}

impl Patterns {
    /// Where secrets are, overlapping ones as one; the first `masked` bytes belong to one already.
    fn spans(&self, bytes: &[u8], masked: usize) -> Vec<(usize, usize)> {
        let mut found: Vec<(usize, usize)> = self
            .search
            .find_overlapping_iter(bytes)
            .map(|found| (found.start(), found.end()))
            .collect();
        if masked > 0 {
            found.push((0, masked.min(bytes.len())));
        }
        found.sort_unstable();
        let mut spans: Vec<(usize, usize)> = Vec::new();
        for (start, end) in found {
            match spans.last_mut() {
                Some(last) if start < last.1 => last.1 = last.1.max(end),
                _ => spans.push((start, end)),
            }
        }
        spans
    }

    /// How many bytes at the end may be the beginning of a secret: the longest such suffix.
    fn unfinished(&self, bytes: &[u8]) -> usize {
        let from = bytes.len().saturating_sub(self.longest.saturating_sub(1));
        let tail = &bytes[from..];
        (0..tail.len())
            .find(|at| self.continues(&tail[*at..]))
            .map_or(0, |at| tail.len() - at)
    }

    /// Whether a secret begins with these bytes and goes on. The texts are sorted, so those that do stand together.
    fn continues(&self, beginning: &[u8]) -> bool {
        let first = self
            .texts
            .partition_point(|text| text.as_slice() <= beginning);
        self.texts
            .get(first)
            .is_some_and(|text| text.starts_with(beginning))
    }
}

/// The forms in which a secret may be printed.
fn forms(secret: &str) -> BTreeSet<Vec<u8>> {
    let mut forms = BTreeSet::new();
    let whole = [secret, secret.trim()].into_iter();
    let lines = secret
        .lines()
        .map(str::trim)
        .filter(|line| line.len() >= MIN_LINE_BYTES);
    for text in whole.chain(lines) {
        if text.len() < MIN_SECRET_BYTES {
            continue;
        }
        forms.insert(text.as_bytes().to_vec());
        forms.extend(base64_forms(text.as_bytes()));
        let encoded: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
        let percent = percent_encoded(text, false);
        let strict = percent_encoded(text, true);
        let json = serde_json::Value::from(text).to_string();
        let json = json.trim_matches('"').to_owned();
        let hex = hex::encode(text);
        let texts = [
            encoded.to_lowercase_escapes(),
            encoded,
            percent.to_lowercase_escapes(),
            percent,
            strict.to_lowercase_escapes(),
            strict,
            json,
            hex.to_uppercase(),
            hex,
        ];
        forms.extend(texts.into_iter().map(String::into_bytes));
    }
    forms
}

/// The secret inside a longer Base64 text: at each of the three places it may begin, without the characters that its
/// neighbours decide about.
fn base64_forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for before in 0..3usize {
        let mut padded = vec![0; before];
        padded.extend_from_slice(secret);
        let first = (before * 8).div_ceil(6);
        let last = padded.len() * 8 / 6;
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let encoded = engine.encode(&padded);
            if last > first + MIN_SECRET_BYTES {
                let inner = &encoded.as_bytes()[first..last];
                forms.push(inner.to_vec());
                // Programs break long Base64 into lines: wherever they do, whole pieces of it remain.
                if secret.len() >= MIN_WRAPPED_BYTES {
                    let pieces = inner.chunks(WRAPPED_PIECE);
                    forms.extend(
                        pieces
                            .filter(|piece| piece.len() == WRAPPED_PIECE)
                            .map(<[u8]>::to_vec),
                    );
                }
            }
        }
    }
    forms
}

/// Percent-encoding as `encodeURIComponent` does it, or of everything but letters and digits.
fn percent_encoded(text: &str, strict: bool) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || (!strict && b"-_.!~*'()".contains(&byte));
        if plain {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

trait LowercaseEscapes {
    /// `%2F` as `%2f`, the rest as it is.
    fn to_lowercase_escapes(&self) -> String;
}

impl LowercaseEscapes for String {
    fn to_lowercase_escapes(&self) -> String {
        let mut parts = self.split('%');
        let mut text = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (escape, rest) = part.split_at(part.len().min(2));
            text.push('%');
            text.push_str(&escape.to_ascii_lowercase());
            text.push_str(rest);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "p/ss wörd+&\"1";

    fn redactor(secrets: &[&str]) -> Redactor {
        let redactor = Redactor::default();
        for secret in secrets {
            redactor.add(secret);
        }
        redactor
    }

    fn in_pieces(redactor: &Redactor, bytes: &[u8], size: usize) -> Vec<u8> {
        let mut stream = Stream::default();
        let mut shown = Vec::new();
        for piece in bytes.chunks(size) {
            shown.extend_from_slice(&stream.push(redactor, Bytes::copy_from_slice(piece)));
        }
        shown.extend_from_slice(&stream.finish(redactor));
        shown
    }

    #[test]
    fn a_secret_is_masked_however_it_is_cut() {
        let redactor = redactor(&[SECRET]);
        let text = format!("before {SECRET} between {SECRET}{SECRET} after p/ss wörd p/ss");
        for size in 1..=text.len() {
            let shown = in_pieces(&redactor, text.as_bytes(), size);
            assert_eq!(
                String::from_utf8(shown).unwrap(),
                "before *** between ****** after p/ss wörd p/ss",
                "in pieces of {size}"
            );
        }
    }

    #[test]
    fn its_encodings_are_masked_too() {
        let redactor = redactor(&[SECRET]);
        let standard = base64::engine::general_purpose::STANDARD;
        for before in ["", "a", "ab", "abc"] {
            let encoded = standard.encode(format!("{before}{SECRET}:and more"));
            let shown = redactor.text(&format!("x {encoded} y"));
            assert!(shown.contains("***"), "{before}: {shown}");
            let middle = standard.encode(SECRET);
            assert!(!shown.contains(&middle[4..middle.len() - 6]), "{shown}");
        }
        for encoded in [
            "p%2Fss%20w%C3%B6rd%2B%26%221",
            "p%2fss%20w%c3%b6rd%2b%26%221",
            "p%2Fss+w%C3%B6rd%2B%26%221",
            r#"p/ss wörd+&\"1"#,
            &hex::encode(SECRET),
        ] {
            assert_eq!(redactor.text(encoded), "***", "{encoded}");
        }
    }

    #[test]
    fn overlapping_secrets_leave_nothing_between_them() {
        let redactor = redactor(&["abcdef", "defghi", "abcdefgh"]);
        for size in 1..=9 {
            assert_eq!(
                in_pieces(&redactor, b"xabcdefghix", size),
                b"x***x",
                "{size}"
            );
            assert_eq!(in_pieces(&redactor, b"abcdefg", size), b"***g", "{size}");
        }
    }

    #[test]
    fn base64_in_lines_is_masked_too() {
        let secret: String = (0..200)
            .map(|at| char::from(b'a' + (at * 7 % 26) as u8))
            .collect();
        let redactor = redactor(&[&secret]);
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("user:{secret}"));
        for width in [64, 76] {
            let lines: Vec<&str> = encoded
                .as_bytes()
                .chunks(width)
                .map(|line| std::str::from_utf8(line).unwrap())
                .collect();
            let shown = redactor.text(&lines.join("\n"));
            for line in shown.lines().filter(|line| !line.is_empty()) {
                let visible = line.replace('*', "");
                assert!(visible.len() < 2 * WRAPPED_PIECE + 10, "{line}");
            }
        }
    }

    #[test]
    fn what_was_masked_in_part_stays_masked() {
        let redactor = redactor(&["abcdef", "defghi"]);
        for pieces in [
            &["abcdef", "g", "X"][..],
            &["abcdef", "", "gX"],
            &["abc", "def", "", "X"],
        ] {
            let mut stream = Stream::default();
            let mut shown = Vec::new();
            for piece in pieces {
                shown.extend_from_slice(
                    &stream.push(&redactor, Bytes::copy_from_slice(piece.as_bytes())),
                );
            }
            shown.extend_from_slice(&stream.finish(&redactor));
            let shown = String::from_utf8(shown).unwrap();
            assert!(
                shown.starts_with("***") && !shown.contains("def"),
                "{pieces:?}: {shown}"
            );
        }
    }

    #[test]
    fn lines_of_a_long_secret_are_masked_and_short_texts_are_not() {
        let redactor = redactor(&["-----BEGIN KEY-----\nMIIEvAIBADANBg\nshort\n", "abc"]);
        assert_eq!(redactor.text("the line MIIEvAIBADANBg"), "the line ***");
        assert_eq!(redactor.text("short abc"), "short abc");
    }

    #[test]
    fn values_are_hidden_together_up_to_a_limit() {
        let redactor = redactor(&["before"]);
        let line = |at: usize| format!("{:x}-{at:06}-{:x}", at * 7_919, at * 104_729);
        let values: Vec<String> = (0..500).map(line).collect();
        redactor.add_values(&values).unwrap();
        let told = format!("x {} y {} before", values[0], hex::encode(&values[499]));
        assert_eq!(redactor.text(&told), "x *** y *** ***");
        let large = vec!["l".repeat(1_024); MAX_VALUE_BYTES / 1_024 + 1];
        assert_eq!(redactor.add_values(&large), Err(TooMuch));
        // Those of earlier values count as well.
        let one_more = redactor.add_forms(forms("one more value"), 10_000);
        assert_eq!(one_more, Err(TooMuch));
        assert_eq!(redactor.text(&told), "x *** y *** ***");
    }

    #[test]
    fn the_largest_value_of_many_lines_is_hidden() {
        let line = |at: usize| format!("{:x}-{at:06}-{:x}", at * 7_919, at * 104_729);
        let mut text = String::new();
        for at in 0.. {
            if text.len() + 40 > MAX_VALUE_BYTES {
                break;
            }
            text.push_str(&format!("{}\n", line(at)));
        }
        let redactor = Redactor::default();
        redactor.add_values(std::slice::from_ref(&text)).unwrap();
        assert_eq!(redactor.text(&line(1_000)), "***");
    }

    #[test]
    fn long_runs_of_a_repeating_secret_are_bounded() {
        let redactor = redactor(&["aaaa"]);
        let shown = in_pieces(&redactor, &vec![b'a'; 100_000], 1000);
        assert!(
            shown
                .iter()
                .all(|byte| *byte != b'a' || shown.len() < 200_000)
        );
        assert!(!String::from_utf8_lossy(&shown).contains("aaaa"));
    }
}
