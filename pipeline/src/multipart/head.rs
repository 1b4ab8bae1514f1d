//! The header lines of a part, and the boundary in a body's media type.

use super::{Fault, PartHead};

/// Longest boundary: RFC 2046 says 70 characters, senders do not count.
const MAX_BOUNDARY_BYTES: usize = 200;

/// The boundary that a `Content-Type` names: `None` if the body is no `multipart/form-data`.
///
/// # Errors
/// [`Fault::Boundary`] if there is no usable one.
pub fn boundary(content_type: &str) -> Result<Option<String>, Fault> {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("multipart/form-data") {
        return Ok(None);
    }
    let found = parameter(content_type, "boundary").filter(|boundary| {
        (1..=MAX_BOUNDARY_BYTES).contains(&boundary.len())
            && boundary.bytes().all(|byte| (b' '..=b'~').contains(&byte))
            && !boundary.ends_with(' ')
    });
    found.map(Some).ok_or(Fault::Boundary)
}

/// Reads header lines, without the empty one behind them.
pub(super) fn read(lines: &[u8]) -> Result<PartHead, Fault> {
    let mut head = PartHead::default();
    // Names are UTF-8 in practice; what is not is shown as well as it can be.
    let text = String::from_utf8_lossy(lines);
    for line in text.split("\r\n").filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(Fault::Head)?;
        let name = name.trim_end();
        let is_token = |byte: u8| byte.is_ascii_graphic();
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(Fault::Head);
        }
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-disposition") {
            head.name = parameter(value, "name").unwrap_or_default();
            head.filename = parameter(value, "filename*")
                .and_then(|encoded| extended(&encoded))
                .or_else(|| parameter(value, "filename"));
        } else if name.eq_ignore_ascii_case("content-type") {
            head.content_type = value.to_owned();
        }
    }
    Ok(head)
}

/// A parameter behind the first `;`, unquoted. Within quotes only `\"` and `\\` are escapes: there are senders that put a
/// whole Windows path there.
fn parameter(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value.split_once(';')?.1;
    loop {
        let (name, after) = rest.split_once('=')?;
        let name = name.trim();
        let after = after.trim_start();
        let (found, behind) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim_end().to_owned(), &after[end..])
            }
        };
        // A parameter without a value stands before this one's name.
        let name = name.rsplit(';').next().unwrap_or(name).trim();
        if name.eq_ignore_ascii_case(wanted) {
            return Some(found);
        }
        rest = behind.split_once(';')?.1;
    }
}

/// The text up to the closing quote, and what is behind it.
fn unquoted(quoted: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut characters = quoted.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((text, &quoted[at + 1..])),
            '\\' => match characters.peek() {
                Some((_, next @ ('"' | '\\'))) => {
                    text.push(*next);
                    characters.next();
                }
                _ => text.push('\\'),
            },
            other => text.push(other),
        }
    }
    None
}

/// `UTF-8''na%C3%AFve.txt` (RFC 8187); other character sets are not read.
fn extended(encoded: &str) -> Option<String> {
    let (charset, rest) = encoded.split_once('\'')?;
    let (_language, escaped) = rest.split_once('\'')?;
    if !charset.eq_ignore_ascii_case("utf-8") {
        return None;
    }
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut left = escaped.bytes();
    while let Some(byte) = left.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (high, low) = (digit(left.next()?)?, digit(left.next()?)?);
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boundary_is_read_as_senders_write_it() {
        let of = |text| boundary(text);
        assert_eq!(of("application/json"), Ok(None));
        assert_eq!(of("multipart/mixed; boundary=a"), Ok(None));
        assert_eq!(
            of("Multipart/Form-Data; boundary=a'b"),
            Ok(Some("a'b".into()))
        );
        assert_eq!(
            of("multipart/form-data; charset=x; Boundary=\"a b\\\"c\""),
            Ok(Some("a b\"c".into()))
        );
        for wrong in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\"a",
            "multipart/form-data; boundary=ä",
        ] {
            assert_eq!(of(wrong), Err(Fault::Boundary), "{wrong}");
        }
    }

    #[test]
    fn names_are_what_the_sender_wrote_and_nothing_else() {
        let named = |line: &str| {
            let head = read(format!("Content-Disposition: form-data; {line}").as_bytes()).unwrap();
            (head.name, head.filename.unwrap_or_default())
        };
        let both = |name: &str, filename: &str| (name.to_owned(), filename.to_owned());
        assert_eq!(
            named(r#"name="a"; filename="../../x""#),
            both("a", "../../x")
        );
        assert_eq!(
            named(r#"filename="name=b; c"; name="a\"b""#),
            both("a\"b", "name=b; c")
        );
        assert_eq!(
            named(r#"name=a; filename="C:\dir\x.txt""#),
            both("a", r"C:\dir\x.txt")
        );
        assert_eq!(
            named("name=a; filename=x; filename*=UTF-8''na%C3%AFve"),
            both("a", "naïve")
        );
        assert_eq!(
            named("name=a; filename=x; filename*=latin1''%EF"),
            both("a", "x")
        );
        assert_eq!(named(r#"name="日本""#), both("日本", ""));
        assert_eq!(read(b"no header").err(), Some(Fault::Head));
    }
}
