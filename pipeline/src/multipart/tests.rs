//! Bodies of all kinds, cut into pieces at every place.

use super::*;
use sha2::{Digest, Sha256};

/// Parts with their heads, whatever pieces they came in.
fn read(body: &[u8], piece: usize) -> Result<Vec<(PartHead, Vec<u8>)>, Fault> {
    let mut parts: Vec<(PartHead, Vec<u8>)> = Vec::new();
    let mut ended = 0;
    let mut multipart = Multipart::new("b");
    for piece in body.chunks(piece.max(1)) {
        multipart.push(piece, &mut |event| match event {
            Event::Begin(head) => parts.push((head, Vec::new())),
            Event::Data(bytes) => parts.last_mut().unwrap().1.extend_from_slice(bytes),
            Event::End => ended += 1,
        })?;
    }
    multipart.finish()?;
    assert_eq!(ended, parts.len());
    Ok(parts)
}

fn part(head: &str, bytes: &[u8]) -> Vec<u8> {
    [b"--b\r\n", head.as_bytes(), b"\r\n", bytes, b"\r\n"].concat()
}

const NAMED: &str = "Content-Disposition: form-data; name=\"n\"\r\n";

#[test]
fn parts_are_the_same_however_the_body_is_cut() {
    let almost = b"\r\n--\r\n--a\r\r\n--\r\n-".as_slice();
    let body = [
        b"a preamble\r\n".to_vec(),
        part(NAMED, b""),
        part(NAMED, almost),
        part("", b"no head"),
        b"--b\r\nX: y\r\n\r\n--b\r\n\r\n--b\r\n\r\n\r\n".to_vec(),
        b"--b \t\r\n".to_vec(),
        NAMED.as_bytes().to_vec(),
        b"\r\npadding\r\n--b--\r\nan epilogue\r\n--b\r\n".to_vec(),
    ]
    .concat();
    let whole = read(&body, body.len()).unwrap();
    let bytes: Vec<&[u8]> = whole.iter().map(|(_, bytes)| bytes.as_slice()).collect();
    assert_eq!(
        bytes,
        [
            b"".as_slice(),
            almost,
            b"no head",
            b"",
            b"",
            b"",
            b"padding"
        ]
    );
    assert_eq!(whole[0].0.name, "n");
    for piece in 1..body.len() {
        assert_eq!(read(&body, piece).unwrap(), whole, "pieces of {piece}");
    }
}

#[test]
fn a_body_that_was_cut_off_anywhere_is_a_fault() {
    let body = [part(NAMED, b"one"), part(NAMED, b"two"), b"--b--".to_vec()].concat();
    assert_eq!(read(&body, 7).unwrap().len(), 2);
    for end in 1..body.len() {
        assert_eq!(read(&body[..end], 7), Err(Fault::Unterminated), "{end}");
    }
    assert_eq!(read(b"", 1), Ok(Vec::new()));
}

#[test]
fn heads_and_numbers_have_limits() {
    let many = |count: usize| {
        let mut body = part(NAMED, b"x").repeat(count);
        body.extend_from_slice(b"--b--\r\n");
        read(&body, 4096).map(|parts| parts.len())
    };
    assert_eq!(many(MAX_PARTS as usize), Ok(1000));
    assert_eq!(many(MAX_PARTS as usize + 1), Err(Fault::TooManyParts));
    let long = [b"--b\r\nX: ".to_vec(), vec![b'y'; MAX_PART_HEAD_BYTES * 64]].concat();
    for piece in [1000, long.len()] {
        assert_eq!(read(&long, piece), Err(Fault::HeadTooLarge));
    }
    assert_eq!(read(b"--bc\r\n\r\n\r\n--b--", 3), Err(Fault::BoundaryLine));
    let spaces = [b"--b".to_vec(), vec![b' '; 10_000]].concat();
    assert_eq!(read(&spaces, 100), Err(Fault::BoundaryLine));
}

#[test]
fn short_texts_are_fields_and_everything_else_is_a_file() {
    let named = |name: &str, filename: Option<&str>, bytes: &[u8]| {
        let filename = filename.map_or(String::new(), |name| format!("; filename=\"{name}\""));
        let head = format!("Content-Disposition: form-data; name=\"{name}\"{filename}\r\n");
        part(&head, bytes)
    };
    let long = vec![b'l'; MAX_FIELD_BYTES + 1];
    let body = [
        named("a", None, b"1"),
        named("f", Some("../../x"), b"file"),
        named("a", None, b"2"),
        named("binary", None, &[0xff, 0x00]),
        named("long", None, &long),
        named("f", Some(""), b""),
        b"--b--".to_vec(),
    ]
    .concat();
    let mut parts = Parts::new("b");
    for piece in body.chunks(1000) {
        parts.push(piece).unwrap();
    }
    let (fields, files) = parts.finish().unwrap();
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(fields, [field("a", "1"), field("a", "2")]);
    let told: Vec<_> = files
        .iter()
        .map(|file| {
            (
                file.index,
                file.name.as_str(),
                file.filename.as_deref(),
                file.size,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (1, "f", Some("../../x"), 4),
            (3, "binary", None, 2),
            (4, "long", None, long.len() as u64),
            (5, "f", Some(""), 0),
        ]
    );
    let digest: [u8; 32] = Sha256::digest(b"file").into();
    assert_eq!(files[0].sha256, digest);
}

#[test]
fn fields_that_are_too_much_together_are_files() {
    let fields = MAX_FORM_BYTES / MAX_FIELD_BYTES + 2;
    let mut body = part(NAMED, &vec![b'x'; MAX_FIELD_BYTES]).repeat(fields);
    body.extend_from_slice(b"--b--");
    let mut parts = Parts::new("b");
    parts.push(&body).unwrap();
    let (kept, files) = parts.finish().unwrap();
    let bytes: usize = kept
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    assert!(bytes <= MAX_FORM_BYTES);
    assert_eq!(kept.len() + files.len(), fields);
    assert!(!files.is_empty());
}
